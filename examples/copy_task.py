"""A Neural Turing Machine learns to copy in a plain PyTorch loop (Graves et al. 2014, section 4.1).

The network sees a sequence of random 8-bit vectors, then a delimiter, and must then repeat the sequence with no further
input. It never saw these bits before, so it has to write them into its memory and read them back in order.

    python examples/copy_task.py              # 4,000 training steps
    python examples/copy_task.py --steps 100  # a short look
"""

import argparse
import math

import torch
from torch import nn
from torch.nn import functional as F

from mannkern import NTM

batch_size = 16  # B, sequences in a training step
bits = 8  # of each vector
longest = 10  # vectors in the longest sequence of training; the shortest has 1
hidden_size = 100  # D, units of the LSTM controller
memory_slots, memory_width = 128, 20  # N, W: the paper's
learning_rate = 1e-3


def copy_batch(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (2 length + 1, B, bits + 1), whose last channel is the delimiter, and the answer (length, B, bits)."""
    vectors = torch.randint(2, (length, batch_size, bits)).float()
    inputs = torch.zeros(2 * length + 1, batch_size, bits + 1)
    inputs[:length, :, :bits] = vectors
    inputs[length, :, bits] = 1
    return inputs, vectors


class Copier(nn.Module):
    """An NTM with a linear layer on top: inputs (T, B, F) -> logits of the bits (T, B, bits)."""

    def __init__(self) -> None:
        super().__init__()
        self.ntm = NTM(bits + 1, hidden_size, memory_slots, memory_width, memory_init="uniform")
        self.head = nn.Linear(self.ntm.output_size, bits)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output, _ = self.ntm(inputs)  # every sequence starts with the same memory
        return self.head(output)


def answer(model: nn.Module, length: int) -> tuple[torch.Tensor, float]:
    """Mean loss of a bit, and the share of bits that are right, on a fresh batch: only the answer counts."""
    inputs, vectors = copy_batch(length)
    logits = model(inputs)[length + 1 :]
    right = ((logits > 0) == (vectors > 0.5)).float().mean().item()
    return F.binary_cross_entropy_with_logits(logits, vectors), right


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=4000, help="training steps (default: %(default)s)")
steps = parser.parse_args().steps

torch.manual_seed(0)
model = Copier()
optimizer = torch.optim.RMSprop(model.parameters(), lr=learning_rate)

for step in range(steps + 1):
    loss, right = answer(model, length=int(torch.randint(1, longest + 1, ())))
    if step % 100 == 0 or step == steps:
        print(f"step {step:5}: loss {loss.item():.4f}, bits right {100 * right:.1f}%", flush=True)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10)
    optimizer.step()
