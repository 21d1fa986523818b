"""A Neural Turing Machine learns to copy in a plain PyTorch loop (Graves et al. 2014, section 4.1).

The network sees a sequence of random 8-bit vectors, then a delimiter, and must then repeat the sequence with no further
input. The bits are new each time, so it has to write them into its memory and read them back in order.

    python examples/copy_task.py              # 3,000 training steps; PYTHONPATH=. where mannkern is not installed
    python examples/copy_task.py --steps 100  # a short look

The loss of a bit begins at ln 2 = 0.693, a guess. After half a minute on one core every bit is right, also in sequences
twice as long as any in training; in those six times as long, nearly every bit.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import NTM

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=3000, help="training steps (default: %(default)s)")
steps = parser.parse_args().steps

batch_size = 16  # B, sequences in a training step
bits = 8  # of each vector
max_length = 20  # vectors in the longest sequence of training; the shortest has 1

torch.manual_seed(0)
ntm = NTM(bits + 1, hidden_size=100, memory_slots=128, memory_width=20, memory_init="uniform")  # F, D, N, W
head = nn.Linear(ntm.output_size, bits)
parameters = [*ntm.parameters(), *head.parameters()]
# The large eps lets steps vanish with the gradient: with a small one, a copy that was learned is forgotten again.
optimizer = torch.optim.RMSprop(parameters, lr=1e-3, alpha=0.95, momentum=0.9, centered=True, eps=1e-4)


def copy(length: int) -> tuple[Tensor, float]:
    """Copy a fresh batch of sequences of ``length`` vectors: mean loss of a bit, and % of the bits that are right."""
    vectors = torch.randint(2, (length, batch_size, bits)).float()
    inputs = torch.zeros(2 * length + 1, batch_size, bits + 1)
    inputs[:length, :, :bits] = vectors
    inputs[length, :, bits] = 1  # the delimiter, on a channel of its own
    output, _ = ntm(inputs)  # every sequence starts with the same memory
    logits = head(output[length + 1 :])  # only the answer counts
    right = ((logits > 0) == (vectors > 0.5)).float().mean().item()
    return F.binary_cross_entropy_with_logits(logits, vectors), 100 * right


history = []
for step in range(1, steps + 1):
    loss, right = copy(length=int(torch.randint(1, max_length + 1, ())))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, max_norm=10)
    optimizer.step()
    history.append((loss.item(), right))
    if step % 100 == 0 or step in (1, steps):
        mean_loss, mean_right = torch.tensor(history[-100:]).mean(0).tolist()  # over lengths from 1 to max_length
        print(f"step {step:5}: loss {mean_loss:.4f}, bits right {mean_right:.1f}%", flush=True)

with torch.no_grad():
    for length in (max_length, 2 * max_length, 6 * max_length):
        loss, right = copy(length)
        print(f"length {length:3}: loss {loss.item():.4f}, bits right {right:.1f}%")
