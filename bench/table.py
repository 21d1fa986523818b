"""The tables of docs/performance.md and README.md, from bench/results: ``python bench/table.py`` prints them.

``--write`` replaces what is between the marks of these documents.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import gpu_counts
from mannkern.benchmark import bound, workloads

RESULTS = Path(__file__).parent / "results"
DOCUMENTS = RESULTS.parents[1]
PERFORMANCE, README = "docs/performance.md", "README.md"
MARKS = {
    PERFORMANCE: ("<!-- tables of bench/table.py -->", "<!-- end of the tables -->"),
    README: ("<!-- small table of bench/table.py -->", "<!-- end of the small table -->"),
}
COLUMNS = {"reference": "reference", "compiled": "`torch.compile`", "matmul": "eager, products", "lstm": "`nn.LSTM`"}
NAMES = {"step": "step alone", "episode": "training step", "copy": "training step, NTM"}
SMALL_BATCHES, SMALL_COLUMNS = (1, 16, 64, 256, 1024), ("reference", "compiled", "lstm")
OURS_ON_A_GPU = {"a call": ("triton", "cuda"), "CUDA graph": ("triton, graph", "cuda, graph")}
OF_A_GPU = """\
In the table of a GPU, "a call" calls the operation from Python, and "CUDA graph" replays the same kernels without the
work of PyTorch and Python for a call. The share of the bound and the columns on its right belong to the faster of the
two. The bound of a GPU counts only the bytes that the memory's kernels move, and no arithmetic."""
Configuration = tuple[int, int]  # episodes B, threads


def load(benchmark: str) -> dict[Configuration, dict[str, dict[str, Any]]]:
    """Rows of a benchmark on the CPU by configuration and contestant."""
    report: dict[str, Any] = json.loads((RESULTS / f"cpu-{benchmark}.json").read_text())
    measured: dict[Configuration, dict[str, dict[str, Any]]] = {}
    for row in report["rows"]:
        measured.setdefault((row["B"], row["threads"]), {})[row["name"]] = row
    return measured


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    text = [f"| {' | '.join(cells)} |" for cells in (head, *lines)]
    text.insert(1, "|---" * len(head) + "|")
    return "\n".join(text)


def multiples(named: dict[str, dict[str, Any]], columns: Iterable[str]) -> list[str]:
    """The time of an episode, and each contestant's time divided by it; empty where it was not timed."""
    ours = f"{1e6 / named['cpp']['episodes_per_second']:,.0f} us"
    return [ours, *(f"{named[name]['ratio_to']['cpp']:.2f}" if name in named else "" for name in columns)]


def product_rates() -> str:
    """The rate of a large matrix product on one core, from the bounds of training steps: FLOPs divided by seconds."""
    flops = {
        "episode": bound.mann_flops(*workloads.STANDARD),
        "copy": bound.ntm_flops(
            2 * workloads.LENGTH + 1, workloads.BITS + 1, workloads.NTM_D, workloads.N, workloads.NTM_W, workloads.BITS
        ),
    }
    rates = [
        flops[benchmark] * named["bound"]["episodes_per_second"] / threads / 1e9
        for benchmark in flops
        for (_, threads), named in load(benchmark).items()
    ]
    between = f"{min(rates):.0f} to {max(rates):.0f} GFLOP/s"
    return f"In the runs of the training steps a core multiplied large matrices at {between}."


def table() -> str:
    """Every configuration of every benchmark: the time of an episode, and the others' time divided by ours."""
    head = ["forward + backward", "B", "threads", "mannkern, per episode", *COLUMNS.values()]
    lines = [
        [what, f"{B}", f"{threads}", *multiples(named, COLUMNS)]
        for benchmark, what in NAMES.items()
        for (B, threads), named in load(benchmark).items()
    ]
    return markdown(head, lines)


def small_table() -> str:
    """A training step of MANN on one and two threads, beside the reference, torch.compile and torch.nn.LSTM."""
    head = ["B", "threads", "mannkern, per episode", *(COLUMNS[name] for name in SMALL_COLUMNS)]
    lines = [
        [f"{B}", f"{threads}", *multiples(named, SMALL_COLUMNS)]
        for (B, threads), named in load("episode").items()
        if B in SMALL_BATCHES
    ]
    return markdown(head, lines)


def memory_table() -> str:
    """Peak memory of a call, in MiB."""
    report: dict[str, Any] = json.loads((RESULTS / "cpu-memory.json").read_text())
    names = {
        "cpp": "training step, mannkern",
        "cpp, no gradient": "the same without gradients",
        "reference": "training step, reference",
        "lstm": "training step, `nn.LSTM`",
        "scan": "`lrua_scan` with its gradient",
        "scan, reference": "the same, reference",
    }
    lines = [
        [names[row["name"]], f"{row['T']}", f"{row['B']}", f"{row['bytes'] / 2**20:,.0f}"] for row in report["rows"]
    ]
    return markdown(["peak memory over the start", "T", "B", "MiB"], lines)


