"""The MANN of one_shot.py under Lightning, on one process or on several, which then share every batch.

python examples/lightning_one_shot.py                          # PYTHONPATH=. where mannkern is not installed
torchrun --nproc_per_node=2 examples/lightning_one_shot.py     # the same curve
"""

import argparse
import itertools
import os
from collections.abc import Iterator

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from mannkern import MANN
from mannkern.optim import Muon
from mannkern.tasks import Episodes, EpisodeSampler, glyphs

BATCH_SIZE = 16  # of all processes together


class Rows(IterableDataset):
    """The rows of this process of each batch."""

    def __init__(self, sampler: EpisodeSampler, rank: int, size: int) -> None:
        self.sampler, self.rows = sampler, slice(rank * BATCH_SIZE // size, (rank + 1) * BATCH_SIZE // size)

    def __iter__(self) -> Iterator[Episodes]:
        return (self.sampler.sample(BATCH_SIZE, step, self.rows) for step in itertools.count(1))


class OneShot(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.sampler = EpisodeSampler(glyphs.load()[0], augment=True, rotate_classes=True)
        self.mann = MANN(self.sampler.input_size, 200, key_strength=True)
        self.head = nn.Linear(self.mann.output_size, 5)

    def training_step(self, episodes: Episodes) -> Tensor:
        output, _ = self.mann(episodes.inputs)
        loss = F.cross_entropy(self.head(output).flatten(0, 1), episodes.targets.flatten())
        self.log("loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return Muon(self, lr=1e-2)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Rows(self.sampler, self.global_rank, self.trainer.world_size), batch_size=None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="training steps (default: %(default)s)")
    lightning.seed_everything(0, verbose=False)
    size, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    trainer = lightning.Trainer(
        accelerator="auto", devices=local, num_nodes=size // local, strategy="ddp" if size > 1 else "auto",
        max_steps=parser.parse_args().steps, logger=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(OneShot())
    if trainer.is_global_zero:
        print(f"loss {float(trainer.callback_metrics['loss']):.4f}", flush=True)
