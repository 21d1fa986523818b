"""The subcommand ``export``: writes a trained model and its settings into one file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mannkern.experiments.registry import kind_of, load_config
from mannkern.training.again import resume
from mannkern.training.checkpoint import CHECKPOINT, load_checkpoint
from mannkern.training.errors import CommandError
from mannkern.training.exported import SUFFIX, write_exported
from mannkern.training.processes import check_alone
from mannkern.training.restore import restored


def add_export(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export`` to the command line."""
    parser = subcommands.add_parser(
        "export",
        help="write a trained model and its settings into one file",
        description="Writes the parameters and the settings of a run into one file, without the state of the "
        "optimizer. mannkern.load reads it, and evaluate measures it. Needs the package safetensors.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("file", type=Path, metavar="FILE", help=f"the file to write; its name ends in {SUFFIX}")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.set_defaults(function=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Write the file and print its path."""
    check_alone("export")
    path: Path = args.file
    if path.suffix != SUFFIX:
        raise CommandError(f"FILE: got {path}, need a name that ends in {SUFFIX}")
    if os.path.lexists(path) and not (args.overwrite and path.is_file() and not path.is_symlink()):
        raise CommandError(f"FILE: {path} is there already; --overwrite replaces a file")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"FILE: {path.absolute().parent} is no folder")
    config = load_config(args.run)
    checkpoint = load_checkpoint(args.run)
    if checkpoint is None:
        raise CommandError(f"{args.run / CHECKPOINT}: no such file; train it: {resume(args.run)}")
    restored(args.run, checkpoint, lambda: kind_of(config.task).make_model(config))  # only to know that it fits
    write_exported(path, checkpoint["model"], config, checkpoint["step"])
    print(
        f"{path}: {config.model.upper()} on {config.task}, step {checkpoint['step']:,}, {path.stat().st_size:,} bytes"
    )
    return 0
