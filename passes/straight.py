"""straight: the gradient of a quantised value, as the rules of int8 training hand it on."""

from __future__ import annotations

from typing import Literal, NamedTuple

from edgec.ir import Type

Format = Literal["int8", "fp32", "fp64"]  # fp64: what tests compare with other implementations


class Straight(NamedTuple):
    """The gradient of a quantised value: factor * q (* 2**exponent, where there is one) where `mask` is 1 (None:
    everywhere). Mask and factor are applied by whoever reads it, so that several may read one q."""

    q: str
    exponent: str | None
    mask: str | None = None
    factor: float = 1.0

    @property
    def refs(self) -> tuple[str, ...]:
        return (self.q,) if self.exponent is None else (self.q, self.exponent)


def scale_of(t: Type) -> float:
    """Scale of a value with one for the whole tensor."""
    assert t.quant is not None
    return t.quant.per_tensor[0]
