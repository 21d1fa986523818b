"""The MANN of one_shot.py under Accelerate, on one process or on several, which then share every batch.

python examples/accelerate_one_shot.py                         # PYTHONPATH=. where mannkern is not installed
torchrun --nproc_per_node=2 examples/accelerate_one_shot.py    # the same curve; `accelerate launch` does too
"""

import argparse

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import MANN
from mannkern.optim import Muon
from mannkern.tasks import EpisodeSampler, glyphs

BATCH_SIZE = 16  # of all processes together


class OneShot(nn.Module):
    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.mann = MANN(input_size, 200, key_strength=True)
        self.head = nn.Linear(self.mann.output_size, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (T, B, F) -> logits (T, B, C)."""
        return self.head(self.mann(inputs)[0])


def train(accelerator: Accelerator, steps: int) -> None:
    rank, size = accelerator.process_index, accelerator.num_processes
    rows = slice(rank * BATCH_SIZE // size, (rank + 1) * BATCH_SIZE // size)  # of each batch, for this process
    torch.manual_seed(0)
    sampler = EpisodeSampler(glyphs.load()[0], augment=True, rotate_classes=True)
    model = OneShot(sampler.input_size)
    model, optimizer = accelerator.prepare(model, Muon(model, lr=1e-2))
    for step in range(1, steps + 1):
        episodes = sampler.sample(BATCH_SIZE, step, rows)
        logits = model(episodes.inputs.to(accelerator.device))
        loss = F.cross_entropy(logits.flatten(0, 1), episodes.targets.flatten().to(accelerator.device))
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        if step % 100 == 0 or step == steps:
            mean = accelerator.reduce(loss.detach(), "mean")
            accelerator.print(f"step {step}: loss {mean.item():.4f}", flush=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=1500, help="training steps (default: %(default)s)")
accelerator = Accelerator(cpu=not torch.cuda.is_available())
train(accelerator, parser.parse_args().steps)
# The model holds the process group, whose threads abort the process if they still run when Python ends.
accelerator.free_memory()
accelerator.end_training()
