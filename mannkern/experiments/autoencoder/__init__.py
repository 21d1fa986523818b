"""The "deep" nearest neighbours of the MANN paper's Table 2: those in the codes of an autoencoder."""

from mannkern.experiments.autoencoder import pictures, report
from mannkern.experiments.autoencoder.config import AutoencoderConfig
from mannkern.experiments.autoencoder.experiment import AutoencoderExperiment, make_model
from mannkern.experiments.kind import Kind

KIND = Kind(
    tasks={"autoencoder-omniglot": AutoencoderConfig, "autoencoder-glyphs": AutoencoderConfig},
    paper="Santoro et al. 2016, Table 2",
    measures="accuracy of the nearest neighbour in codes, by instance, with 5 and 15 classes",
    open=AutoencoderExperiment,
    evaluate=report.evaluate,
    table=report.table,
    draw=pictures.draw_all,
    build=make_model,
)
