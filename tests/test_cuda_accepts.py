"""What CUDA records refuse: sizes at which their launch or their index arithmetic would leave its range.

No GPU and no memory of these sizes is needed: a record decides by types alone.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgec.backends import kernels_cuda
from edgec.errors import TargetError
from edgec.ir import Array, Attrs, DType, Loc, Node, Program, Quant, Type, Value
from edgec.ops import OPS
from edgec.ops.attention import AttentionAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.gather import IndexCopyAttrs, ScatterAddAttrs, ScatterAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.linear_w4 import LinearW4Attrs
from edgec.ops.norm import GroupNormAttrs
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, AdaptiveMaxPool2dAttrs
from edgec.ops.reduce import ArgmaxAttrs, ReduceAttrs
from edgec.ops.shape import TransposeAttrs
from edgec.ops.softmax import SoftmaxAttrs
from edgec.ops.window_attention import WindowAttentionAttrs
from edgec.passes.choose_kernels import choose_kernels
from edgec.plan import Kernel, Launch, NodeView, Target
from edgec.targets.load import load_target
from edgec.text import read

BLOCKS_MOST = (2**31 - 1, 65535, 65535)  # of a grid; CUDA C++ Programming Guide, Technical Specifications
HALF, FLOAT = DType.F16, DType.F32


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target("h200")


def plain(dtype: DType, *shape: int) -> Type:
    return Type(shape, dtype)


def int8(*shape: int) -> Type:
    return Type(shape, DType.I8, Quant((0.1,), (3,)))


def view_of(
    op: str,
    attrs: Attrs,
    *inputs: Type,
    out: Type | None = None,
    constants: dict[int, Array] | None = None,
) -> NodeView:
    """A node by its types. `out`: inferred where it is not given."""
    outputs = OPS[op].infer(attrs, inputs) if out is None else (out,)
    names = tuple(f"x{i}" for i in range(len(inputs)))
    values = tuple(Value(f"y{i}", t) for i, t in enumerate(outputs))
    held = tuple((constants or {}).get(i) for i in range(len(inputs)))
    return NodeView(Node(op, names, values, attrs, Loc(op)), tuple(inputs), outputs, held)


def chosen(view: NodeView, target: Target) -> Kernel | None:
    """The best record that takes the node."""
    records = sorted(kernels_cuda.KERNELS, key=lambda k: (k.rank, k.symbol))
    return next((k for k in records if k.op == view.node.op and k.accepts(view, target)), None)


def symbol(view: NodeView, target: Target) -> str:
    """Its symbol; "" where none does. The launch is checked to fit a grid."""
    kernel = chosen(view, target)
    if kernel is None:
        return ""
    launch = kernel.launch(view, target)
    assert fits(launch), launch.grids
    return kernel.symbol


def fits(launch: Launch) -> bool:
    """Whether every grid is one that the driver launches."""
    grids = [g.blocks for g in launch.grids]
    return all(1 <= n <= most for blocks in grids for n, most in zip(blocks, BLOCKS_MOST, strict=True))


def test_a_plain_linear_layer_of_more_outputs_than_warps_can_be_counted_is_refused(target: Target) -> None:
    """A thread's number has 32 bits, and each output takes 32 threads."""

    def view(rows: int) -> NodeView:  # k = 3: rows of weights that are computed are no whole vectors
        return view_of("linear", LinearAttrs(), plain(HALF, rows, 3), plain(HALF, 1024, 3))

    assert symbol(view(2**17 - 1), target) == "ec_linear_plain_cuda"
    assert symbol(view(2**17), target) == ""


def test_a_4_bit_layer_of_more_rows_than_a_grid_has_is_refused(target: Target) -> None:
    packed, scale = np.zeros((16, 32), np.uint8), np.ones((16, 1), np.float16)
    held = {1: packed, 2: scale, 3: np.full((16, 1), 8, np.uint8)}
    weights = (plain(DType.U8, 16, 32), plain(HALF, 16, 1), plain(DType.U8, 16, 1))

    def view(rows: int) -> NodeView:
        return view_of("linear_w4", LinearW4Attrs(64), plain(HALF, rows, 64), *weights, constants=held)

    assert symbol(view(128 * 65535), target) != ""
    assert symbol(view(128 * 65535 + 1), target) == ""


