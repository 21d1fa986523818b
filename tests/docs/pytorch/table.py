"""The tables of docs/pytorch.md: ``python -m tests.docs.pytorch.table`` writes them between its marks."""

from __future__ import annotations

from tests.docs.markdown import ROOT, text
from tests.docs.pytorch import derivatives, parallel, programs, sequences, states, training
from tests.docs.pytorch.feature import Feature

PAGE = "docs/pytorch.md"
FIRST, LAST = "<!-- tables of tests/docs/pytorch/table.py -->", "<!-- end of the tables -->"
GROUPS: dict[str, tuple[Feature, ...]] = {
    "Training": training.FEATURES,
    "Several processes": parallel.FEATURES,
    "As `torch.nn.LSTM`": sequences.FEATURES,
    "Weights, states and files": states.FEATURES,
    "Derivatives and transforms": derivatives.FEATURES,
    "Compilers and exported programs": programs.FEATURES,
}
HEAD = ("feature", "`cpp`", "`reference`", "`triton`", "`cuda`", "to know")


def rendered() -> str:
    """A heading and a table for each group."""
    parts = []
    for title, features in GROUPS.items():
        rows = [(f.name, f.cpp, f.reference, f.triton, f.cuda, f.text) for f in features]
        lines = [f"| {' | '.join(cells)} |" for cells in (HEAD, *rows)]
        lines.insert(1, "|---" * len(HEAD) + "|")
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def written(page: str) -> str:
    """The page with the tables between its marks."""
    before, begun, rest = page.partition(FIRST)
    _, ended, after = rest.partition(LAST)
    if not begun or not ended:
        raise ValueError(f"{PAGE}: need the marks {FIRST} and {LAST}, in this order")
    return "\n\n".join([before + FIRST, rendered(), LAST + after])


if __name__ == "__main__":
    (ROOT / PAGE).write_text(written(text(PAGE)), encoding="utf-8")
