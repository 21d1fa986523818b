"""The subcommand ``bench``: times training steps of a user's own sizes, beside other ways to compute the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from mannkern import backends
from mannkern.benchmark import against, contest, contestants
from mannkern.benchmark.harness import Report, Rows
from mannkern.benchmark.machine import processor_share, surroundings, write
from mannkern.benchmark.plot import name_of, save
from mannkern.benchmark.workloads import STANDARD, EpisodeSizes
from mannkern.commands.options import check_file, require
from mannkern.memories.core import CORES
from mannkern.memories.registry import FAMILIES
from mannkern.models.cores import with_memory
from mannkern.training.config import MOST_THREADS
from mannkern.training.errors import CommandError
from mannkern.training.processes import check_alone
from mannkern.training.sizes import available_bytes
from mannkern.training.tables import side_by_side
from mannkern.training.threads import BUSY

SIZES = {  # option, as of train -> letter, what it is
    "length": ("T", "time steps of an episode"),
    "input-size": ("F", "width of the input"),
    "hidden-size": ("D", "units of the controller"),
    "memory-slots": ("N", "slots of the memory"),
    "memory-width": ("W", "width of a slot"),
    "num-reads": ("R", "read heads; an NTM has one write head beside them"),
    "classes": ("C", "outputs of the linear layer"),
}


def add_bench(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench`` to the command line."""
    parser = subcommands.add_parser(
        "bench",
        help="time training steps of your own sizes",
        description="Times a training step (forward, cross entropy, backward) of a model at your own sizes, in "
        "float32: mannkern's backends, the reference in eager PyTorch, the same under torch.compile, and torch.nn.LSTM "
        "of the width that the controller sees. 'Eager, products' is a faster step than the reference, whose matrix "
        "products may round equal slots differently. The bound is the least time possible, from FLOPs or bytes; on "
        "a GPU it counts only the bytes that the memory's kernels move, and no arithmetic. What "
        "differs from the reference is not timed, and the exit code is then 1. On a GPU torch.nn.LSTM may take TF32, "
        "PyTorch's default for what cuDNN computes. Loops of small operations that would "
        "not fit into memory are timed on fewer episodes. Run it on a machine that does nothing else.",
    )
    parser.add_argument("--model", default="mann", metavar="NAME", help="mann, ntm or another memory (default: mann)")
    parser.add_argument(
        "--batch-size", type=int, nargs="+", default=[256], metavar="B", help="episodes at a time (default: 256)"
    )
    for option, (letter, about) in SIZES.items():
        default = getattr(STANDARD, letter)
        parser.add_argument(
            f"--{option}", type=int, default=default, metavar=letter, help=f"{about} (default: {default})"
        )
    parser.add_argument("--forward", action="store_true", help="time the forward pass alone, without gradients")
    parser.add_argument("--threads", type=int, nargs="+", metavar="COUNT", help="threads (default: torch's number)")
    parser.add_argument("--device", default="cpu", help="device, such as cuda (default: cpu)")
    parser.add_argument("--backend", help="the only backend of mannkern to time (default: all that run here)")
    parser.add_argument("--repeats", type=int, default=5, metavar="COUNT", help="rounds of a median (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file that the results are written to")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="file that a picture is written to (PNG, SVG, PDF)")
    parser.add_argument(
        "--against", metavar="REV", help="in a clone: time mannkern at this commit and as it is here, in turn"
    )
    parser.set_defaults(function=run_bench)


def run_bench(args: argparse.Namespace) -> int:
    """Check, time, print, and return 1 where something differs from the reference."""
    check_alone("bench")
    threads = args.threads or [torch.get_num_threads()]
    sizes = EpisodeSizes(**{letter: _given(args, option) for option, (letter, _) in SIZES.items()})
    device = _check(args, sizes, threads)
    backend = None if args.backend == "auto" else args.backend
    share = processor_share() if device.type == "cpu" else 1.0
    if share < BUSY:
        busy = f"this machine is busy: a thread gets {share:.0%} of a processor, so the times are too long"
        print(f"warning: {busy}", file=sys.stderr, flush=True)
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():  # of the streams, events and kernels
        if args.against is not None:
            settings = against.Settings(args.model, sizes, str(device), backend, not args.forward)
            return _run_against(args, settings, threads)
        before = torch.get_num_threads()
        report = Report("bench", args.repeats, str(device), show=_show, file=args.json)
        try:
            contest.run(report, args.model, sizes, args.batch_size, threads, backend, not args.forward)
        finally:
            torch.set_num_threads(before)
    if args.plot and report.rows:
        save(report.rows, args.plot)
        print(f"\n{args.plot}")
    return report.write()


def _run_against(args: argparse.Namespace, settings: against.Settings, threads: Sequence[int]) -> int:
    content = {"benchmark": "against", **surroundings()}
    content["settings"] = settings._asdict() | {"sizes": settings.sizes._asdict()}
    rows: Rows = []
    for row in against.run(args.against, settings, args.batch_size, threads, args.repeats):
        rows.append(row)
        _show_against(row, settings, args.repeats)
        if args.json:
            write(args.json, {**content, "rows": rows, "unfinished": True})
    if args.json:
        write(args.json, {**content, "rows": rows})
        print(f"\nwritten: {args.json}")
    return int(any(row["wrong"] for row in rows))