def test_a_reduction_with_a_warp_an_output_is_refused_likewise(target: Target) -> None:
    def view(op: str, t: Type, out: Type) -> NodeView:
        return view_of(op, ReduceAttrs((1, 3), False), t, out=out)

    for op in ("reduce_sum", "reduce_max"):
        large = (2**13, 2, 2**14, 2)
        small = (2**13 - 1, 2, 2**14, 2)
        assert symbol(view(op, plain(HALF, *large), plain(HALF, 2**13, 2**14)), target) == ""
        assert symbol(view(op, plain(HALF, *small), plain(HALF, 2**13 - 1, 2**14)), target) != ""
        assert symbol(view(op, int8(*large), int8(2**13, 2**14)), target) == ""
        assert symbol(view(op, int8(*small), int8(2**13 - 1, 2**14)), target) != ""


def test_an_int8_softmax_of_too_many_rows_is_refused(target: Target) -> None:
    y = Quant((1 / 256,), (-128,))

    def view(rows: int) -> NodeView:
        return view_of("softmax", SoftmaxAttrs(1), int8(rows, 4), out=Type((rows, 4), DType.I8, y))

    assert symbol(view(2**27 - 1), target) == "ec_softmax_s8_cuda"
    assert symbol(view(2**27), target) == ""


def test_a_transpose_of_more_tiles_than_a_grid_has_is_a_copy(target: Target) -> None:
    def view(rows: int) -> NodeView:
        return view_of("transpose", TransposeAttrs((1, 0)), plain(HALF, 16, rows))

    assert symbol(view(64 * 65535), target) == "ec_transpose_cuda"
    assert symbol(view(64 * 65535 + 1), target) == "ec_copy_cuda"


@pytest.mark.parametrize("op", ["adaptive_avg_pool2d", "adaptive_max_pool2d"])
def test_an_adaptive_pool_whose_windows_leave_int32_is_refused(op: str, target: Target) -> None:
    attrs = {"adaptive_avg_pool2d": AdaptiveAvgPool2dAttrs, "adaptive_max_pool2d": AdaptiveMaxPool2dAttrs}[op]

    def view(outputs: int, t: Type) -> NodeView:
        return view_of(op, attrs((1, outputs)), t, out=Type((1, 1, outputs, 4), t.dtype, t.quant))

    for t in (plain(HALF, 1, 1, 2**17 - 1, 4), int8(1, 1, 2**17 - 1, 4)):
        assert symbol(view(2**14 - 1, t), target) != ""
        assert symbol(view(2**14, t), target) == ""


def test_windows_and_images_beyond_a_grid_are_refused_or_plain(target: Target) -> None:
    attrs = WindowAttentionAttrs(0.3, 2, 8, (2, 2), (0, 0), (0, 8), (16, 8), (32, 8))
    for n, wanted in ((65535, "ec_window_attention_cuda"), (65536, "ec_window_attention_plain_cuda")):
        x = plain(HALF, n, 2, 2, 48)
        assert symbol(view_of("window_attention", attrs, x, x, x), target) == wanted
    for n, wanted in ((65535, "ec_attention_cuda"), (65536, "ec_attention_plain_cuda")):
        x = plain(HALF, n, 2, 4, 8)
        assert symbol(view_of("attention", AttentionAttrs(0.3), x, x, x), target) == wanted
    for n, wanted in ((65535, "ec_group_norm_cuda"), (65536, "")):
        assert symbol(view_of("group_norm", GroupNormAttrs(2, 1e-5), plain(HALF, n, 4)), target) == wanted


