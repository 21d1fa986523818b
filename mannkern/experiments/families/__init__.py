"""One network for several families of tasks: classes by a description, by one example and by several."""

from mannkern.experiments.families import report
from mannkern.experiments.families.config import FamiliesConfig
from mannkern.experiments.families.experiment import FamiliesExperiment
from mannkern.experiments.kind import Kind
from mannkern.experiments.zero_shot.experiment import make_model

KIND = Kind(
    tasks={"families-omniglot": FamiliesConfig, "families-glyphs": FamiliesConfig},
    paper="a task of mannkern",
    measures="accuracy by family of tasks",
    open=FamiliesExperiment,
    evaluate=report.evaluate,
    table=report.table,
    draw=report.draw_all,
    build=make_model,
)
