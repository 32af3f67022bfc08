"""RAM of a firmware that learns: what it takes beside its arenas, and what would fit where a choice does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from edgec.plan import Target
from edgec.training.options import TrainSpec

# Stack and data of a firmware that learns: least and most of the target's reserve.
KEPT_BYTES: Final = (8 * 1024, 16 * 1024)
DATA_BYTES: Final = 4096  # of them: frames of the link, the store, the port; the rest is stack


def kept_bytes(target: Target) -> int:
    """What a firmware that learns takes beside its arenas: stack, buffers of the link, data."""
    least, most = KEPT_BYTES
    return min(most, max(least, target.reserve_ram_bytes))


def lesser(spec: TrainSpec, layers: int) -> Iterator[tuple[str, TrainSpec]]:
    """(how the user asks for it, what) of ever smaller choices than `spec`, for a model of so many layers."""
    if spec.gradients == "fp32":
        yield "--gradients int8", replace(spec, gradients="int8")
    if spec.accumulate > 1:
        yield "--accumulate 1", replace(spec, accumulate=1)
    if spec.rounding == "q8.8":
        yield "--rounding stochastic", replace(spec, rounding="stochastic")
    if spec.optimizer != "sgd":
        yield "--optimizer sgd", replace(spec, optimizer="sgd")
    if spec.mode == "sparse" and spec.scheme is not None and spec.scheme.weights:
        halves = tuple(replace(w, ratio=w.ratio / 2) for w in spec.scheme.weights)
        yield "a scheme with half of each slice", replace(spec, scheme=replace(spec.scheme, weights=halves))
        yield "a scheme of biases alone", replace(spec, scheme=replace(spec.scheme, weights=()))
    most = {"full": layers, "last": spec.count}.get(spec.mode, 0)
    for count in sorted({most // 2, most // 4, 2} - {0, 1}, reverse=True):
        if count < most:
            yield f"--train last:{count}", replace(spec, mode="last", count=count)
    if spec.mode == "lora":
        for count in sorted({spec.count // 2, spec.count // 4, 1} - {0, spec.count}, reverse=True):
            yield f"--train lora:{count}", replace(spec, count=count)
    elif spec.mode != "head":
        yield "--train head", replace(spec, mode="head", count=0, scheme=None)
