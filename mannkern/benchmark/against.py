"""``bench --against``: another commit of a clone and the files as they are now, timed in turn in two processes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from mannkern.benchmark import machine, turn
from mannkern.benchmark.workloads import EpisodeSizes
from mannkern.training.errors import CommandError

TREES = Path("build", "against")
FILES = ("mannkern", "csrc", "setup.py", "pyproject.toml", "README.md", "LICENSE")
MODELS = ("mann", "ntm")  # public names that every commit has


class Settings(NamedTuple):
    """What is timed: the model and its sizes, without a batch size and threads."""

    model: str
    sizes: EpisodeSizes
    device: str
    backend: str | None
    gradient: bool


def run(
    revision: str, settings: Settings, batches: Sequence[int], threads: Sequence[int], repeats: int
) -> Iterator[dict[str, Any]]:
    """A row with the seconds of both sides at each batch size and number of threads, until one side is wrong.

    Raises ``CommandError`` where this is no clone, the commit is unknown, or one side cannot run.
    """
    if settings.model not in MODELS:
        raise CommandError(f"--model: got {settings.model}, need one of {', '.join(MODELS)} with --against")
    commit = find_commit(revision)
    sides = {commit[:12]: prepare(commit), "here": machine.ROOT}
    for B, count in itertools.product(batches, threads):
        request = settings._asdict() | {"sizes": settings.sizes._asdict(), "B": B, "threads": count}
        row = _in_turn(sides, request, repeats)
        yield {"commit": commit, "B": B, "threads": count, **row}
        if row["wrong"]:
            return


def find_commit(revision: str) -> str:
    """The full name of a commit of the clone that this package is in."""
    if not machine.is_clone():
        raise CommandError(f"--against: {machine.ROOT} is no clone of mannkern's repository; it needs one")
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode:
        raise CommandError(f"--against: got {revision}, need a commit of {machine.ROOT}")
    return done.stdout.strip()


def prepare(commit: str) -> Path:
    """The files of a commit in build/against, with compiled libraries; those of before are kept."""
    tree = machine.ROOT / TREES / commit
    if (tree / ".ready").exists():
        return tree
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    archive = tree / "files.tar"
    taken = _git("archive", f"--output={archive}", commit, *FILES)
    if taken.returncode or subprocess.run(["tar", "-x", "-f", str(archive), "-C", str(tree)]).returncode:
        raise CommandError(f"--against: the files of {commit[:12]} could not be taken out of the repository")
    libraries = list((machine.ROOT / "mannkern").glob("_C*.so"))
    if libraries and _git("diff", "--quiet", commit, "--", "csrc", "setup.py").returncode == 0:
        for library in libraries:
            shutil.copy2(library, tree / "mannkern")
    else:
        print(f"compiling {commit[:12]}, which takes minutes", flush=True)
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
        done = subprocess.run(
            command, cwd=tree, env=os.environ | {"MANNKERN_FORCE_BUILD": "1"}, capture_output=True, text=True
        )
        if done.returncode:
            raise CommandError(f"--against: {commit[:12]} does not compile: {(done.stderr.splitlines() or ['-'])[-1]}")
    (tree / ".ready").touch()
    return tree


def _in_turn(sides: dict[str, Path], request: dict[str, Any], repeats: int) -> dict[str, Any]:
    with ExitStack() as stack:
        both = {name: stack.enter_context(_Side(name, tree, request)) for name, tree in sides.items()}
        checks = {name: side.answer() for name, side in both.items()}
        wrong = [name for name, check in checks.items() if not check["good"]]
        row: dict[str, Any] = {"errors": {name: check["error"] for name, check in checks.items()}, "wrong": wrong}
        if wrong:
            return row
        old, new = (check["norms"] for check in checks.values())
        row["same_results"] = len(old) == len(new) and all(abs(x - y) <= 1e-6 * abs(x) for x, y in zip(old, new))
        samples: dict[str, list[float]] = {name: [] for name in both}
        order = list(both)
        for _ in range(repeats):
            for name in order:
                samples[name].append(both[name].time())
            order.reverse()
    then, now = samples.values()
    return row | {
        "samples": samples,
        "seconds": {name: statistics.median(several) for name, several in samples.items()},
        "ratio": statistics.median(x / y for x, y in zip(then, now)),
    }


class _Side:
    """A process that times the mannkern of ``tree``."""

    def __init__(self, name: str, tree: Path, request: dict[str, Any]) -> None:
        self.name = name
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        code = Path(turn.__file__).read_text(encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tree,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._send(json.dumps(request))

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def _send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """The next line of the process."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            errors = self.process.communicate()[1].strip().splitlines() or ["-"]
            raise CommandError(f"--against: {self.name} cannot run: {errors[-1]}")
        return json.loads(line)

    def time(self) -> float:
        """Seconds of a call."""
        self._send("again")
        return float(self.answer())


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=machine.ROOT, capture_output=True, text=True)
