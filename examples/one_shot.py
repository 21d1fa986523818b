"""A MANN learns one-shot classification of drawn characters in a plain PyTorch loop (Santoro et al. 2016).

An episode shows 50 drawings of 5 characters and tells the label of each drawing one step late. Labels are drawn anew in
each episode, so the network can only name a character by remembering what it was told earlier in the same episode.

    python examples/one_shot.py              # 3,000 training steps; in a clone, with PYTHONPATH=.
    python examples/one_shot.py --steps 100  # a short look

The loss stays near ln 5 = 1.61, a guess, for a few hundred steps and then falls. After two and a half minutes on one
core, a character that training never saw is named right in about 22% of its first drawings, 77% of its second and 91%
of its fifth.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import MANN
from mannkern.tasks import EpisodeSampler, glyphs

batch_size = 16  # B, episodes in a training step
classes = 5  # C, characters in an episode
length = 50  # T, time steps: each character is drawn ten times
hidden_size = 200  # D, units of the LSTM controller
memory_slots, memory_width, num_reads = 128, 40, 4  # N, W, R
learning_rate = 1e-3
test_episodes = 500


class OneShot(nn.Module):
    """A MANN with a linear layer on top: inputs (T, B, F) -> logits (T, B, C)."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.mann = MANN(input_size, hidden_size, memory_slots, memory_width, num_reads)
        self.head = nn.Linear(self.mann.output_size, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        output, _ = self.mann(inputs)  # every episode starts with an empty memory
        return self.head(output)


@torch.no_grad()
def accuracy_by_presentation(model: nn.Module, sampler: EpisodeSampler) -> list[float]:
    """Accuracy in % at the 1st, 2nd, ... 10th drawing of a character, on characters that training never saw."""
    episodes = sampler.sample(test_episodes, index=0)
    right = model(episodes.inputs).argmax(-1) == episodes.targets  # (T, B)
    presentations = range(1, length // classes + 1)
    return [100 * right[episodes.instances == k].float().mean().item() for k in presentations]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=3000, help="training steps (default: %(default)s)")
steps = parser.parse_args().steps

torch.manual_seed(0)
train_images, test_images = glyphs.load()  # procedural characters: 1,000 to train on, 200 others to test on
sampler = EpisodeSampler(train_images, classes_per_episode=classes, length=length, augment=True, rotate_classes=True)
test_sampler = EpisodeSampler(test_images, classes_per_episode=classes, length=length, seed=1)
model = OneShot(sampler.input_size)
optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

history = []
for step in range(1, steps + 1):
    episodes = sampler.sample(batch_size, index=step)
    logits = model(episodes.inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), episodes.targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    right = (logits.argmax(-1) == episodes.targets).float().mean()
    history.append((loss.item(), 100 * right.item()))
    if step % 100 == 0 or step in (1, steps):
        mean_loss, mean_right = torch.tensor(history[-100:]).mean(0).tolist()
        print(f"step {step:5}: loss {mean_loss:.3f}, accuracy {mean_right:.1f}%", flush=True)

by_presentation = accuracy_by_presentation(model, test_sampler)
print("unseen characters, accuracy by presentation:", " ".join(f"{a:.1f}%" for a in by_presentation))
