"""Rotary position embedding: pairs of channels of each head turn by the token's position times their frequency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edgec.ir import Attrs, DType
from edgec.ops.define import Arrays, Example, NoQuant, Op, Types, define, elementwise_cost, require
from edgec.ops.emit import emit

if TYPE_CHECKING:
    from edgec.build import Builder
    from edgec.ir import Node

Grads = Sequence[str | None]
Numbers = npt.NDArray[Any]
TOKEN_AXES: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class RopeAttrs(Attrs):
    """`axis`: that of the tokens, 2 for x[N,A,T,D], 1 for x[N,T,A,D]. Pair r is channels (r, r + R) or, where
    `interleaved`, (2 r, 2 r + 1). `scale` multiplies what is turned."""

    axis: int
    interleaved: bool = False
    scale: float = 1.0


def infer(attrs: RopeAttrs, types: Types) -> Types:
    """x[N,A,T,D] or [N,T,A,D], position i32[T] or [N,T], frequency f32[R] with 2 R <= D -> y like x."""
    require(len(types) == 3, "takes x, position and frequency")
    x, position, frequency = types
    require(len(x.shape) == 4 and x.dtype.is_float, "x is float of 4 axes")
    require(attrs.axis in TOKEN_AXES, f"the tokens are axis 1 or 2, not {attrs.axis}")
    tokens = x.dims[attrs.axis]
    fits = position.dims in ((tokens,), (x.dims[0], tokens))
    require(fits and position.dtype is DType.I32, f"position is i32[{tokens}] or i32[{x.dims[0]},{tokens}]")
    require(frequency.dtype in (DType.F32, DType.F64), "the frequencies stay in float32")
    require(len(frequency.shape) == 1 and 2 * frequency.dims[0] <= x.dims[3], "two channels a frequency")
    return (x,)


def angles(position: Numbers, frequency: Numbers, axis: int) -> Numbers:
    """Angles [N or 1,1,T,R] (axis 2) or [N or 1,T,1,R] (axis 1), the product being rounded to float32."""
    grid = np.atleast_2d(position)[:, :, None].astype(frequency.dtype) * frequency
    return np.asarray(np.expand_dims(grid, 3 - axis))


def rope(attrs: RopeAttrs, inputs: Arrays) -> Arrays:
    """y = (a cos t - b sin t, b cos t + a sin t) scale for each pair (a, b) and its angle t."""
    x: Numbers = inputs[0]
    position, frequency = inputs[1:]
    pairs = len(frequency)
    t = angles(position, frequency, attrs.axis)
    cos, sin = (np.asarray(f(t) * attrs.scale, x.dtype) for f in (np.cos, np.sin))
    first = slice(0, 2 * pairs, 2) if attrs.interleaved else slice(0, pairs)
    second = slice(1, 2 * pairs, 2) if attrs.interleaved else slice(pairs, 2 * pairs)
    y = x.copy()
    y[..., first] = x[..., first] * cos - x[..., second] * sin
    y[..., second] = x[..., second] * cos + x[..., first] * sin
    return (y,)


def vjp(b: Builder, node: Node, grads: Grads) -> Grads:
    """The gradient turns back: frequencies of the other sign."""
    attrs = node.attrs
    assert isinstance(attrs, RopeAttrs)
    if grads[0] is None:
        return (None, None, None)
    back = emit(b, "neg", node.inputs[2])
    fields = {"axis": attrs.axis, "interleaved": attrs.interleaved, "scale": attrs.scale}
    return (emit(b, "rope", grads[0], node.inputs[1], back, **fields), None, None)


def _example(label: str, attrs: RopeAttrs, shape: tuple[int, ...], pairs: int) -> Example:
    def make(rng: np.random.Generator) -> Arrays:
        tokens = shape[attrs.axis]
        start = rng.integers(0, 50)
        frequency = 10000.0 ** (-np.arange(pairs) / pairs)
        return (
            rng.normal(size=shape).astype(np.float32),
            np.arange(start, start + tokens).astype(np.int32),
            frequency.astype(np.float32),
        )

    def torch(t, x, position, frequency):  # type: ignore[no-untyped-def]
        turned, rest = x[..., : 2 * pairs], x[..., 2 * pairs :]
        parts = turned.unflatten(-1, (pairs, 2) if attrs.interleaved else (2, pairs))
        parts = parts if attrs.interleaved else parts.transpose(-1, -2)
        angle = (position[:, None].float() * frequency).unsqueeze(2 - attrs.axis)
        unit = t.polar(t.full_like(angle, attrs.scale), angle)
        y = t.view_as_real(t.view_as_complex(parts.contiguous()) * unit)
        y = y if attrs.interleaved else y.transpose(-1, -2)
        return t.cat((y.flatten(-2), rest), -1)

    return Example(label, attrs, make, torch)


define(
    Op(
        name="rope",
        doc="Rotary embedding of x[N,A,T,D] (axis 2) or [N,T,A,D] (axis 1): channel pair (a, b) of token t with "
        "frequency f becomes (a cos - b sin, b cos + a sin) * scale at the angle position[t] * f, in float32. "
        "Channels beyond the pairs pass through. The frequencies are float32 at every precision.",
        attrs=RopeAttrs,
        infer=infer,
        ref=rope,
        vjp=vjp,
        quant=NoQuant("a rotation mixes two channels, and stays in float"),
        cost=elementwise_cost,
        examples=(
            _example("half-split, heads first", RopeAttrs(2), (1, 3, 5, 8), 4),
            _example("half-split, tokens first", RopeAttrs(1), (2, 5, 3, 8), 4),
            _example("interleaved, scaled", RopeAttrs(2, True, 1.25), (2, 2, 1, 8), 4),
            _example("part of the channels", RopeAttrs(2), (1, 2, 3, 12), 4),
        ),
    )
)
