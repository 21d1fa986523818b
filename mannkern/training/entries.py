"""The files and folders that a run writes into its folder, and what may stand at their names: never a link."""

from __future__ import annotations

import shutil
from pathlib import Path

from mannkern.files import TEMPORARY
from mannkern.training.checkpoint import CHECKPOINT, CONFIG, PREVIOUS
from mannkern.training.drawing import PICTURES
from mannkern.training.errors import CommandError
from mannkern.training.events import EVENTS
from mannkern.training.lock import LOCK
from mannkern.training.metrics import DAMAGED, METRICS
from mannkern.training.tables import EVALUATION

FOLDERS = (EVENTS, PICTURES)
FILES = (CHECKPOINT, PREVIOUS, METRICS, DAMAGED, EVALUATION, LOCK, CONFIG)  # the settings last, see delete_entries


def check_entries(run: Path, *folders: str, links: bool = False) -> None:
    """Raises ``CommandError`` where one of the run's names is taken by something that a run does not write.

    folders: names of further folders of this run; links: whether links may stand there, because they will be deleted
    """
    for name in (*FOLDERS, *FILES, *folders):
        path = run / name
        if path.is_symlink():
            if not links:
                raise CommandError(f"{path} is a link, which a run does not follow; remove it, or choose another --run")
        elif path.exists() and not (path.is_file() if name in FILES else path.is_dir()):
            need = "file" if name in FILES else "folder"
            raise CommandError(f"{path} is no {need}; remove it, or choose another --run")


def delete_entries(run: Path) -> None:
    """Delete what a run writes and nothing else in its folder; the settings last, so that a kill can be repeated.

    Of a link the link is deleted, and never what it points to.
    """
    for name in FOLDERS:
        if (run / name).is_symlink():
            (run / name).unlink()
        elif (run / name).exists():
            shutil.rmtree(run / name)
    delete_leftovers(run)
    for name in FILES:
        if name != LOCK:
            (run / name).unlink(missing_ok=True)


def delete_leftovers(run: Path) -> None:
    """Delete the ``leftovers``. The run has to be locked: another process may be writing them."""
    for path in leftovers(run):
        path.unlink(missing_ok=True)


def leftovers(run: Path) -> list[Path]:
    """Temporary files of the run's own names, which a kill left behind."""
    return [path for name in FILES for path in run.glob(f"{name}.*{TEMPORARY}")]


def holds_anything(run: Path) -> bool:
    """Whether ``run`` is a folder with anything in it but the leftovers of a kill."""
    nothing = {*leftovers(run), run / LOCK} if run.is_dir() else set()
    return run.is_dir() and any(path not in nothing for path in run.iterdir())
