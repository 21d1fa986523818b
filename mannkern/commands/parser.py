"""The parser of the command line, which refuses mistakes in one line as the commands do."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from mannkern.training.errors import CommandError

TYPES = {"int": "an integer", "float": "a number", "number_or_name": "a number or a name"}


class Parser(argparse.ArgumentParser):
    """As ``ArgumentParser``; a mistake raises ``CommandError``, without the usage: that of ``train`` fills a screen."""

    def error(self, message: str) -> NoReturn:
        name, _, rest = message.removeprefix("argument ").partition(": ")
        chosen = re.fullmatch(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", rest)
        typed = re.fullmatch(r"invalid (\w+) value: (.*)", rest)
        if chosen:
            names = chosen[2].replace("'", "").split(", ")
            message = f"{name}: got {chosen[1]}, need one of {', '.join(names)}{_meant(chosen[1], names)}"
        elif typed:
            message = f"{name}: got {typed[2]:.80}, need {TYPES.get(typed[1], typed[1])}"
        elif message.startswith("argument "):
            message = f"{name}: {rest}"
        raise CommandError(f"{message} ({self.prog} --help)")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Nothing may be left over, so that the parser of a subcommand can name its own options."""
        known, left = super().parse_known_args(args, namespace)
        if left:
            option = next((word.partition("=")[0] for word in left if word.startswith("--")), "")
            if option:
                self.error(f"{option}: there is no such option{self._similar(option)}")
            self.error(f"got {' '.join(left)} too, need nothing there")
        return known, left

    def _similar(self, option: str) -> str:
        """An option with a similar name, else one whose help has the name's words, such as --lr for --learning-rate."""
        options = {name: str(action.help) for action in self._actions for name in action.option_strings}
        if ending := [name for name in options if name.endswith(option.removeprefix("-"))]:  # --slots: --memory-slots
            return f"; did you mean {ending[0]}?"
        if close := _meant(option, options):
            return close
        words = option.removeprefix("--").replace("-", " ")
        told = [name for name, about in options.items() if name.startswith("--") and about.startswith(words)]
        return f"; did you mean {told[0]}?" if told else ""


def _meant(word: str, names: Iterable[str]) -> str:
    close = get_close_matches(word, names, 1, 0.7)
    return f"; did you mean {close[0]}?" if close else ""
