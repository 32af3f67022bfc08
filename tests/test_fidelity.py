"""Float fidelity: the host program in fp32 computes what PyTorch computes, for every example network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.example_networks import FACTORIES, LARGE, artifact, compiled, network

# Relative to the largest output. Sums of up to 4,608 products in another order than PyTorch's move the
# result by about sqrt(4608) * 2**-24 = 4e-6 of it a layer.
TOLERANCE = 1e-4
NAMES = [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in ("digits", *FACTORIES)]


@pytest.mark.parametrize("name", NAMES)
def test_fp32_on_the_host_is_within_1e4_of_pytorch(tmp_path: Path, name: str) -> None:
    module, (example,) = network(name)
    with torch.no_grad():
        want = module(example).numpy()
    made = artifact(tmp_path / "artifact", compiled(name, "host", precision="fp32"))
    (found,) = made.run({"x": example.numpy()}).values()
    assert found.shape == want.shape
    assert np.abs(found - want).max() <= TOLERANCE * np.abs(want).max()
