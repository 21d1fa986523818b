"""One-shot classification of characters in episodes, and the tables of Santoro et al. (2016)."""

from mannkern.experiments.kind import Kind
from mannkern.experiments.one_shot import pictures, report
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.experiment import OneShotExperiment, make_model
from mannkern.experiments.one_shot.images import ImagesConfig
from mannkern.experiments.one_shot.prediction import predict

KIND = Kind(
    tasks={"omniglot": OneShotConfig, "glyphs": OneShotConfig, "images": ImagesConfig},
    paper="Santoro et al. 2016",
    measures="accuracy by presentation on classes never seen in training; after a curriculum by number of classes too",
    open=OneShotExperiment,
    evaluate=report.evaluate,
    table=report.table,
    draw=pictures.draw_all,
    verdict=report.verdict,
    build=make_model,
    predict=predict,
)
