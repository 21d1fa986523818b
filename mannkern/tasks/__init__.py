"""Tasks: batches of episodes, sequences and functions to train and to measure models on.

``characters`` holds the classification of drawn characters, ``algorithmic`` the tasks of Graves et al. (2014),
``sinusoids`` the regression of Finn et al. (2017), ``gaussian_processes`` that of Santoro et al. (2016). Every batch is
a function of a seed and the training step alone (``seeds``), so a resumed training sees the same data as an unbroken
one.
"""

from mannkern.tasks.algorithmic.copying import Copy, RepeatCopy
from mannkern.tasks.algorithmic.ngrams import DynamicNGrams
from mannkern.tasks.algorithmic.recall import AssociativeRecall
from mannkern.tasks.algorithmic.sequences import Sequences, SequenceTask
from mannkern.tasks.algorithmic.sorting import PrioritySort
from mannkern.tasks.characters import glyphs, omniglot
from mannkern.tasks.characters.descriptions import ZeroShotSampler
from mannkern.tasks.characters.drawings import DrawingSampler
from mannkern.tasks.characters.episodes import CharacterSplit, Episodes, EpisodeSampler
from mannkern.tasks.characters.few_shot import FewShotEpisodes, FewShotSampler
from mannkern.tasks.characters.labels import Labels, OneHotLabels, StringLabels
from mannkern.tasks.gaussian_processes import Functions, GaussianProcessSampler
from mannkern.tasks.images import ImageSampler
from mannkern.tasks.sinusoids import Sinusoids, SinusoidSampler

__all__ = [
    "AssociativeRecall",
    "CharacterSplit",
    "Copy",
    "DrawingSampler",
    "DynamicNGrams",
    "EpisodeSampler",
    "Episodes",
    "FewShotEpisodes",
    "FewShotSampler",
    "Functions",
    "GaussianProcessSampler",
    "ImageSampler",
    "Labels",
    "OneHotLabels",
    "PrioritySort",
    "RepeatCopy",
    "SequenceTask",
    "Sequences",
    "SinusoidSampler",
    "Sinusoids",
    "StringLabels",
    "ZeroShotSampler",
    "glyphs",
    "omniglot",
]
