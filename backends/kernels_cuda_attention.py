"""Kernel records of the CUDA backend: attention over values, over windows of a map, and linear attention.

Half types run on tensor cores where rows are whole 16-byte vectors; all else has a plain kernel. Attention over a cache
is in kernels_cuda_cached.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from edgec.backends.cuda_attention_tiles import DEPTH_MAX, choose_tile
from edgec.backends.cuda_record import CUDA_TYPE, GRID_MOST, blocks_for, gpu_of, is_float
from edgec.backends.kernel_record import Accepts, Fields, constant, int_fields
from edgec.ir import DType, Type
from edgec.ops.attention import AttentionAttrs
from edgec.ops.heads import Place, dense_place
from edgec.ops.linear_attention import LinearAttentionAttrs
from edgec.ops.strided_attention import StridedAttentionAttrs
from edgec.ops.window_attention import WindowAttentionAttrs
from edgec.plan import Grid, Kernel, Launch, NodeView, Packed, Target

Launcher = Callable[[NodeView, Target], Launch]
MaskKind = Literal["", "boolean", "additive"]
LOG2E: Final = math.log2(math.e)
VECTOR: Final = 8  # half elements of a 16-byte load
PLAIN_WARPS: Final = 4
LINEAR_WARPS: Final = 16
LINEAR_DEPTHS: Final = (8, 16, 32)
LINEAR_TOKENS: Final = 1024  # that one block sums up; more are divided
LINEAR_PART: Final = 256
LINEAR_LEAST: Final = 32


def whole_vectors(*numbers: int) -> bool:
    """Whether steps and sizes of half elements keep 16-byte loads aligned."""
    return all(n % VECTOR == 0 for n in numbers)


def strided_attrs(node: NodeView) -> StridedAttentionAttrs:
    """What the node computes, as places: its own attributes, or those that an `attention` amounts to."""
    attrs = node.node.attrs
    if isinstance(attrs, StridedAttentionAttrs):
        return attrs
    assert isinstance(attrs, AttentionAttrs)
    q, k, v = (t.dims for t in node.inputs[:3])
    return StridedAttentionAttrs(
        attrs.scale,
        batch=q[0],
        queries=q[2],
        keys=k[2],
        heads=q[1],
        kv_heads=k[1],
        depth=q[3],
        value_depth=v[3],
        q=dense_place(q),
        k=dense_place(k),
        v=dense_place(v),
        causal=attrs.causal,
    )


def mask_kind(node: NodeView) -> MaskKind:
    """ "" without a mask."""
    if len(node.inputs) == 3:
        return ""
    return "boolean" if node.inputs[3].dtype is DType.B8 else "additive"


def one_float(types: tuple[Type, ...]) -> bool:
    """Whether all are of one plain float type."""
    return all(is_float(t) for t in types) and len({t.dtype for t in types}) == 1


def _accepts_plain(kind: MaskKind) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        if mask_kind(node) != kind:
            return False
        values = (*node.inputs[:3], *(node.inputs[3:] if kind == "additive" else ()), *node.outputs)
        a = strided_attrs(node)
        return one_float(values) and a.value_depth <= DEPTH_MAX and plain_fits(a.depth, target)

    return accepts


def accepts_tiles(kind: MaskKind) -> Accepts:
    def accepts(node: NodeView, target: Target) -> bool:
        if not _accepts_plain(kind)(node, target) or not node.inputs[0].dtype.is_half:
            return False
        a = strided_attrs(node)
        sizes = (a.depth, a.value_depth, *a.q, *a.k, *a.v)
        return whole_vectors(*sizes) and a.depth <= DEPTH_MAX and max(a.kv_heads, a.batch) <= GRID_MOST

    return accepts


def place_fields(name: str, place: Place) -> Fields:
    """The fields of one place of a params struct."""
    return tuple(zip((f"{name}_{f}" for f in ("offset", "batch", "head", "token")), place, strict=True))


def _mask_steps(node: NodeView) -> Fields:
    own = node.inputs[3].dims if len(node.inputs) == 4 else ()
    dims = (1,) * (4 - len(own)) + own
    steps = [0 if dims[i] == 1 else math.prod(dims[i + 1 :]) for i in range(4)]
    return int_fields(mask_batch=steps[0], mask_head=steps[1], mask_query=steps[2], mask_key=steps[3])


def strided_fields(node: NodeView) -> Fields:
    a = strided_attrs(node)
    if node.node.op == "attention":
        y = int_fields(
            y_batch=a.heads * a.queries * a.value_depth,
            y_head=a.queries * a.value_depth,
            y_token=a.value_depth,
        )
    else:
        y = int_fields(
            y_batch=a.queries * a.heads * a.value_depth, y_head=a.value_depth, y_token=a.heads * a.value_depth
        )
    return (
        *place_fields("q", a.q),
        *place_fields("k", a.k),
        *place_fields("v", a.v),
        *y,
        *_mask_steps(node),
        *int_fields(
            rows=a.batch * a.heads * a.queries,
            queries=a.queries,
            keys=a.keys,
            heads=a.heads,
            kv_heads=a.kv_heads,
            depth=a.depth,
            value_depth=a.value_depth,
            causal=int(a.causal),
            window=a.window,
        ),
        ("scale", a.scale * LOG2E),
    )


def _launch_tiles(node: NodeView, target: Target) -> Launch:
    a, kind, gpu = strided_attrs(node), mask_kind(node), gpu_of(target)
    rows = a.queries * (a.heads // a.kv_heads)
    tile = choose_tile(rows, a.kv_heads * a.batch, a.keys, (a.depth, a.value_depth), gpu, bool(kind))
    grid = Grid(
        f"ec_attention_{kind}_body" if kind else "ec_attention_body",
        tile.template(node.inputs[0].dtype),
        (blocks_for(rows, tile.rows), a.kv_heads, a.batch),
        tile.threads,
        tile.shared_bytes(a.keys),
    )
    return Launch("ec_attention_params", strided_fields(node), tuple(range(len(node.inputs))), (), (grid,))


def channels_a_lane(value_depth: int) -> str:
    """The template argument V of the plain kernels."""
    return str(next(v for v in (1, 2, 4, 8) if value_depth <= 32 * v))


def plain_fits(depth: int, target: Target) -> bool:
    """Whether a block of a plain kernel has shared memory for its query rows."""
    return 4 * PLAIN_WARPS * depth <= gpu_of(target).shared_bytes


def plain_grid(body: str, dtype: DType, rows: int, depths: tuple[int, int]) -> Grid:
    """The launch of a plain kernel: a warp a query row."""
    template = (CUDA_TYPE[dtype], channels_a_lane(depths[1]))
    return Grid(
        body, template, (blocks_for(rows, PLAIN_WARPS), 1, 1), 32 * PLAIN_WARPS, 4 * PLAIN_WARPS * depths[0]
    )


def _launch_plain(node: NodeView, target: Target) -> Launch:
    a, kind = strided_attrs(node), mask_kind(node)
    body = f"ec_attention_plain_{kind}_body" if kind else "ec_attention_plain_body"
    rows = a.batch * a.heads * a.queries
    grid = plain_grid(body, node.inputs[0].dtype, rows, (a.depth, a.value_depth))
    return Launch("ec_attention_params", strided_fields(node), tuple(range(len(node.inputs))), (), (grid,))


def window_attrs(node: NodeView) -> WindowAttentionAttrs:
    """The node's attributes."""
    attrs = node.node.attrs
    assert isinstance(attrs, WindowAttentionAttrs)
    return attrs


