"""Zero-shot classification: classes that are described in numbers, without an example."""

from mannkern.experiments.kind import Kind
from mannkern.experiments.zero_shot import report
from mannkern.experiments.zero_shot.config import ZeroShotConfig
from mannkern.experiments.zero_shot.experiment import ZeroShotExperiment, make_model

KIND = Kind(
    tasks={"zero-shot-omniglot": ZeroShotConfig, "zero-shot-glyphs": ZeroShotConfig},
    paper="a task of mannkern",
    measures="accuracy on queries of described classes",
    open=ZeroShotExperiment,
    evaluate=report.evaluate,
    table=report.table,
    draw=report.draw_all,
    build=make_model,
)
