"""What ops that only move data share: their quantisation rule and the inputs of their examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.ops.define import Arrays, QuantRule, Role, Types


def same_movement(ref: Callable[[Any, Arrays], Arrays], roles: tuple[Role, ...] = ("shared",)) -> QuantRule:
    """The rule of an op whose integer form is `ref` on the integers: scale and zero pass through."""

    def quant_ref(attrs: Any, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
        return ref(attrs, inputs)

    return QuantRule(roles, "shared", quant_ref, max_lsb=0.0)


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    """Maker of float32 standard normal arrays of these shapes."""

    def make(rng: np.random.Generator) -> Arrays:
        return tuple(rng.normal(size=s).astype(np.float32) for s in shapes)

    return make