def _accepts_window_plain(node: NodeView, target: Target) -> bool:
    return one_float((*node.inputs, *node.outputs)) and window_attrs(node).depth <= DEPTH_MAX


def _accepts_window(node: NodeView, target: Target) -> bool:
    a = window_attrs(node)
    if not _accepts_window_plain(node, target) or not node.inputs[0].dtype.is_half:
        return False
    if len(node.inputs) == 4 and node.constants[3] is None:
        return False
    channels = tuple(t.dims[3] for t in node.inputs[:3])
    grid = _window_grid(node, target)
    fits = grid.shared_bytes <= gpu_of(target).shared_bytes and max(grid.blocks[1:]) <= GRID_MOST
    return fits and whole_vectors(a.depth, *a.q, *a.k, *a.v, *channels)


def _window_geometry(node: NodeView) -> tuple[int, int, int]:
    """(windows of all samples, pixels of one, row of the packed bias)."""
    a, (n, h, w, _) = window_attrs(node), node.inputs[0].dims
    pixels = math.prod(a.window)
    return n * h * w // pixels, pixels, -(-pixels // VECTOR) * VECTOR if len(node.inputs) == 4 else 0


def _window_fields(node: NodeView, pitch: int) -> Fields:
    a, (n, h, w, _) = window_attrs(node), node.inputs[0].dims
    return (
        *int_fields(
            q_first=a.q[0], q_head=a.q[1], k_first=a.k[0], k_head=a.k[1], v_first=a.v[0], v_head=a.v[1]
        ),
        *int_fields(
            q_channels=node.inputs[0].dims[3],
            k_channels=node.inputs[1].dims[3],
            v_channels=node.inputs[2].dims[3],
            batch=n,
            rows=h,
            columns=w,
            window_rows=a.window[0],
            window_columns=a.window[1],
            shift_rows=a.shift[0],
            shift_columns=a.shift[1],
            heads=a.heads,
            depth=a.depth,
            bias_pitch=pitch,
        ),
        ("hidden", a.hidden * LOG2E),
        ("scale", a.scale * LOG2E),
    )


