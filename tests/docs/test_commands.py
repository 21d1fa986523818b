"""The options that the documents name are options of the commands."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from bench import gpu
from bench.science import __main__ as science
from mannkern.__main__ import main
from tests.docs.markdown import files, text
from tests.ptx import proof

TASKS = (
    "omniglot",
    "copy",
    "repeat-copy",
    "ngrams",
    "priority-sort",
    "few-shot-omniglot",
    "sinusoids",
    "gaussian-processes",
    "autoencoder-omniglot",
    "images",
    "zero-shot-omniglot",
    "families-omniglot",
    "few-shot-images",
)
OTHERS = {
    "--no-build-isolation",  # of pip
    "--slope",  # of the task that docs/your-own-task.md makes
    *("--nproc", "--nnodes", "--max-restarts", "--rdzv"),  # of torchrun, up to their first underscore
    *("--nodes", "--ntasks-per-node", "--gpus-per-node", "--cpus-per-task", "--signal", "--requeue"),  # of SLURM
}
PAGES = [path for path in files() if path.parts[0] != "bench" and path.name != "CHANGELOG.md"]


def options(markdown: str) -> set[str]:
    """Every ``--option`` in code and in prose; ``ruff --fix`` is none of ours."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*(?<!-)", re.sub(r"ruff --fix", "", markdown))) - OTHERS


def test_options_by_hand() -> None:
    page = "`train --model lstm` and\n    pip install --no-build-isolation .\n<!-- tables -->\n|---|---|\n--lr 1e-3"
    assert options(page) == {"--model", "--lr"}


@cache
def known() -> frozenset[str]:
    """The options of every command, from its --help."""
    printed = io.StringIO()
    for command in [["train", task] for task in TASKS] + [["evaluate"], ["export"], ["table"], ["verify"], ["bench"]]:
        with redirect_stdout(printed), pytest.raises(SystemExit):
            main([*command, "--help"])
    with redirect_stdout(printed), pytest.raises(SystemExit):
        gpu.arguments(["--help"])
    with redirect_stdout(printed), pytest.raises(SystemExit):
        science.arguments(["--help"])
    with redirect_stdout(printed), pytest.raises(SystemExit):
        proof.main(["--help"])
    return frozenset(options(printed.getvalue()))


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_options_of_the_documents_exist(path: Path) -> None:
    unknown = options(text(path)) - known()
    assert not unknown, f"{path} names options that no command has: {sorted(unknown)}"
