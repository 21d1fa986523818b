"""The accuracies that Santoro et al. (2016) report on Omniglot. Tables show them beside ours, as the paper's."""

from __future__ import annotations

from mannkern.experiments.one_shot.config import OneShotConfig

# Accuracy in percent at the 1st, 2nd, 3rd, 4th, 5th and 10th presentation, after 100,000 episodes of training (Tables 1
# and 2), by the form of labels and the number of classes. Rows that are missing here are missing in the paper.
ROWS: dict[tuple[str, int], dict[str, tuple[float, ...]]] = {
    ("one-hot", 5): {
        "people": (34.5, 57.3, 70.1, 71.8, 81.4, 92.4),
        "feed-forward": (24.4, 19.6, 21.1, 19.9, 22.8, 19.5),
        "LSTM": (24.4, 49.5, 55.3, 61.0, 63.6, 62.5),
        "MANN": (36.4, 82.8, 91.0, 92.6, 94.9, 98.1),
    },
    ("strings", 5): {
        "kNN, pixels": (4.0, 36.7, 41.9, 45.7, 48.1, 57.0),
        "kNN, autoencoder": (4.0, 51.9, 61.0, 66.3, 69.3, 77.5),
        "feed-forward": (0.0, 0.2, 0.0, 0.2, 0.0, 0.0),
        "LSTM": (0.0, 9.0, 14.2, 16.9, 21.8, 25.5),
        "MANN, feed-forward": (0.0, 8.0, 16.2, 25.2, 30.9, 46.8),
        "MANN": (0.0, 69.5, 80.4, 87.9, 88.4, 93.1),
    },
    ("strings", 15): {
        "kNN, pixels": (0.5, 18.7, 23.3, 26.5, 29.1, 37.0),
        "kNN, autoencoder": (0.4, 32.7, 41.2, 47.1, 50.6, 60.0),
        "feed-forward": (0.0, 0.1, 0.0, 0.0, 0.0, 0.0),
        "LSTM": (0.0, 2.2, 2.9, 4.3, 5.6, 12.7),
        "MANN, feed-forward": (0.1, 12.8, 22.3, 28.8, 32.2, 43.4),
        "MANN": (0.1, 62.6, 79.3, 86.6, 88.7, 95.3),
        "MANN, NTM addressing": (0.0, 35.4, 61.2, 71.7, 77.7, 88.4),
    },
}


def rows(config: OneShotConfig) -> dict[str, tuple[float, ...]]:
    """The paper's rows for the episodes of ``config``, empty where it reports none."""
    known = config.task == "omniglot" and not (config.curriculum or config.persistent)
    return ROWS.get((config.labels, config.classes), {}) if known else {}
