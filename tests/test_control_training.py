"""Samples with offsets, and several offsets in one pass: loss and gradients of separate passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgec.control.training import Episode, OffsetDataset, packed_mask, packed_positions, sample


def episode(length: int = 20, surprise: int | None = None) -> Episode:
    """Every number says of which period it is."""
    t = torch.arange(length, dtype=torch.float32)
    happened = None if surprise is None else torch.arange(length) == surprise
    return Episode(t[:, None], 100 + t[:, None], 200 + t[:, None], happened)


def test_state_and_actions_are_later_than_the_picture() -> None:
    found = sample(episode(), 5, 3, 4)
    assert found["picture"].item() == 5 and found["state"].item() == 108
    assert found["action"].flatten().tolist() == [208, 209, 210, 211] and not found["pad"].any()


def test_actions_behind_the_end_are_padded() -> None:
    found = sample(episode(), 15, 3, 4)
    assert found["action"].flatten().tolist() == [218, 219, 219, 219]
    assert found["pad"].tolist() == [False, False, True, True]


@pytest.mark.parametrize(("surprise", "weight"), [(5, 1.0), (6, 0.0), (11, 0.0), (12, 1.0)])
def test_a_surprise_between_picture_and_actions_takes_the_weight(surprise: int, weight: float) -> None:
    assert sample(episode(surprise=surprise), 5, 3, 4)["weight"].item() == weight


def test_every_period_is_a_sample_with_a_uniform_offset_that_stays_inside() -> None:
    data = OffsetDataset([episode(30), episode(20)], 4, 8, seed=1)
    assert len(data) == 50
    offsets = []
    for epoch in range(60):
        data.set_epoch(epoch)
        rows = [data[i] for i in range(50)]
        assert [r["picture"].item() for r in rows] == [*range(30), *range(20)]
        assert all(r["state"].item() == 100 + r["picture"].item() + r["delay"].item() for r in rows)
        offsets += [int(r["delay"]) for r in rows[:20]]
    counts = torch.bincount(torch.tensor(offsets), minlength=9)
    assert counts.min() > 90 and counts.max() < 180 and len(counts) == 9


def test_the_same_seed_gives_the_same_samples() -> None:
    first, second, other = (OffsetDataset([episode()], 4, 8, seed=s) for s in (3, 3, 4))
    drawn = [[int(d[i]["delay"]) for i in range(20)] for d in (first, second, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_without_delay_samples_are_ordinary() -> None:
    data = OffsetDataset([episode()], 4, 0)
    assert all(data[i]["delay"].item() == 0 for i in range(20))
    with pytest.raises(IndexError):
        data[20]


def test_an_episode_of_uneven_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="as many periods as each other"):
        Episode(torch.zeros(3, 1), torch.zeros(4, 1), torch.zeros(4, 1))


class Policy(nn.Module):
    """tokens [N,L,16] with positions and a mask -> [N,L,16]: two transformer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(32, 16)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.attention = nn.ModuleList(nn.MultiheadAttention(16, 4, batch_first=True) for _ in range(2))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(2)
        )

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        x = tokens + self.positions(positions)
        for norm, attention, mlp in zip(self.norms, self.attention, self.mlp, strict=True):
            y = norm(x)
            x = x + attention(y, y, y, attn_mask=~mask)[0]
            x = x + mlp(x)
        return x


def test_packed_branches_are_separate_passes() -> None:
    torch.manual_seed(0)
    policy, picture, branches = (
        Policy().double(),
        torch.randn(3, 7, 16).double(),
        torch.randn(4, 3, 5, 16).double(),
    )
    wanted = torch.randn(4, 3, 5, 16).double()

    def gradients(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(policy.parameters())))

    alone = torch.zeros(())
    for branch, target in zip(branches, wanted, strict=True):
        tokens = torch.cat([picture, branch], 1)
        found = policy(tokens, packed_positions(7, 5, 1), packed_mask(7, 5, 1))[:, 7:]
        alone = alone + nn.functional.mse_loss(found, target) / 4
    tokens = torch.cat([picture, *branches], 1)
    packed = policy(tokens, packed_positions(7, 5, 4), packed_mask(7, 5, 4))[:, 7:]
    together = nn.functional.mse_loss(packed, torch.cat(list(wanted), 1))
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=0)
    for a, b in zip(gradients(together), gradients(alone), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-10)


def test_a_mask_that_lets_branches_see_each_other_is_told() -> None:
    mask = packed_mask(2, 2, 2)
    assert mask.int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 1, 1],
    ]
