"""Division of 4-bit layers whose weights stream through shared memory."""

from __future__ import annotations

import pytest

from edgec.backends.w4_stream import (
    BARRIERS_BYTES,
    DRIVER_BYTES,
    NARROW_SHARE,
    NARROW_TILES,
    STATIC_BYTES,
    choose_stream,
)
from edgec.backends.w4_tiles import Layer
from edgec.plan import Gpu
from edgec.targets.load import load_target


def gpu(name: str) -> Gpu:
    found = load_target(name).gpu
    assert found is not None
    return found


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("group", [64, 128])
@pytest.mark.parametrize(
    ("outputs", "channels"), [(6144, 4096), (28672, 4096), (4096, 14336), (128256, 2048)]
)
def test_a_narrow_and_a_wide_layer_share_an_sm(rows: int, group: int, outputs: int, channels: int) -> None:
    h200 = gpu("h200")
    room = h200.shared_bytes + DRIVER_BYTES
    for asymmetric in (False, True):
        layer = Layer(rows, outputs // 16, channels // group, group, asymmetric)
        choice = choose_stream(layer, h200)
        if choice is None:
            assert outputs == 128256  # pairs and sums of so many tiles leave no room for a ring
            continue
        block = choice.shared_bytes(layer, h200) + STATIC_BYTES + choice.depth * BARRIERS_BYTES + DRIVER_BYTES
        if choice.tiles <= NARROW_TILES:
            assert room / 2 < block <= room * NARROW_SHARE
        else:
            assert room / 3 < block <= room * (1 - NARROW_SHARE)
        assert choice.blocks == h200.sms
        assert choice.tiles * choice.blocks >= layer.tiles
        assert choice.rows >= rows
        assert choice.summed % choice.together == 0
        assert layer.groups % choice.step == 0
        if choice.keep:
            assert choice.warps * choice.step == layer.groups


def test_layers_that_other_kernels_take() -> None:
    assert choose_stream(Layer(1, 384, 32, 128, False), gpu("orin")) is None  # no bulk copies
    assert choose_stream(Layer(5, 384, 32, 128, False), gpu("h200")) is None  # rows
    assert choose_stream(Layer(1, 128, 32, 128, False), gpu("h200")) is None  # fewer tiles than SMs
    assert choose_stream(Layer(1, 384, 2, 128, False), gpu("h200")) is None  # channels for two warps
