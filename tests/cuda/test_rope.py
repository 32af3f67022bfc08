"""Rotary position embedding on a GPU against its op."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.backends.cuda_record import FLOATS
from edgec.ops.rope import RopeAttrs

SHAPES = (((1, 8, 17, 64), 2, 32), ((2, 5, 3, 10), 1, 4), ((3, 2, 7, 16), 2, 8), ((1, 1, 1, 2), 1, 1))


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(12)
    for dtype in FLOATS:
        for shape, axis, pairs in SHAPES:
            tokens = shape[axis]
            for interleaved in (False, True):
                for batched in (False, True):
                    size = (shape[0], tokens) if batched else (tokens,)
                    position = rng.integers(0, 4000, size).astype(np.int32)
                    frequency = (10000.0 ** (-np.arange(pairs) / pairs)).astype(np.float32)
                    yield Case(
                        f"{dtype.value} {shape} {axis} {interleaved} {batched}",
                        "rope",
                        RopeAttrs(axis, interleaved, 1.25 if batched else 1.0),
                        (floats(rng, shape, dtype), position, frequency),
                        constants=(2,),
                        symbol="ec_rope_cuda",
                    )


def test_rotary_embedding_equals_its_op() -> None:
    assert cuda_harness.run(cases()) == {}