def _window_grid(node: NodeView, target: Target) -> Grid:
    a, (windows, pixels, pitch) = window_attrs(node), _window_geometry(node)
    tile = choose_tile(pixels, a.heads * windows, pixels, (a.depth, a.depth), gpu_of(target), masked=True)
    t, depth, _, *rest = tile.template(node.inputs[0].dtype)
    return Grid(
        "ec_attention_window_bias_body" if pitch else "ec_attention_window_body",
        (t, depth, *rest),
        (blocks_for(pixels, tile.rows), a.heads, windows),
        tile.threads,
        tile.shared_bytes(pixels) + 2 * tile.rows * pitch + pixels,
        waits=True,  # the bias is asked for first
    )


def _launch_window(node: NodeView, target: Target) -> Launch:
    _, pixels, pitch = _window_geometry(node)
    constants: tuple[Packed, ...] = ()
    if pitch:
        bias = np.zeros((window_attrs(node).heads, pixels, pitch), node.inputs[0].dtype.numpy)
        bias[..., :pixels] = constant(node, 3)
        constants = (Packed("bias", "window", bias),)
    grid = _window_grid(node, target)
    return Launch("ec_window_attention_params", _window_fields(node, pitch), (0, 1, 2), constants, (grid,))


def _launch_window_plain(node: NodeView, target: Target) -> Launch:
    a, (windows, pixels, _) = window_attrs(node), _window_geometry(node)
    body = "ec_window_plain_bias_body" if len(node.inputs) == 4 else "ec_window_plain_body"
    grid = plain_grid(body, node.inputs[0].dtype, windows * a.heads * pixels, (a.depth, a.depth))
    inputs = tuple(range(len(node.inputs)))
    return Launch("ec_window_attention_params", _window_fields(node, 0), inputs, (), (grid,))


def linear_attrs(node: NodeView) -> LinearAttentionAttrs:
    """The node's attributes."""
    attrs = node.node.attrs
    assert isinstance(attrs, LinearAttentionAttrs)
    return attrs


def _accepts_linear(node: NodeView, target: Target) -> bool:
    a = linear_attrs(node)
    steps = (*a.q, *a.k, *a.v)
    vector = VECTOR if node.inputs[0].dtype.is_half else 4
    aligned = all(s % vector == 0 for s in steps)
    fits = a.depth in LINEAR_DEPTHS and max(a.heads, a.batch) <= GRID_MOST
    return one_float((*node.inputs, *node.outputs)) and fits and aligned


