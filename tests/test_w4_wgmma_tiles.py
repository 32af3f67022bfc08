"""The division of 4-bit linear layers among blocks of warp groups: what fits, what fills the chip."""

from __future__ import annotations

import pytest

from edgec.backends.w4_tiles import RESERVED_SHARED, Layer
from edgec.backends.w4_wgmma_tiles import WideRows, choose_wide
from edgec.plan import Gpu
from edgec.targets.load import load_target

LLAMA = {"qkv": (6144, 4096), "out": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    found = load_target("h200").gpu
    assert found is not None
    return found


def layer(rows: int, outputs: int, channels: int, group: int = 128, asymmetric: bool = False) -> Layer:
    return Layer(rows, -(-outputs // 16), channels // group, group, asymmetric)


def chosen(gpu: Gpu, given: Layer) -> WideRows:
    choice = choose_wide(given, gpu)
    assert choice is not None
    return choice


@pytest.mark.parametrize("group", [64, 128])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_blocks_fit_their_sm_and_cover_the_layer(gpu: Gpu, group: int, asymmetric: bool) -> None:
    for rows in (9, 16, 17, 33, 65, 129, 5000):
        for outputs, channels in ((16, group), (5, 64 * 31 // group * group), *LLAMA.values()):
            given = layer(rows, outputs, channels, group, asymmetric)
            choice = chosen(gpu, given)
            shape = choice.shape
            used = choice.shared_bytes(given) + RESERVED_SHARED
            assert used * shape.per_sm <= gpu.shared_bytes
            assert shape.threads * shape.per_sm <= 2048
            columns, above, _ = choice.blocks(given)
            assert columns // choice.splits * shape.tiles >= given.tiles
            assert above * shape.x_rows >= rows
            assert choice.splits <= choice.slices(given)


@pytest.mark.parametrize("rows", [16, 32, 64, 128])
def test_layers_of_a_language_model_fill_seven_tenths_of_the_chip(gpu: Gpu, rows: int) -> None:
    for outputs, channels in LLAMA.values():
        given = layer(rows, outputs, channels)
        choice = chosen(gpu, given)
        assert choice.blocks(given)[0] >= 0.7 * gpu.sms


def test_a_layer_of_more_rows_than_a_grid_has_is_refused(gpu: Gpu) -> None:
    assert choose_wide(layer(128 * 65535, 16, 128), gpu) is not None
    assert choose_wide(layer(128 * 65535 + 1, 16, 128), gpu) is None
