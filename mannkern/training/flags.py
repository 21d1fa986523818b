"""The options of the command line under which its user knows the settings."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING

from mannkern.training.errors import CommandError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ARGUMENTS = {"classes_per_episode": "classes", "num_read_heads": "num_reads", "num_write_heads": "num_writes"}
"""Arguments of modules and samplers that have another name than the setting they come from."""


def flag(name: str) -> str:
    """``--memory-slots`` for the setting ``memory_slots``."""
    return "--" + name.replace("_", "-")


def command_error(error: ValueError, settings: DataclassInstance | type[DataclassInstance]) -> CommandError:
    """The ``error`` of a module or sampler, with the options of the ``settings`` in place of its arguments."""
    names = {entry.name: entry.name for entry in fields(settings)}
    names |= {name: setting for name, setting in ARGUMENTS.items() if setting in names}

    def option(match: re.Match[str]) -> str:
        return flag(names[match[0]]) if match[0] in names else match[0]

    # the argument that begins the message, and the names further on that are no words of English
    return CommandError(re.sub(r"^\w+(?=:)|(?<!-)\b[a-z]+_\w+", option, str(error)))
