"""Division of 4-bit layers whose weights stream through shared memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgec.backends.w4_stream import CHANNELS_MOST, WIDE_CHANNELS, choose_stream, shared_bytes
from edgec.backends.w4_tiles import Layer
from edgec.plan import Gpu
from edgec.targets.load import load_target


def gpu(name: str) -> Gpu:
    found = load_target(name).gpu
    assert found is not None
    return found


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 9, 16])
@pytest.mark.parametrize("group", [64, 128])
@pytest.mark.parametrize(
    ("outputs", "channels"),
    [(6144, 4096), (28672, 4096), (4096, 14336), (4096, 11008), (2304, 1152), (5120, 5120), (128256, 2048)],
)
def test_each_block_has_an_sm_and_all_groups_a_warp(
    rows: int, group: int, outputs: int, channels: int
) -> None:
    h200 = gpu("h200")
    for asymmetric in (False, True):
        layer = Layer(rows, outputs // 16, channels // group, group, asymmetric)
        choice = choose_stream(layer, h200)
        if choice is None:
            assert rows > 8 and group == 64  # sums of x of so many groups
            continue
        assert choice.needed_bytes(layer) <= shared_bytes(h200)
        assert h200.sms * 0.95 < choice.blocks <= h200.sms
        assert choice.tiles * choice.columns >= layer.tiles
        assert choice.pair == (rows > 1)
        assert choice.columns % (2 if choice.pair else 1) == 0
        assert (choice.splits - 1) * choice.split_groups < layer.groups <= choice.splits * choice.split_groups
        assert (choice.warps - 1) * choice.step < choice.split_groups <= choice.warps * choice.step
        assert choice.step * group <= CHANNELS_MOST
        assert choice.split_groups * group <= WIDE_CHANNELS
        assert choice.warps <= 16
        assert (choice.scratch_bytes(layer) > 0) == (choice.splits > 1)
        assert choice.counters_bytes() == 4 * choice.warps * choice.columns


def test_many_tiles_have_more_stages() -> None:
    h200 = gpu("h200")
    few, many, split = (
        Layer(1, tiles, groups, 128, False) for tiles, groups in ((384, 32), (1792, 32), (256, 112))
    )
    for layer, rows, stages in (
        (few, 1, (2, 0)),
        (few, 16, (2, 0)),
        (many, 8, (3, 1)),
        (many, 16, (2, 1)),
        (split, 1, (3, 1)),
        (split, 16, (2, 1)),
    ):
        choice = choose_stream(replace(layer, rows=rows), h200)
        assert choice is not None and (choice.depth, choice.more) == stages
    wide = choose_stream(Layer(8, 1792, 48, 128, False), h200)
    assert wide is not None and (wide.depth, wide.more) == (2, 1)  # no room for a third stage


def test_layers_that_other_kernels_take() -> None:
    assert choose_stream(Layer(1, 384, 32, 128, False), gpu("orin")) is None  # no bulk copies
    assert choose_stream(Layer(17, 384, 32, 128, False), gpu("h200")) is None  # rows
    assert choose_stream(Layer(1, 128, 32, 128, False), gpu("h200")) is None  # fewer tiles than SMs
    assert choose_stream(Layer(1, 384, 4, 128, False), gpu("h200")) is None  # channels for two warps
    assert choose_stream(Layer(16, 9000, 32, 128, False), gpu("h200")) is None  # no room for their scales
