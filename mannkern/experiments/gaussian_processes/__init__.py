"""Regression of functions drawn from Gaussian processes (Santoro et al. 2016, section 4.3)."""

from mannkern.experiments.gaussian_processes import pictures, report
from mannkern.experiments.gaussian_processes.config import GaussianProcessConfig
from mannkern.experiments.gaussian_processes.experiment import GaussianProcessExperiment
from mannkern.experiments.kind import Kind

KIND = Kind(
    tasks={"gaussian-processes": GaussianProcessConfig},
    paper="Santoro et al. 2016, section 4.3",
    measures="log-likelihood by points seen, beside the exact posterior",
    open=GaussianProcessExperiment,
    evaluate=report.evaluate,
    table=report.table,
    draw=pictures.draw_all,
    verdict=report.verdict,
)