def curves_table() -> str:
    """The time of an episode on one thread against T, N, W and R, and how many times the bound it is."""
    report: dict[str, Any] = json.loads((RESULTS / "cpu-curves.json").read_text())
    sizes: dict[str, dict[int, dict[str, float]]] = {}
    for row in report["rows"]:
        sizes.setdefault(row["curve"], {}).setdefault(row["size"], {})[row["name"]] = 1e6 / row["episodes_per_second"]
    lines = [
        [
            f"training step, {curve}" if curve == "T" else f"step alone, {curve}",
            f"{size:,}",
            f"{us['cpp']:,.0f} us",
            f"{us['bound']:,.0f} us" if us["bound"] >= 10 else f"{us['bound']:.1f} us",
            f"{us['cpp'] / us['bound']:.1f}",
        ]
        for curve, measured in sizes.items()
        for size, us in measured.items()
    ]
    return markdown(["forward + backward, B = 16, one thread", "", "mannkern, per episode", "bound", "times"], lines)


def write() -> None:
    """Put the tables between the marks of docs/performance.md, and the small tables between those of README.md.

    Raises ValueError where a document lacks its marks.
    """
    texts = {
        PERFORMANCE: [
            product_rates(),
            table(),
            curves_table(),
            memory_table(),
            *(text for report in gpu_reports() for text in gpu_tables(report)),
            *([OF_A_GPU] if gpu_reports() else []),
        ],
        README: [small_table(), *(small_gpu_table(report) for report in gpu_reports())],
    }
    for name, tables in texts.items():
        file, (first, last) = DOCUMENTS / name, MARKS[name]
        before, begun, rest = file.read_text().partition(first)
        _, ended, after = rest.partition(last)
        if not begun or not ended:
            raise ValueError(f"{name}: need the marks {first} and {last}, in this order")
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_text("\n\n".join([before + first, *tables, last + after]))
        temporary.replace(file)


def gpu_table(report: dict[str, Any], only: str = "", columns: Mapping[str, str] | None = None) -> str:
    """The results of one GPU: mannkern's times, their share of the bound, and the others' time divided by ours.

    A call and the replay of a CUDA graph have a column each; the shares and ratios are those of the faster one.

    only: what the names of the rows begin with. columns: contestant -> title, of those that were timed; by default all
    """
    measured: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in report["rows"]:
        if row["what"].startswith(only):
            measured.setdefault((row["what"], row["B"]), {})[row["name"]] = row
    if columns is None:
        names = dict.fromkeys(row["name"] for row in report["rows"])
        columns = {name: name for name in names if name not in [*sum(OURS_ON_A_GPU.values(), ()), "bound"]}
    timed = {name for named in measured.values() for name in named}
    columns = {name: title for name, title in columns.items() if name in timed}
    ways = {f"mannkern, {way}": names for way, names in OURS_ON_A_GPU.items() if timed & {*names}}
    lines = []
    for (what, B), named in measured.items():
        ours = [[named[name] for name in names if name in named] for names in ways.values()]
        if not any(ours):
            continue
        best = min(itertools.chain(*ours), key=lambda x: x["seconds"])
        times = [f"{1e6 * min(x['seconds'] for x in several):,.0f} us" if several else "" for several in ours]
        ratios = [f"{named[name]['seconds'] / best['seconds']:.2f}" if name in named else "" for name in columns]
        lines.append([what, f"{B}", *times, f"{100 * best['of_bound']:.0f}%", *ratios])
    return markdown([f"{report['gpu']}, measured", "B", *ways, "of the bound in bytes", *columns.values()], lines)


def gpu_tables(report: dict[str, Any]) -> list[str]:
    """The results of one GPU, and its instruction counts beside the times of the same kernels, where it has them."""
    return [gpu_table(report), *([markdown(*gpu_counts.table(report))] if "counts" in report else [])]


def small_gpu_table(report: dict[str, Any]) -> str:
    """The training steps of one GPU, beside the reference, torch.compile with CUDA graphs and torch.nn.LSTM."""
    columns = {"reference": "reference", "compiled, graph": "`torch.compile`, CUDA graph", "lstm": "`nn.LSTM`"}
    return gpu_table(report, "training", columns)


def gpu_reports() -> list[dict[str, Any]]:
    """The results of every GPU that has a file in bench/results."""
    reports = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    return [report for report in reports if report.get("benchmark") == "gpu" and report.get("rows")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put them into the documents instead of printing them")
    if parser.parse_args().write:
        write()
    else:
        of_gpus = [text for report in gpu_reports() for text in gpu_tables(report)]
        print("\n\n".join([table(), curves_table(), memory_table(), small_table(), *of_gpus]))


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # who reads no further, such as head, ends it, as any program; Python would object
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
