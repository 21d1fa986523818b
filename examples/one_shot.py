"""A MANN learns one-shot classification of drawn characters in a plain PyTorch loop (Santoro et al. 2016).

An episode shows 50 drawings of 5 characters and tells the label of each drawing one step late. Labels are drawn anew in
each episode, so the network can only name a character by remembering what it was told earlier in the same episode.

    python examples/one_shot.py              # 1,500 training steps; PYTHONPATH=. where mannkern is not installed
    python examples/one_shot.py --steps 100  # a short look

The loss stays near ln 5 = 1.61, a guess, for two hundred steps and then falls. After some two minutes on one core, a
character that training never saw is named right in about 30% of its first drawings, 85% of its second and 93% of its
fifth.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import MANN
from mannkern.optim import Muon
from mannkern.tasks import EpisodeSampler, glyphs

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=1500, help="training steps (default: %(default)s)")
steps = parser.parse_args().steps

batch_size = 16  # B, episodes in a training step
classes = 5  # C, characters in an episode
length = 50  # T, time steps: each character is drawn ten times

torch.manual_seed(0)
train_images, test_images = glyphs.load()  # procedural characters: 1,000 to train on, 200 others to test on
sampler = EpisodeSampler(train_images, classes_per_episode=classes, length=length, augment=True, rotate_classes=True)
test_sampler = EpisodeSampler(test_images, classes_per_episode=classes, length=length, seed=1)

D, N, W, R = 200, 128, 40, 4  # hidden units, slots, their width, read heads
mann = MANN(sampler.input_size, D, N, W, R, key_strength=True)  # strength: how sharply a key addresses the memory
head = nn.Linear(mann.output_size, classes)
optimizer = Muon(nn.ModuleDict({"mann": mann, "head": head}), lr=1e-2)  # learns sooner than torch.optim.Adam


def predict(inputs: Tensor) -> Tensor:
    """Inputs (T, B, F) -> logits (T, B, C)."""
    output, _ = mann(inputs)  # every episode starts with an empty memory
    return head(output)


history = []
for step in range(1, steps + 1):
    episodes = sampler.sample(batch_size, index=step)
    logits = predict(episodes.inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), episodes.targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    right = (logits.argmax(-1) == episodes.targets).float().mean()
    history.append((loss.item(), 100 * right.item()))
    if step % 100 == 0 or step in (1, steps):
        mean_loss, mean_right = torch.tensor(history[-100:]).mean(0).tolist()
        print(f"step {step:5}: loss {mean_loss:.3f}, accuracy {mean_right:.1f}%", flush=True)

with torch.no_grad():  # on characters that training never saw, at the 1st, 2nd, ... 10th drawing of a character
    episodes = test_sampler.sample(500, index=0)
    right = (predict(episodes.inputs).argmax(-1) == episodes.targets).float()
accuracy = [100 * right[episodes.instances == k].mean().item() for k in range(1, length // classes + 1)]
print("unseen characters, accuracy by presentation:", " ".join(f"{a:.1f}%" for a in accuracy))
