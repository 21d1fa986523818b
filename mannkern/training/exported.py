"""A trained model in one file: its parameters as safetensors, its settings in the metadata, and a checksum of both."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mannkern.files import read_bounded, write_atomically
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError

SUFFIX = ".safetensors"
PACKAGE = Path(__file__).parents[1] / "trained"  # the models that come with mannkern
FORMAT = "mannkern-1"
MOST_BYTES = 1 << 31  # of a file, which is read at once
PLACE: dict[str, Any] = {  # settings of the machine, which a file for others does not keep
    "data": None,
    "device": "cpu",
    "threads": None,
    "backend": None,
}


def trained_models() -> dict[str, Path]:
    """The models that come with mannkern: names and files."""
    return {path.stem: path for path in sorted(PACKAGE.glob(f"*{SUFFIX}"))}


def find_model(run_or_name: str | Path) -> Path:
    """The folder of a run, a file that ``export`` wrote, or the file of a model that comes with mannkern.

    A folder or file of that path comes before a name. Raises ``CommandError`` where there is none of them.
    """
    path, models = Path(run_or_name), trained_models()
    if path.exists():
        return path
    if str(run_or_name) in models:
        return models[str(run_or_name)]
    known = ", ".join(models) or "none yet"
    raise CommandError(
        f"no run and no model at {run_or_name}: need the folder of a run, a file of {SUFFIX}, or a name of a model "
        f"that comes with mannkern ({known})"
    )


def is_exported(path: Path) -> bool:
    """Whether ``path`` is meant as such a file, and not as the folder of a run."""
    return path.suffix == SUFFIX and not path.is_dir()


def write_exported(path: Path, parameters: Mapping[str, Tensor], config: RunConfig, step: int) -> None:
    """Write a trained model to ``path``, atomically. Raises ``CommandError`` where safetensors is not installed."""
    save = _package().save
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in parameters.items()}
    values = config.to_dict()
    settings = json.dumps(values | {name: value for name, value in PLACE.items() if name in values}, sort_keys=True)
    metadata = {"format": FORMAT, "settings": settings, "step": str(step)}
    metadata["sha256"] = _checksum(*_parts(save(tensors, metadata)))
    content = save(tensors, metadata)
    write_atomically(path, lambda file: file.write(content))


def exported_settings(path: Path) -> dict[str, Any]:
    """The settings in the file ``path``. Raises ``CommandError`` where it is damaged or another file."""
    return _read(path)[0]


def exported_state(path: Path) -> dict[str, Any]:
    """``model`` (parameters by name) and ``step`` of the file ``path``, like a checkpoint's. Raises as above.

    It runs no code from the file, and safetensors itself checks names, shapes and places of the parameters.
    """
    _, step, content = _read(path)
    load = _package().load
    try:
        return {"model": load(content), "step": step}
    except Exception as error:  # the package has an error of its own for a bad header
        raise _refused(path, str(error)) from None


def _read(path: Path) -> tuple[dict[str, Any], int, bytes]:
    """Settings, step and the whole content, after the checksum was verified."""
    try:
        content = read_bounded(path, MOST_BYTES)
        header, data = _parts(content)
        metadata = header["__metadata__"]
        settings, step = json.loads(metadata["settings"]), int(metadata["step"])
        if metadata["format"] != FORMAT or not isinstance(settings, dict) or step < 0:
            raise ValueError("its metadata are of another kind")
        if metadata.pop("sha256") != _checksum(header, data):
            raise ValueError("its checksum is another one")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise _refused(path, reason) from None
    return settings, step, content


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of the format, and the bytes of the parameters."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _checksum(header: dict[str, Any], data: bytes) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + data).hexdigest()


def _refused(path: Path, reason: str) -> CommandError:
    line = (reason.splitlines() or ["?"])[0]
    return CommandError(f"{path}: got damaged content or another file ({line}), need what export wrote")


def _package() -> Any:
    try:
        return importlib.import_module("safetensors.torch")  # an extra: mannkern itself needs torch alone
    except ImportError as error:
        raise CommandError("a file of a trained model needs safetensors: pip install safetensors") from error
