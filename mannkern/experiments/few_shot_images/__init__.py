"""Few-shot classification of images in colour, in the layout of mini-ImageNet (Vinyals et al. 2016, section 4.1.2)."""

from mannkern.experiments.few_shot_images import report
from mannkern.experiments.few_shot_images.config import FewShotImagesConfig
from mannkern.experiments.few_shot_images.experiment import FewShotImagesExperiment, make_model
from mannkern.experiments.kind import Kind

KIND = Kind(
    tasks={"few-shot-images": FewShotImagesConfig},
    paper="Vinyals et al. 2016, section 4.1.2",
    measures="accuracy on queries of the classes of test.csv",
    open=FewShotImagesExperiment,
    evaluate=report.evaluate,
    table=report.table,
    draw=report.draw_all,
    build=make_model,
)
