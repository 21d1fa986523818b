"""The subcommand ``verify``: checks every kernel of this machine against the reference."""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import torch

import mannkern
from mannkern.backends.info import backend_info
from mannkern.commands.options import check_file
from mannkern.files import write_json
from mannkern.training.config import MOST_THREADS
from mannkern.training.errors import CommandError
from mannkern.training.processes import check_alone
from mannkern.training.tables import is_rich
from mannkern.verification.plan import has_run_before, plan, remember
from mannkern.verification.verify import Row, available_backends, verify

COLUMNS = f"{'operation':18}{'backend':11}{'device':8}{'dtype':11}{'worst error':>12}{'allowed':>10}{'seconds':>9}  "


def add_verify(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``verify`` to the command line."""
    parser = subcommands.add_parser(
        "verify",
        help="check every kernel on this machine against the reference",
        description="Checks outputs and gradients of every operation on every backend of this machine against the "
        "float64 reference. A float32 result may have 4 times the error of the float32 reference + 1e-6, a float64 "
        "result an error of 1e-12. In the rows of gradcheck, the worst error is the number of cases that fail. Exits "
        "with 1 if a row is wrong. On a machine's first use it says before what it runs.",
    )
    parser.add_argument("--seed", type=int, help="seed of the random inputs (default: a new one, which is printed)")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="COUNT",
        help="threads (default: 1, quickest on a busy machine)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    parser.add_argument("--list", action="store_true", help="only say what would be run, and stop")
    parser.set_defaults(function=run_verify)


def run_verify(args: argparse.Namespace) -> int:
    """Verify, print the table, and return 1 where something is wrong or nothing could be verified."""
    check_alone("verify")
    if not 1 <= args.threads <= MOST_THREADS:
        raise CommandError(f"--threads: got {args.threads}, need 1 to {MOST_THREADS}")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        raise CommandError(f"--seed: got {args.seed}, need 0 to 2**32 - 1")
    check_file("json", args.json)
    seed = int.from_bytes(os.urandom(4), "little") if args.seed is None else args.seed
    device_types = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    machine = f"mannkern {mannkern.__version__}, torch {torch.__version__}, {_machine()}"
    if args.list:
        print(f"{machine}\n\n{plan(device_types)}")
        return 0
    print(f"{machine}; --seed {seed}\n")
    if not has_run_before(machine):
        print(f"The first use on this machine. What runs now (`--list` only says it):\n\n{plan(device_types)}\n")
    _print_styled(COLUMNS, "bold")
    begin = time.perf_counter()
    rows = []
    for backend, device in available_backends(device_types):
        for row in verify(backend, device, seed, args.threads):
            rows.append(row)
            _print_styled(_line(row), "" if row.good else "bold red")
    if rows:
        remember(machine)
    missing = backend_info().missing
    for backend, reason in missing.items():
        print(f"{backend}: absent: {reason}")
    wrong = [row for row in rows if not row.good]
    verdict = f"{len(rows) - len(wrong)} of {len(rows)} rows are right" if rows else "nothing to verify on this machine"
    print(f"\n{verdict}, {time.perf_counter() - begin:.0f} s")
    if args.json:
        content = {
            "seed": seed,
            "versions": {"mannkern": mannkern.__version__, "torch": torch.__version__},
            "machine": _machine(),
            "absent": missing,
            "rows": [row._asdict() | {"good": row.good} for row in rows],
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, content)
    return int(bool(wrong) or not rows)


def _print_styled(line: str, style: str) -> None:
    """Print a line, in a style where rich draws on a terminal. Rows come one by one, so they are no table of rich's."""
    if style and is_rich():
        from rich.console import Console  # an extra
        from rich.text import Text

        Console(soft_wrap=True).print(Text(line, style))
    else:
        print(line, flush=True)


def _line(row: Row) -> str:
    figures = f"{row.error:12.1e}{row.allowed:10.1e}{row.seconds:9.1f}"
    verdict = "" if row.good else "  WRONG: "
    where = row.where if row.error else ""
    return f"{row.operation:18}{row.backend:11}{row.device:8}{row.dtype:11}{figures}  {verdict}{where}".rstrip()


def _machine() -> str:
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}{gpu}"