def _accepts_linear_short(node: NodeView, target: Target) -> bool:
    return _accepts_linear(node, target) and linear_attrs(node).tokens <= LINEAR_TOKENS


def _linear_part(node: NodeView, target: Target) -> int:
    """Tokens of which a block makes y: fewer than it sums up where multiprocessors would be idle."""
    a = linear_attrs(node)
    room = max(1, gpu_of(target).sms // (a.heads * a.batch))
    return max(LINEAR_LEAST, -(-a.tokens // room))


def _linear_parts(node: NodeView) -> int:
    return blocks_for(linear_attrs(node).tokens, LINEAR_PART)


def _linear_scratch(node: NodeView, target: Target) -> int:
    a = linear_attrs(node)
    return 4 * a.batch * a.heads * _linear_parts(node) * a.depth * (a.depth + 1)


def _launch_linear(node: NodeView, target: Target) -> Launch:
    return _linear_launch(node, _linear_part(node, target), ("ec_linear_attention_body",))


def _launch_linear_parts(node: NodeView, target: Target) -> Launch:
    bodies = ("ec_linear_attention_sums_body", "ec_linear_attention_apply_body")
    return _linear_launch(node, LINEAR_PART, bodies)


def _linear_launch(node: NodeView, part: int, bodies: tuple[str, ...]) -> Launch:
    a = linear_attrs(node)
    fields = (
        *place_fields("q", a.q),
        *place_fields("k", a.k),
        *place_fields("v", a.v),
        *int_fields(tokens=a.tokens, heads=a.heads, depth=a.depth, part=part),
        ("eps", a.eps),
    )
    template = (CUDA_TYPE[node.inputs[0].dtype], str(a.depth))
    shared = 4 * (LINEAR_WARPS + 1) * a.depth * (a.depth + 1)
    blocks = (blocks_for(a.tokens, part), a.heads, a.batch)
    grids = tuple(Grid(b, template, blocks, 32 * LINEAR_WARPS, shared) for b in bodies)
    return Launch("ec_linear_attention_params", fields, (0, 1, 2), (), grids)


def _softmax_kernels() -> tuple[Kernel, ...]:
    kinds: tuple[MaskKind, ...] = ("", "boolean", "additive")
    made: list[Kernel] = []
    for op in ("attention", "strided_attention"):
        for kind in kinds:
            name = f"ec_{op}_{kind}_" if kind else f"ec_{op}_"
            made.append(
                Kernel(op, f"{name}cuda", "cuda/ec_attention.cu", 100, accepts_tiles(kind), _launch_tiles)
            )
            made.append(
                Kernel(
                    op,
                    f"{name}plain_cuda",
                    "cuda/ec_attention_plain.cu",
                    900,
                    _accepts_plain(kind),
                    _launch_plain,
                )
            )
    return tuple(made)


KERNELS: Final[tuple[Kernel, ...]] = (
    *_softmax_kernels(),
    Kernel(
        "window_attention",
        "ec_window_attention_cuda",
        "cuda/ec_attention_window.cu",
        100,
        _accepts_window,
        _launch_window,
    ),
    Kernel(
        "window_attention",
        "ec_window_attention_plain_cuda",
        "cuda/ec_attention_plain.cu",
        900,
        _accepts_window_plain,
        _launch_window_plain,
    ),
    Kernel(
        "linear_attention",
        "ec_linear_attention_cuda",
        "cuda/ec_attention_linear.cu",
        100,
        _accepts_linear_short,
        _launch_linear,
    ),
    Kernel(
        "linear_attention",
        "ec_linear_attention_parts_cuda",
        "cuda/ec_attention_linear.cu",
        110,
        _accepts_linear,
        _launch_linear_parts,
        scratch=_linear_scratch,
    ),
)
