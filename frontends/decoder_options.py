"""What a user chooses of a language model's entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CONTEXT: Final = 1024
PREFILL: Final = (32, 128)


@dataclass(frozen=True, slots=True)
class DecoderOptions:
    """`context`: tokens that the caches hold. `prefill`: lengths of the prefill entries beside 1; None: those of
    PREFILL that the context holds. `logits`: entries also return the last token's logits f32[1,V]."""

    context: int = CONTEXT
    prefill: tuple[int, ...] | None = None
    logits: bool = False

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of all prefill entries, shortest first."""
        chosen = self.prefill
        if chosen is None:
            chosen = tuple(n for n in PREFILL if n <= self.context)
        return tuple(sorted({1, *chosen}))
