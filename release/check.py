"""``make release-check``: the wheel in fresh environments, for every Python and PyTorch that there is.

An environment has the wheel, its PyTorch and nothing of this clone. In an empty folder ``verify`` must find all rows
right, on the compiled library. By default only CPU builds of PyTorch are installed, because a CUDA build takes 6 GB:
``--index`` names a package index that has CPU builds, and ``--any-build`` takes whatever the usual index gives.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
CODE = """
import json, mannkern, torch
from mannkern.backends import native
print(json.dumps([mannkern.__file__, mannkern.__version__, torch.__version__, native.reason, native.isa()]))
"""


class Outcome(NamedTuple):
    """What an environment showed; ``text`` says why it was left out or what is wrong."""

    python: str
    torch: str
    verdict: str  # "right", "WRONG" or "left out"
    text: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"Python {self.python}, torch {self.torch}: {self.verdict}: {self.text}, {self.seconds:.0f} s"


def pythons(names: Sequence[str]) -> dict[str, str]:
    """The Pythons of this machine by version; pyenv's too."""
    homes = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin"))
    found = {}
    for name in names:
        path = os.pathsep.join([*(str(home) for home in homes), os.environ.get("PATH", "")])
        program = shutil.which(f"python{name}", path=path)
        if program and subprocess.run([program, "-c", ""], capture_output=True).returncode == 0:
            found[name] = program
    return found


def chosen_torch(python: str, version: str, index: list[str]) -> tuple[str, bool]:
    """The version of torch that pip would install, and whether it is a CPU build; "" where pip has none."""
    wanted = "torch" if version == "newest" else f"torch=={version}"
    command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
    done = subprocess.run([*command, *index, "--report", "-", wanted], capture_output=True, text=True)
    if done.returncode:
        return "", False
    (item,) = json.loads(done.stdout)["install"]
    name = item["metadata"]["version"]
    needs = " ".join(item["metadata"].get("requires_dist", []))
    return name, "+cpu" in name or not any(word in needs for word in ("nvidia", "cuda"))


def install_torch(run: str, torch: str, index: list[str], downloads: Path) -> tuple[tuple[str, ...], ...]:
    """The commands that install a version of torch for the Python ``run``; ``downloads`` keeps what was fetched."""
    pip, version = (run, "-m", "pip"), f"torch=={torch}"
    return (
        (*pip, "download", "--quiet", "--no-cache-dir", "--dest", str(downloads), *index, version),
        (*pip, "install", "--quiet", "--no-compile", "--no-index", "--find-links", str(downloads), version),
    )


def check(python: str, name: str, torch: str, wheel: Path, index: list[str], folder: Path, downloads: Path) -> Outcome:
    """Install torch and the wheel into a fresh environment in ``folder`` and verify there."""
    begin = time.monotonic()
    environment, empty = folder / "environment", folder / "empty"
    empty.mkdir(parents=True)
    run = str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")
    clean = {k: x for k, x in os.environ.items() if not k.startswith(("PYTHON", "MANNKERN", "VIRTUAL"))}
    clean["XDG_CACHE_HOME"] = str(folder / "cache")

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=empty, env=clean, capture_output=True, text=True)

    def outcome(verdict: str, text: str) -> Outcome:
        return Outcome(name, torch, verdict, text, time.monotonic() - begin)

    steps = (
        (python, "-m", "venv", str(environment)),
        *install_torch(run, torch, index, downloads),
        (run, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-deps", str(wheel)),
    )
    for command in steps:
        done = call(*command)
        if done.returncode:
            return outcome("WRONG", f"{' '.join(command[1:4])}: {_last_line(done.stderr)}")
    done = call(run, "-W", "ignore", "-c", CODE)
    if done.returncode:
        return outcome("WRONG", _last_line(done.stderr))
    file, version, _, reason, isa = json.loads(done.stdout)
    if reason or not Path(file).is_relative_to(environment.resolve()):
        return outcome("WRONG", reason or f"{file} was imported")
    done = call(run, "-W", "ignore", "-m", "mannkern", "verify")
    rows = next((line for line in done.stdout.splitlines() if "rows are right" in line), _last_line(done.stderr))
    return outcome("WRONG" if done.returncode else "right", f"mannkern {version} ({isa}): {rows}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["-"])[-1]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="the wheel (default: that of dist/)")
    parser.add_argument("--pythons", nargs="+", default=PYTHONS, metavar="VERSION", help="those of them that exist")
    parser.add_argument("--torches", nargs="+", default=["2.10.0", "newest"], metavar="VERSION", help="of PyTorch")
    parser.add_argument("--index", default="", help="package index with CPU builds of PyTorch")
    parser.add_argument("--any-build", action="store_true", help="install a CUDA build where there is no CPU build")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    wheel = (options.wheel or next(iter(sorted((ROOT / "dist").glob("*.whl"))), Path("missing"))).resolve()
    if not wheel.exists():
        print("release-check: no wheel in dist/; make wheel")
        return 2
    index = ["--index-url", options.index] if options.index else []
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="mannkern-downloads-") as downloads:  # most of CUDA's serve every Python
        for name, python in pythons(options.pythons).items():
            done = set()
            for torch in options.torches:
                version, is_cpu = chosen_torch(python, torch, index)
                if version in done:
                    continue
                done.add(version)
                if not version:
                    outcome = Outcome(name, torch, "left out", "pip has no such version for this Python")
                elif not is_cpu and not options.any_build:
                    outcome = Outcome(name, version, "left out", "pip has only its CUDA build; --index, --any-build")
                else:
                    with tempfile.TemporaryDirectory(prefix="mannkern-release-") as folder:
                        outcome = check(python, name, version, wheel, index, Path(folder), Path(downloads))
                outcomes.append(outcome)
                print(outcome, flush=True)
    right = [x for x in outcomes if x.verdict == "right"]
    wrong = [x for x in outcomes if x.verdict == "WRONG"]
    print(f"{wheel.name}: {len(right)} environments are right, {len(wrong)} wrong, "
          f"{len(outcomes) - len(right) - len(wrong)} left out")  # fmt: skip
    return int(bool(wrong) or not right)


if __name__ == "__main__":
    sys.exit(main())
