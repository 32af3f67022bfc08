"""integer_updates: what a training step and `apply` append to move a quantised parameter.

Plain SGD moves it at once, row by row of its gradient; so do weight decay and Q8.8, whose fraction is a state beside
the weight: both together are 16 bits, and kernels of the forward part read the weight as ever. Momentum and
accumulation keep one float32 an element, in integer steps, to which a step adds its gradient in place. Channels that
do not learn (dead ones) do not decay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgec.build import Builder
from edgec.ir import Array, Attrs, DType, Persistence, Type
from edgec.ops.block_float import Rounding
from edgec.ops.train_conv import TrainConv2dBiasAttrs, TrainConv2dWeightAttrs
from edgec.ops.train_sums import SgdIntegerAttrs, SumConv2dBiasAttrs, SumConv2dWeightAttrs, VelocityAttrs
from edgec.passes.train import Operand, Pace
from edgec.training.options import TrainSpec

DEAD: Final = 1e-6  # of the median scale: channels below it do not train
Alive = npt.NDArray[np.bool_]


def alive_of(scales: npt.NDArray[np.float64]) -> Alive:
    """Whether the channels with these scales learn."""
    return np.asarray(scales >= DEAD * np.median(scales), np.bool_)


def rows(t: Type, spec: TrainSpec, rounding: Rounding) -> tuple[tuple[str, Array, Persistence], ...]:
    """(name, initial content, persistence) of the states beside a quantised parameter of type `t`."""
    found: list[tuple[str, Array, Persistence]] = []
    if rounding == "q8.8" and t.dtype is DType.I8:
        found.append(("fraction", np.zeros(t.dims, np.int8), Persistence.SAVED))
    if spec.optimizer == "momentum":
        found.append(("momentum", np.zeros(t.dims, np.float32), Persistence.SAVED))
    if spec.accumulate > 1:
        found.append(("sum", np.zeros(t.dims, np.float32), Persistence.KEPT))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Convolution:
    """The convolution of a weight: the zero point of its input, and how its windows lie."""

    zero: int
    stride: tuple[int, int]
    pad: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True, slots=True)
class Updates:
    """How the parameters of a graph move. `sources` below: references of a gradient, its mask and the factor of each
    output; `alive`: which outputs of the parameter learn."""

    pace: Pace
    rounding: Rounding
    seed: int

    def bias(self, b: Builder, state: str, sources: tuple[str, ...], alive: Alive) -> str:
        """Append what a training step does to a bias; its next content, or that of its sum."""
        decay = self.decay(b, alive, sources[-1])
        if not self.summed:
            attrs = TrainConv2dBiasAttrs(_salt(state), self.seed, self.steps(state, b), bool(decay))
            inputs = (state, *sources, self.pace.rate, self.pace.number, *decay)
            return self.made(b, "train_conv2d_bias", inputs, attrs)
        keep, pulled = self.kept(state, decay)
        inputs = (self.total(state), *sources, self.pace.share, *pulled)
        total = self.made(b, "sum_conv2d_bias", inputs, SumConv2dBiasAttrs(keep, bool(pulled)))
        return self.along(b, state, total)

    def weight(
        self,
        b: Builder,
        state: str,
        sources: tuple[str, ...],
        alive: Alive,
        idx: tuple[str, ...],
        of: Convolution,
    ) -> str:
        """The same of a weight; `sources` begin with its x; `idx`: of a depthwise slice."""
        decay, fraction = self.decay(b, alive, sources[-1]), self.fraction(b, state)
        place = of.stride, of.pad, of.dilation, of.groups
        if not self.summed:
            attrs = TrainConv2dWeightAttrs(
                of.zero, _salt(state), self.seed, self.steps(state, b), *place, bool(decay)
            )
            inputs = (state, *sources, self.pace.rate, self.pace.number, *fraction, *decay, *idx)
            return self.made(b, "train_conv2d_weight", inputs, attrs)
        keep, pulled = self.kept(state, decay)
        pulled += fraction if pulled else ()
        summed = SumConv2dWeightAttrs(of.zero, keep, bool(pulled), len(pulled) == 3, *place)
        inputs = (self.total(state), *sources, self.pace.share, *pulled, *idx)
        return self.along(b, state, self.made(b, "sum_conv2d_weight", inputs, summed))

    def apply(self, b: Builder, operand: Operand, alive: Alive) -> None:
        """Append the step along the sum of a parameter, and note what it makes."""
        state, total = operand.state, f"{operand.state}.sum"
        decay = self.decay(b, alive, total)
        if self.pace.spec.optimizer == "momentum":
            pulled = (state, *decay, *self.fraction(b, state)) if decay else ()
            attrs = VelocityAttrs(self.pace.spec.momentum, bool(decay), len(pulled) == 3)
            total = self.made(b, "velocity", (f"{state}.momentum", total, *pulled), attrs)
            b.updates.append((f"{state[1:]}.momentum", total))
            decay = ()
        b.updates.append((state[1:], self.step(b, state, total, decay)))

    def along(self, b: Builder, state: str, total: str) -> str:
        """What becomes of the new sum: where gradients are accumulated, no more; else it is a velocity, along which
        the parameter steps."""
        if self.pace.spec.accumulate > 1:
            return total
        b.updates.append((f"{state[1:]}.momentum", total))
        return self.step(b, state, total, ())

    def step(self, b: Builder, state: str, total: str, decay: tuple[str, ...]) -> str:
        attrs = SgdIntegerAttrs(_salt(state), self.seed, self.steps(state, b), bool(decay))
        inputs = (state, total, self.pace.rate, self.pace.number, *self.fraction(b, state), *decay)
        return self.made(b, "sgd_integer", inputs, attrs)

    def made(self, b: Builder, op: str, inputs: tuple[str, ...], attrs: Attrs) -> str:
        """The node's first output; the second is the next content of the fraction."""
        found = b.node(op, inputs, attrs, name=f"{inputs[0][1:]}.next")
        if len(found) == 2:
            b.updates.append((f"{inputs[0][1:]}.fraction", found[1]))
        return found[0]

    @property
    def summed(self) -> bool:
        """Whether a gradient goes to a float32 sum first."""
        return self.pace.spec.accumulate > 1 or self.pace.spec.optimizer == "momentum"

    def total(self, state: str) -> str:
        """The state that a step's gradient is added to."""
        return f"{state}.{'sum' if self.pace.spec.accumulate > 1 else 'momentum'}"

    def kept(self, state: str, decay: tuple[str, ...]) -> tuple[float, tuple[str, ...]]:
        """(what stays of the state that a gradient is added to, the parameter and its decay where they are added)."""
        if self.pace.spec.accumulate > 1:
            return 1.0, ()
        return self.pace.spec.momentum, (state, *decay) if decay else ()

    def steps(self, state: str, b: Builder) -> Rounding:
        """How steps are rounded: biases are int32, finer than Q8.8 would make them."""
        return "stochastic" if self.rounding == "q8.8" and not self.fraction(b, state) else self.rounding

    def fraction(self, b: Builder, state: str) -> tuple[str, ...]:
        """The state beside a weight in Q8.8."""
        return (f"{state}.fraction",) if self.rounding == "q8.8" and b.types[state].dtype is DType.I8 else ()

    def decay(self, b: Builder, alive: Alive, like: str) -> tuple[str, ...]:
        """The constant with the weight decay of each output, of the dtype of `like`; none without decay."""
        amount = self.pace.spec.weight_decay
        if amount == 0.0:
            return ()
        return (b.constant(np.where(alive, amount, 0.0).astype(b.types[like].dtype.numpy), "decay"),)


def alive_rows(b: Builder, operand: Operand) -> Alive:
    """Which outputs of a trained parameter learn; of a depthwise slice those that train."""
    quant = b.types[operand.whole or operand.state].quant
    state = b.types[operand.state]
    assert quant is not None
    scales = np.array(quant.scale, np.float64)
    if operand.index is not None and operand.axis == 0 and len(scales) > 1:
        chosen = np.asarray(b.constants[operand.index[1:]].data, np.int64)
        return alive_of(scales)[chosen]
    return np.broadcast_to(alive_of(scales), state.dims[:1])


def _salt(state: str) -> int:
    """A number of the state's name (FNV-1a, 31 bits), so that the noise of a parameter does not depend on others."""
    value = 0x811C9DC5
    for byte in state.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value & 0x7FFFFFFF
