"""The JSON of a GPU: what a call of the GPU check measured, together with what the file has of earlier calls.

A call may run a part of the check. What it did not measure stays as it was, with the commit that it is of: a row names
it as ``commit``, any other entry in ``earlier``. ``sources`` has the date, versions and note of these commits.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

SOURCE = ("command", "date", "machine", "load_before", "versions", "triton", "note")
BY_NAME = ("checks", "may_be_timed")  # parts whose entries a call may replace one by one
BY_JOB = ("crashed", "unfinished")  # lists of what is wrong with jobs, as "stage name: more"
MERGED = (*BY_NAME, *BY_JOB, "rows", "not_timed", "differs", "failed", "not_run", "earlier", "sources")
Content = dict[str, Any]
Rows = list[dict[str, Any]]


def merged(before: Content, now: Content, jobs: Collection[str]) -> Content:
    """``now``, and of ``before``, the file of an earlier call or {}, what ``now`` did not measure.

    jobs: what this call ran to its end, as "stage name"; what was wrong with these in ``before`` no longer counts
    """
    if not before:
        return now
    commit: str = before.get("commit", "unknown")
    both, kept = dict(now), []
    for part in before.keys() - {*SOURCE, *MERGED}:
        if both.get(part) in (None, [], {}):  # that no row of verify came to its end is no result either
            both[part] = before[part]
            kept.append(part)
    for part in BY_NAME:
        new, old = now.get(part, {}), before.get(part, {})
        measured = {name for name, found in new.items() if not str(found).startswith("not run")}
        both[part] = new | {name: found for name, found in old.items() if name not in measured}
        kept += [f"{part} {name}" for name in old if name not in measured]
    both["rows"], both["not_timed"] = _rows(before, now, commit)
    for part in BY_JOB:
        new = now.get(part, [])
        over = {*jobs, *(x.partition(": ")[0] for x in new)}
        both[part] = [x for x in before.get(part, []) if x.partition(": ")[0] not in over] + new
    new = now.get("differs", [])
    both["differs"] = [x for x in before.get("differs", []) if f"bench {x}" not in jobs and x not in new] + new
    if "counts" in now:
        both.pop("no_counts", None)  # of an earlier call
    earlier = {entry: before.get("earlier", {}).get(entry, commit) for entry in kept}
    named = {*earlier.values(), *(row["commit"] for row in both["rows"] if "commit" in row)}
    sources = before.get("sources", {}) | {commit: {key: before[key] for key in SOURCE if key in before}}
    return both | {"earlier": earlier, "sources": {name: x for name, x in sources.items() if name in named}}


def _rows(before: Content, now: Content, commit: str) -> tuple[Rows, Rows]:
    """Rows, and what was not timed: those of before whose workload and batch size ``now`` did not time, then new ones.

    A configuration is of one call as a whole, since its rows are compared with each other.
    """
    timed = {_configuration(row) for row in now.get("rows", []) if row["name"] != "bound"}
    old = [{"commit": commit} | row for row in before.get("rows", []) if _configuration(row) not in timed]
    kept = {_configuration(row) for row in old}
    rows = old + [row for row in now.get("rows", []) if _configuration(row) not in kept]
    told = {(*_configuration(row), row["name"]) for row in now.get("not_timed", [])}
    reasons = [
        {"commit": commit} | row
        for row in before.get("not_timed", [])
        if _configuration(row) not in timed and (*_configuration(row), row["name"]) not in told
    ]
    return rows, reasons + now.get("not_timed", [])


def _configuration(row: dict[str, Any]) -> tuple[str, int | None]:
    return row["what"], row.get("B")
