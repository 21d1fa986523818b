"""Few-shot classification of characters from a support set (Vinyals et al. 2016)."""

from mannkern.experiments.few_shot import pictures, report
from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.few_shot.experiment import FewShotExperiment
from mannkern.experiments.few_shot.images import FewShotImagesConfig
from mannkern.experiments.few_shot.models import make_model
from mannkern.experiments.few_shot.prediction import predict
from mannkern.experiments.kind import Kind

KIND = Kind(
    tasks={
        "few-shot-omniglot": FewShotConfig,
        "few-shot-glyphs": FewShotConfig,
        "few-shot-folder": FewShotImagesConfig,
    },
    paper="Vinyals et al. 2016",
    measures="accuracy on queries of classes never seen in training",
    open=FewShotExperiment,
    evaluate=report.evaluate,
    table=report.table,
    draw=pictures.draw_all,
    build=make_model,
    predict=predict,
)
