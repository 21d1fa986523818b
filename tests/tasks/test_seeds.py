"""A stream of its own for every seed and every batch."""

import torch

from mannkern.tasks import seeds


def test_example() -> None:
    """SHA-256 of "0" begins with 5f ec eb 66, so batch 1 has the seed 0x66ebec5f + 0x9e3779b1 modulo 2^32."""
    assert seeds.generator(0, 1).initial_seed() == 0x05236610


def test_streams_stay_what_they_are() -> None:
    """Runs resume under later versions: these numbers are never to change."""
    drawn = torch.randint(1000, (4,), generator=seeds.generator(0, 1)).tolist()
    assert drawn == [199, 691, 548, 987]


def test_every_seed_and_index_has_a_stream_of_its_own() -> None:
    drawn = {int(torch.randint(2**60, (), generator=seeds.generator(s, i))) for s in range(10) for i in range(100)}
    assert len(drawn) == 1000


def test_every_order_of_different_numbers_below_a_limit_is_equally_likely() -> None:
    """Two of three numbers come in six orders, 1,000 of 6,000 times each; the deviation of that is 29."""
    pairs = seeds.different_below(torch.full((6000,), 3), 2, seeds.generator(0, 0))
    counts = (3 * pairs[:, 0] + pairs[:, 1]).bincount(minlength=9).view(3, 3)
    assert counts.diagonal().tolist() == [0, 0, 0], "the two differ"
    assert all(850 < counts[a, b] < 1150 for a in range(3) for b in range(3) if a != b)
