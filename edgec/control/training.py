"""Training a policy for asynchronous control (PyTorch): samples whose state and actions are later than their picture.

Tang et al., VLASH, arXiv 2512.01031, section 3: an offset d is drawn from 0 to the largest delay; the sample is
(picture of period t, state of t + d) -> actions from t + d on. Several offsets of one picture can share its tokens:
`packed_mask`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    Samples = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Episode:
    """A demonstration of T periods. `picture` [T,...]: what changes with the world; `state` f32[T,S]: of the robot,
    measured before `action` f32[T,A] is sent. `surprise` bool[T]: something happened in this period that nobody could
    have foreseen; None: nothing did."""

    picture: Tensor
    state: Tensor
    action: Tensor
    surprise: Tensor | None = None

    def __post_init__(self) -> None:
        lengths = {len(x) for x in (self.picture, self.state, self.action, self.surprise) if x is not None}
        if len(lengths) != 1:
            raise ValueError(
                f"an episode's tensors have as many periods as each other, not {sorted(lengths)}"
            )


class OffsetDataset(torch.utils.data.Dataset[Any]):
    """A sample for each period of each episode: `picture`, `state` f32[S] and `action` f32[horizon,A] from the offset
    on, `pad` bool[horizon] where the episode is over (its last action is repeated there), `delay` i64 and `weight`
    f32: 0 where a surprise falls between the picture and the last action, which no policy could have answered.

    The offset of a sample is drawn anew in each epoch (`set_epoch`), the same for the same seed, and never leaves the
    episode. `delay_max` 0 gives ordinary samples.
    """

    def __init__(self, episodes: Sequence[Episode], horizon: int, delay_max: int, seed: int = 0) -> None:
        if horizon < 1 or delay_max < 0:
            raise ValueError(f"give a horizon from 1 and a delay from 0 up, not {horizon} and {delay_max}")
        self.episodes, self.horizon, self.delay_max, self.seed = list(episodes), horizon, delay_max, seed
        self._ends = torch.tensor([len(e.state) for e in self.episodes]).cumsum(0)
        self._offsets = torch.zeros(len(self), dtype=torch.int64)
        self.set_epoch(0)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the offsets of an epoch."""
        rng = torch.Generator().manual_seed((self.seed << 20) + epoch)
        self._offsets = torch.randint(0, self.delay_max + 1, (len(self),), generator=rng)

    def __getitem__(self, index: int) -> Samples:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(torch.searchsorted(self._ends, index, right=True))
        episode = self.episodes[number]
        length = len(episode.state)
        start = index - int(self._ends[number]) + length
        return sample(episode, start, min(int(self._offsets[index]), length - 1 - start), self.horizon)


def sample(episode: Episode, start: int, delay: int, horizon: int) -> Samples:
    """The sample of period `start` with this offset, as OffsetDataset gives it."""
    length = len(episode.state)
    first = start + delay
    periods = torch.arange(first, first + horizon)
    pad = periods >= length
    surprise = episode.surprise
    # Actions up to period p know of what happened up to p; the picture is of `start`.
    seen = surprise is not None and bool(surprise[start + 1 : min(first + horizon, length)].any())
    return {
        "picture": episode.picture[start],
        "state": episode.state[first],
        "action": episode.action[periods.clamp(max=length - 1)],
        "pad": pad,
        "delay": torch.tensor(delay),
        "weight": torch.tensor(0.0 if seen else 1.0),
    }


def packed_mask(picture_tokens: int, branch_tokens: int, branches: int) -> Tensor:
    """bool[L,L], true where row attends to column, for one picture and several branches (state and actions of one
    offset each) behind each other: picture tokens see each other, a branch sees the picture and itself."""
    branch = torch.cat(
        [torch.full((picture_tokens,), -1), torch.arange(branches).repeat_interleave(branch_tokens)]
    )
    return (branch[None, :] == -1) | (branch[:, None] == branch[None, :])


def packed_positions(picture_tokens: int, branch_tokens: int, branches: int) -> Tensor:
    """i64[L]: every branch counts on from the picture, as if it were the only one."""
    behind = picture_tokens + torch.arange(branch_tokens)
    return torch.cat([torch.arange(picture_tokens), behind.repeat(branches)])
