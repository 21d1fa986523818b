"""The algorithmic tasks of Graves et al. (2014)."""

from mannkern.experiments.algorithmic import pictures, report
from mannkern.experiments.algorithmic.config import ALGORITHMIC_CONFIGS
from mannkern.experiments.algorithmic.experiment import AlgorithmicExperiment
from mannkern.experiments.algorithmic.prediction import predict
from mannkern.experiments.kind import Kind

KIND = Kind(
    tasks=ALGORITHMIC_CONFIGS,
    paper="Graves et al. 2014",
    measures="bits per sequence by size, sizes beyond training among them",
    open=AlgorithmicExperiment,
    evaluate=report.evaluate,
    table=report.table,
    draw=pictures.draw_all,
    predict=predict,
)
