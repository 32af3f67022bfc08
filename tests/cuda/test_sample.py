"""The choice of the next token on a GPU against its op."""

from __future__ import annotations

from collections.abc import Iterator

import cuda_harness
import numpy as np
from cuda_harness import Case, floats

from edgec.backends.cuda_record import FLOATS
from edgec.ir import NO_ATTRS
from edgec.ops.token_choice import settings_of

SETTINGS = (
    *((0.0, 0, 1.0), (0.8, 0, 1.0), (1.0, 1, 1.0), (1.0, 5, 1.0), (0.7, 50, 0.9), (1.5, 0, 0.7)),
    *((1.0, 0, 0.01), (1.0, 4000, 0.999), (2.0, 0, 0.95)),
)


def cases() -> Iterator[Case]:
    rng = np.random.default_rng(11)
    for dtype in FLOATS:
        for shape in ((1, 128256), (3, 1000), (2, 257), (1, 5)):
            for k, (temperature, top_k, top_p) in enumerate(SETTINGS):
                logits = floats(rng, shape, dtype, 3.0)
                if k == 8:  # few distinct values: more in a bucket than are listed
                    logits = np.round(logits.astype(np.float32)).astype(dtype.numpy)
                settings = settings_of(temperature, top_k, top_p, int(rng.integers(2**32)))
                counter = rng.integers(0, 1000, 1).astype(np.int32)
                label = f"{dtype.value} {shape} {temperature} {top_k} {top_p}"
                yield Case(label, "sample", NO_ATTRS, (logits, settings, counter), symbol="ec_sample_cuda")


def test_sampling_equals_its_op() -> None:
    assert cuda_harness.run(cases()) == {}