def test_attention_of_channels_beyond_shared_memory_is_refused(target: Target) -> None:
    for depth, wanted in ((8192, "ec_attention_plain_cuda"), (2**15, "")):
        q, v = plain(FLOAT, 1, 1, 2, depth), plain(FLOAT, 1, 1, 2, 8)
        assert symbol(view_of("attention", AttentionAttrs(0.3), q, q, v), target) == wanted


@pytest.mark.parametrize(("width", "kind"), [(32766, 3), (32767, 2)])
def test_an_int8_convolution_of_a_wide_map_does_not_count_columns_in_int16(
    width: int, kind: int, target: Target
) -> None:
    """EC_ROWS_RUNS (3) packs a window's first row and column into 16 bits each; EC_ROWS_WINDOWS (2) does not."""
    w = np.ones((4, 3, 3, 3), np.int8)
    types = (int8(1, 4, width, 3), Type(w.shape, DType.I8, Quant((0.1,), (0,))))
    view = view_of(
        "conv2d", Conv2dAttrs(pad=(1, 1, 1, 1)), *types, out=int8(1, 4, width, 4), constants={1: w}
    )
    kernel = chosen(view, target)
    assert kernel is not None and kernel.symbol == "ec_conv2d_s8_cuda"
    (grid,) = kernel.launch(view, target).grids
    assert grid.template[8] == str(kind)


def test_weights_that_are_computed_may_have_rows_of_any_length(target: Target) -> None:
    view = view_of("conv2d", Conv2dAttrs(), plain(HALF, 1, 8, 8, 3), plain(HALF, 5, 3, 3, 3))
    assert symbol(view, target) == "ec_conv2d_grouped_cuda"


def test_a_tensor_without_elements_is_refused(target: Target) -> None:
    text = "graph infer(%x: f16[0,3]) {\n  %y: f16[0,3] = relu(%x) {}  // a.act net.py:1\n  return %y\n}\n"
    with pytest.raises(TargetError) as caught:
        choose_kernels(Program((read(text),), {}, {}), target, kernels_cuda.KERNELS)
    assert str(caught.value) == (
        "EDGEC-E402: replace these layers, or compile with --precision fp32 or for another target: h200 has no kernel "
        "for 1 node (see `edgec ops`)\n  relu(f16[0,3]) at a.act (net.py:1)"
    )


def test_rows_whose_int32_index_would_step_beyond_its_range_are_refused(target: Target) -> None:
    ops: tuple[tuple[str, Attrs], ...] = (
        ("argmax", ArgmaxAttrs(1)),
        ("reduce_sum", ReduceAttrs((1,))),
        ("softmax", SoftmaxAttrs(1)),
    )
    for op, attrs in ops:
        for beyond in (0, 1):
            size = 2**31 - 2**21 + beyond
            view = view_of(op, attrs, plain(HALF, 1, size))
            assert (chosen(view, target) is None) == bool(beyond), (op, size)
    view = view_of("argmax", ArgmaxAttrs(1), plain(HALF, 1, 2**31 - 2**21))
    (grid,) = chosen(view, target).launch(view, target).grids  # type: ignore[union-attr]
    assert grid.blocks[0] * grid.threads * 16 <= 2**20  # what an index steps by


def test_more_indices_than_a_thread_may_look_through_for_equal_ones_are_refused(target: Target) -> None:
    x = plain(HALF, 100, 4)
    ops: tuple[tuple[str, Attrs], ...] = (
        ("scatter", ScatterAttrs(0)),
        ("scatter_add", ScatterAddAttrs(0)),
        ("index_copy", IndexCopyAttrs(0)),
    )
    for op, attrs in ops:
        for count in (1 << 16, (1 << 16) + 1):
            index = plain(DType.I64, count) if op == "index_copy" else plain(DType.I64, count, 4)
            view = view_of(op, attrs, x, index, plain(HALF, count, 4))
            assert (chosen(view, target) is None) == (count > 1 << 16), (op, count)