def _show_against(row: dict[str, Any], settings: against.Settings, repeats: int) -> None:
    threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
    title = f"{settings.model}, {_sizes_text({'B': row['B'], **settings.sizes._asdict()})}, {threads}"
    if row["wrong"]:
        print(f"{title}: not timed. {' and '.join(row['wrong'])} differs from the reference: {row['errors']}")
        return
    _, now = row["seconds"].values()
    lines = [[name, f"{1e6 * seconds / row['B']:,.1f}", f"{row['B'] / seconds:,.0f}", f"{seconds / now:.2f}"]
             for name, seconds in row["seconds"].items()]  # fmt: skip
    _print_table(title, ["", "us/episode", "episodes/s", "time / here"], lines)
    print(f"In turn, the median of {repeats} rounds: {row['ratio']:.3f} times the time of the files here.")
    if not row["same_results"]:
        print("The two do not compute the same numbers, so their times may not compare.")


def _print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("\n".join(["", title, *side_by_side(list(zip(head, *rows, strict=True)), left=1)]), flush=True)


def _sizes_text(sizes: dict[str, Any]) -> str:
    return ", ".join(f"{letter} = {sizes[letter]:,}" for letter in "BTFDNWR")


def _show(where: dict[str, Any], rows: Rows, bases: Sequence[str]) -> None:
    """The rows of a configuration as a table: the time of each as a multiple of mannkern's, and of the bound."""
    what = "training step" if where["gradient"] else "forward pass"
    threads = "" if where["device"] != "cpu" else f", {where['threads']} thread{'s' * (where['threads'] > 1)}"
    title = f"{where['model']}, {what} on {where['device']}{threads}: {_sizes_text(where)}"
    bound = next((row["episodes_per_second"] for row in rows if row["name"] == "bound"), None)
    (base,) = bases
    lines = []
    for row in rows:
        rate, name = row["episodes_per_second"], name_of(row["name"])
        ratio = row["ratio_to"].get(base)
        lines.append(
            [
                name if row["B"] == where["batch"] else f"{name}, B = {row['B']:,}",
                f"{1e6 / rate:,.1f}",
                f"{rate:,.0f}",
                "" if ratio is None else f"{ratio:.2f}",
                "" if bound is None else f"{rate / bound:.1%}",
            ]
        )
    _print_table(title, ["", "us/episode", "episodes/s", f"time / {name_of(base)}", "of the bound"], lines)


def _check(args: argparse.Namespace, sizes: EpisodeSizes, threads: Sequence[int]) -> torch.device:
    """The device. Raises ``CommandError`` for what cannot be timed, before anything is built or written."""
    models = [name for name in with_memory() if CORES[name].family in FAMILIES]
    if args.model not in models:
        raise CommandError(f"--model: got {args.model}, need one of {', '.join(models)}")
    check_counts([(option, _given(args, option)) for option in (*SIZES, "repeats")])
    check_counts([("batch-size", B) for B in args.batch_size] + [("threads", count) for count in threads])
    for option, file in (("json", args.json), ("plot", args.plot)):
        check_file(option, file)
    if args.plot is not None and args.against is not None:
        raise CommandError(f"--plot: got {args.plot} with --against, which draws no picture, need one of the two")
    if args.plot is not None:
        require(("matplotlib",))
        if args.plot.suffix not in (".png", ".svg", ".pdf"):
            raise CommandError(f"--plot: got {args.plot}, need a name that ends in .png, .svg or .pdf")
    try:
        device = torch.device(args.device)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("holds no numbers, so that nothing can be compared")
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise CommandError(f"--device {args.device}: {str(error).splitlines()[0]}") from None
    _check_backend(args.model, args.backend, device, sizes)
    _check_memory(max(args.batch_size), sizes, device)
    return torch.device("cpu") if device.type == "cpu" else device


def check_counts(counts: Sequence[tuple[str, int]]) -> None:
    """Raises ``CommandError`` for the first of several options that cannot be its count."""
    for option, count in counts:
        if count < 1:
            raise CommandError(f"--{option}: got {count}, need at least 1")
        if option == "threads" and count > MOST_THREADS:
            raise CommandError(f"--threads: got {count}, need at most {MOST_THREADS}")


def _given(args: argparse.Namespace, option: str) -> int:
    count: int = getattr(args, option.replace("-", "_"))
    return count


def _check_backend(model: str, backend: str | None, device: torch.device, sizes: EpisodeSizes) -> None:
    if backend in (None, "auto"):
        return
    family = FAMILIES[CORES[model].family or ""]
    operation = family.cell.episode_operation
    try:
        backends.choose(family.name, backend, device, sizes.N, sizes.W, sizes.R, operation, D=sizes.D)
    except (RuntimeError, ValueError) as error:
        raise CommandError(f"--{error}") from None
    names = [entrant.name for entrant in contestants.of(model, device.type)]
    if backend not in names:
        raise CommandError(f"--backend: got {backend}, need one of {', '.join(names)}")


def _check_memory(B: int, sizes: EpisodeSizes, device: torch.device) -> None:
    """From below: the inputs of the model and of nn.LSTM, two memories, and the parameters of both with gradients."""
    numbers = sizes.T * B * (2 * sizes.F + sizes.R * sizes.W) + 2 * B * sizes.N * sizes.W
    numbers += 4 * sizes.D * (4 * (sizes.F + sizes.R * sizes.W + sizes.D) + sizes.C)
    available = available_bytes(device)
    *others, last = SIZES
    if 4 * numbers > available:
        raise CommandError(
            f"needs at least {4e-9 * numbers:,.1f} GB for inputs, memories and parameters, and {available / 1e9:,.1f} "
            f"GB are available; lower --batch-size, --{', --'.join(others)} or --{last}"
        )
