"""Few-shot regression of sinusoids (Finn et al. 2017)."""

from mannkern.experiments.kind import Kind
from mannkern.experiments.sinusoids import pictures, report
from mannkern.experiments.sinusoids.config import SinusoidConfig
from mannkern.experiments.sinusoids.experiment import SinusoidExperiment, make_model
from mannkern.experiments.sinusoids.prediction import predict

KIND = Kind(
    tasks={"sinusoids": SinusoidConfig},
    paper="Finn et al. 2017",
    measures="error by steps of adaptation",
    open=SinusoidExperiment,
    evaluate=report.evaluate,
    table=report.table,
    draw=pictures.draw_all,
    build=make_model,
    predict=predict,
)
