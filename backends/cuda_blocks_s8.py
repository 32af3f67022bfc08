"""Int8 inverted residuals as one to three launches on CUDA (runtime_c/cuda/ec_inverted_s8.cu).

`find_blocks` is what passes/join_blocks.py asks for: in the calls of an entry it finds

    [1x1 convolution ->] depthwise convolution -> 1x1 convolution [+ add]
    [1x1 convolution ->] depthwise convolution -> average -> 1x1 -> 1x1 -> mul -> 1x1 convolution [+ add]

with the activations that are joined to them, and makes the calls of the kernels that do them together. Weights, records
and tables are those that the calls had packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgec.backends.cuda_inverted_s8 import (
    BLOCK,
    BLOCK_AT,
    WORDS,
    Layout,
    Shape,
    Share,
    blocks_of,
    choose,
    constants_of,
    halo,
    layout,
    round_up,
    tiles_of,
)
from edgec.backends.cuda_record import flag, gpu_of
from edgec.backends.cuda_tiles_s8 import CLUSTER_COMPUTE
from edgec.backends.cuda_weights_s8 import SHIFTS_HIGH
from edgec.backends.kernels_c_pointwise import TABLE_OPS
from edgec.ir import Array, DType, Type
from edgec.plan import (
    Argument,
    Block,
    Buffer,
    BufferArg,
    Call,
    ConstantArg,
    Flow,
    Grid,
    Kernel,
    Launch,
    LoopStep,
    NodeView,
    PlanConstant,
    Target,
    Use,
)

POINTWISE, DEPTHWISE, ROWS = "ec_conv2d_s8_cuda", "ec_depthwise_conv2d_s8_cuda", "ec_conv2d_rows_s8_cuda"
AVERAGE, MUL = "ec_global_adaptive_avg_pool2d_s8_cuda", "ec_mul_s8_cuda"
SQUEEZE_THREADS: Final = 1024
SOURCE: Final = "cuda/ec_inverted_s8.cu"
Fields = dict[str, int | float]


def _no_node(node: NodeView, target: Target) -> bool:
    """These kernels stand for several nodes: find_blocks alone makes their calls."""
    return False


def _no_launch(node: NodeView, target: Target) -> Launch:
    raise AssertionError("a kernel of several nodes has no launch of one")


def _kernel(op: str) -> Kernel:
    return Kernel(op, f"ec_{op}_s8_cuda", SOURCE, 100, _no_node, _no_launch)


INVERTED, EXPANDED = _kernel("inverted_residual"), _kernel("expanded_depthwise")
SQUEEZE, GATED = _kernel("squeeze_excite"), _kernel("gated_conv2d")
KERNELS: Final = (INVERTED, EXPANDED, SQUEEZE, GATED)


@dataclass(frozen=True, slots=True)
class _Front:
    """An expanding product, if any, and the depthwise convolution after it, by their places."""

    expand: int | None
    depthwise: int

    @property
    def places(self) -> tuple[int, ...]:
        return (self.depthwise,) if self.expand is None else (self.expand, self.depthwise)


def find_blocks(flow: Flow, target: Target) -> Sequence[Block]:
    """The inverted residuals of an entry, where the GPU has clusters."""
    if gpu_of(target).compute < CLUSTER_COMPUTE:
        return ()
    found = (_block(flow, place, target) for place in range(len(flow.calls)))
    return tuple(block for block in found if block is not None)


def _block(flow: Flow, place: int, target: Target) -> Block | None:
    """The inverted residual that ends with the call at `place`."""
    project = flow.calls[place]
    if not _is_pointwise(project) or not _ends(project):
        return None
    before = _maker(flow, project.inputs[0], (place,))
    if before is None:
        return None
    if flow.calls[before].kernel.symbol == MUL:
        return _gated_block(flow, before, place, target)
    front = _front(flow, before)
    return None if front is None else _inverted_block(flow, front, place, target)


def _maker(flow: Flow, argument: Argument, readers: tuple[int, ...]) -> int | None:
    """The call that makes what `argument` points to, where only `readers` read it."""
    if not isinstance(argument, BufferArg) or flow.readers.get(argument.buffer) != readers:
        return None
    return flow.writers[argument.buffer]


def _front(flow: Flow, place: int) -> _Front | None:
    """The depthwise convolution at `place`, with the product before it where that is read by it alone."""
    call = flow.calls[place]
    if not _is_depthwise(call):
        return None
    before = _maker(flow, call.inputs[0], (place,))
    expands = before is not None and _is_pointwise(flow.calls[before]) and _activation(flow.calls[before])[0]
    return _Front(before if expands else None, place)


def _fields(call: Call) -> Fields:
    return dict(call.params)


def _of_map(call: Call) -> bool:
    return all(t.dtype is DType.I8 and len(t.shape) == 4 and not t.bounds for t in call.out_types)


def _is_pointwise(call: Call) -> bool:
    """A dense 1x1 convolution with requantisation in the high word."""
    if call.kernel.symbol != POINTWISE or not _of_map(call):
        return False
    f = _fields(call)
    whole = f["group_in"] == f["in_c"] and f["group_out"] == f["out_c"]
    dense = call.grids[0].template[8] == "0" and call.grids[0].template[10] == "true"
    return whole and dense and int(f["in_c"]) % 8 == 0 and int(f["out_c"]) % 8 == 0


def _is_depthwise(call: Call) -> bool:
    if call.kernel.symbol != DEPTHWISE or not _of_map(call):
        return False
    f = _fields(call)
    square = f["kernel_h"] == f["kernel_w"] and f["stride_h"] == f["stride_w"]
    known = int(f["kernel_h"]) in WORDS and int(f["channels"]) % 8 == 0
    return square and known and call.grids[0].template[4] == "true" and _activation(call)[0]


def _activation(call: Call) -> tuple[bool, ConstantArg | None]:
    """(whether nothing but a table follows the op itself, the table)."""
    if len(call.loop) < 2:
        return True, None
    own = len(call.loop[0].operands)
    step = call.loop[1]
    if len(call.loop) > 2 or step.op not in TABLE_OPS or step.operands != (-1, own):
        return False, None
    table = call.inputs[own]
    return (True, table) if isinstance(table, ConstantArg) else (False, None)


def _ends(call: Call) -> bool:
    """Whether nothing but the addition of another map follows the op itself."""
    if len(call.loop) < 2:
        return True
    step, own = call.loop[1], len(call.loop[0].operands)
    other = call.inputs[own] if len(call.inputs) > own else None
    adds = len(call.loop) == 2 and step.op in ("add", "sub") and sorted(step.operands) == [-1, own]
    return adds and isinstance(other, BufferArg) and call.in_types[own].dims == call.out_types[0].dims


def _sum_fields(call: Call) -> Fields:
    """From add to add_max of ec_inverted_s8_params."""
    if len(call.loop) < 2:
        return {}
    step: LoopStep = call.loop[1]
    f = dict(step.fields)
    both = (f["multiplier_a"], f["multiplier_b"])
    own, other = both if step.operands[0] == -1 else both[::-1]
    values = (own, other, f["offset"], f["shift"], f["zero_out"], f["act_min"], f["act_max"])
    return dict(zip(_SUM, (1, *values), strict=True))


_GEOMETRY: Final = ("in_h", "in_w", "in_c", "hidden", "out_h", "out_w", "out_c", "pad_top", "pad_left")
_TILES: Final = ("tile_h", "tile_w", "tiles_h", "tiles_w", "halo_h", "halo_w", "blocks", "block_bytes")
_PRODUCTS: Final = ("k1", "n2", "zero_hidden")
_CLAMPS: Final = ("min1", "max1", "table1", "min_d", "max_d", "table_d", "min2", "max2")
_GATE: Final = (
    *("gate_zero", "map_zero", "gate_multiplier", "gate_round", "gate_shift", "gate_zero_out"),
    *("gate_min", "gate_max"),
)
_SUM: Final = (
    *("add", "own_multiplier", "other_multiplier", "add_offset", "add_shift", "add_zero"),
    *("add_min", "add_max"),
)
_PLACES: Final = (
    *("w1", "w2", "wd", "records1", "records_d", "records2", "table1", "table_d", "place", "x", "e", "d"),
    "sums",
)


def _params(shape: Shape, share: Share, given: Fields, total: Fields) -> tuple[tuple[str, int | float], ...]:
    """Every field of ec_inverted_s8_params in order; what is not given is 0."""
    high, across = halo(shape, share) if shape.kernel else (0, 0)
    values = dict(zip(_GEOMETRY, (shape.in_h, shape.in_w, shape.in_c, shape.hidden), strict=False))
    values |= {"out_h": shape.out_h, "out_w": shape.out_w, "out_c": shape.outputs}
    values |= {"tile_h": share.tile_h, "tile_w": share.tile_w, "halo_h": high, "halo_w": across}
    values |= {
        "tiles_h": -(-shape.out_h // share.tile_h),
        "tiles_w": -(-shape.out_w // share.tile_w),
        "blocks": share.blocks,
        "block_bytes": layout(shape, share).block,
        "k1": blocks_of(shape.in_c),
        "n2": blocks_of(shape.outputs),
    }
    fields: Fields = dict.fromkeys((*_GEOMETRY, *_TILES, *_PRODUCTS, *_CLAMPS, *_GATE, *_SUM), 0)
    fields |= values | given | total
    places = layout(shape, share).at
    return (*fields.items(), *((f"at_{name}", places.get(name, 0)) for name in _PLACES))


def _front_fields(flow: Flow, front: _Front) -> Fields:
    depthwise = flow.calls[front.depthwise]
    f = _fields(depthwise)
    given: Fields = {"pad_top": f["pad_top"], "pad_left": f["pad_left"], "zero_hidden": f["zero_in"]}
    given |= {"min_d": f["act_min"], "max_d": f["act_max"]}
    given["table_d"] = int(_activation(depthwise)[1] is not None)
    if front.expand is not None:
        expand = flow.calls[front.expand]
        e = _fields(expand)
        given |= {"min1": e["act_min"], "max1": e["act_max"]}
        given["table1"] = int(_activation(expand)[1] is not None)
    return given


def _data(flow: Flow, argument: Argument) -> Array:
    assert isinstance(argument, ConstantArg)
    return np.asarray(flow.constants[argument.constant].data)


def _records(flow: Flow, call: Call, first: int, count: int) -> Array:
    """`count` records from channel `first` on, zeros where there are none, a free one after every eight."""
    rows = _rows(_data(flow, call.constants[1]).reshape(-1, 4), first, count)
    return np.pad(rows.reshape(-1, 8, 4), ((0, 0), (0, 1), (0, 0)))


def _rows(array: Array, first: int, count: int) -> Array:
    """`count` rows from `first` on, zeros where there are none."""
    found = array[first : first + count]
    return np.pad(found, ((0, count - found.shape[0]), *((0, 0),) * (array.ndim - 1)))


def _weights(flow: Flow, call: Call) -> Array:
    """Packed weights as [outputs / 32, k / 32, 1024]."""
    f = _fields(call)
    return _data(flow, call.constants[0]).reshape(int(f["n_blocks"]), int(f["k_blocks"]), -1)


def _share_constants(
    flow: Flow, calls: tuple[Call | None, Call | None, Call | None], shape: Shape, share: Share, part: int
) -> dict[str, Array]:
    """What the block of constants of one share holds, by name. `calls`: those that expand, go by channel, project."""
    expand, depthwise, project = calls
    first, k1, n2 = part * share.blocks, blocks_of(shape.in_c), blocks_of(shape.outputs)
    wide, found = BLOCK * share.blocks, {}
    if expand is not None:
        found["w1"] = _rows(_weights(flow, expand)[:, :k1], first, share.blocks)
        found["records1"] = _records(flow, expand, BLOCK * first, wide)
    if depthwise is not None:
        found["wd"] = _rows(_data(flow, depthwise.constants[0]), BLOCK // 4 * first, wide // 4)
        found["records_d"] = _records(flow, depthwise, BLOCK * first, wide)
    for name, call in (("table1", expand), ("table_d", depthwise)):
        table = None if call is None else _activation(call)[1]
        if table is not None:
            found[name] = _data(flow, table)
    if project is not None:
        w = _rows(_weights(flow, project)[:n2].transpose(1, 0, 2), first, share.blocks)
        found["w2"] = w.transpose(1, 0, 2)
        found["records2"] = _records(flow, project, 0, BLOCK * n2)
    return found


def _block_constant(
    flow: Flow, calls: tuple[Call | None, Call | None, Call | None], shape: Shape, share: Share
) -> PlanConstant:
    """The constants of every share, as they stand in shared memory."""
    places, block = layout(shape, share).at, layout(shape, share).block
    whole = np.zeros((share.parts, block), np.int8)
    for part in range(share.parts):
        for name, array in _share_constants(flow, calls, shape, share, part).items():
            raw = np.ascontiguousarray(array).reshape(-1).view(np.int8)
            at = places[name] - BLOCK_AT
            assert raw.size <= dict(constants_of(shape, share))[name]
            whole[part, at : at + raw.size] = raw
    last = next(c for c in reversed(calls) if c is not None)
    return PlanConstant(f"{last.outputs[0].buffer}.block", "s8_inverted", whole)


def _front_shape(flow: Flow, front: _Front, outputs: int) -> Shape:
    f, first = _fields(flow.calls[front.depthwise]), flow.calls[front.places[0]]
    images, in_h, in_w, in_c = first.in_types[0].dims
    hidden, out_h, out_w, kernel, stride = (
        int(f[n]) for n in ("channels", "out_h", "out_w", "kernel_h", "stride_h")
    )
    expands = front.expand is not None
    return Shape(images, in_h, in_w, in_c, hidden, out_h, out_w, outputs, kernel, stride, expands)


def _inverted_block(flow: Flow, front: _Front, place: int, target: Target) -> Block | None:
    project = flow.calls[place]
    f = _fields(project)
    shape = _front_shape(flow, front, int(f["out_c"]))
    share = choose(shape, gpu_of(target))
    if share is None:
        return None
    first = flow.calls[front.places[0]]
    given = _front_fields(flow, front)
    given |= {"min2": f["act_min"], "max2": f["act_max"]}
    sizes = (shape.kernel, shape.kernel, shape.stride, share.parts)
    grid = Grid(
        "ec_inverted_s8_body",
        (*(str(n) for n in sizes), flag(shape.expands)),
        (tiles_of(shape, share) * share.parts, 1, 1),
        share.threads,
        layout(shape, share).bytes,
        waits=True,
        cluster=share.parts,
        cached=True,
    )
    operands = ((first.inputs[0], first.in_types[0]), _other(project, first))
    constant = _block_constant(flow, (*_front_calls(flow, front), project), shape, share)
    places = (*front.places, place)
    params = _params(shape, share, given, _sum_fields(project))
    call = _call(INVERTED, [flow.calls[p] for p in places], params, operands, constant, grid)
    return Block(places, ((place, call),), constants=(constant,))


def _front_calls(flow: Flow, front: _Front) -> tuple[Call | None, Call]:
    return None if front.expand is None else flow.calls[front.expand], flow.calls[front.depthwise]


def _other(project: Call, instead: Call) -> tuple[Argument, Type]:
    """The map that is added; the first operand of `instead` where there is none."""
    from_call, place = (project, 1) if len(project.loop) > 1 else (instead, 0)
    return from_call.inputs[place], from_call.in_types[place]


def _call(
    kernel: Kernel,
    calls: Sequence[Call],
    params: tuple[tuple[str, int | float], ...],
    operands: tuple[tuple[Argument, Type], ...],
    constant: PlanConstant,
    grid: Grid,
) -> Call:
    """A call that does what `calls` did, and stands for the last of them."""
    last = calls[-1]
    struct = "ec_squeeze_s8_params" if kernel is SQUEEZE else "ec_inverted_s8_params"
    return Call(
        kernel=kernel,
        name=last.name,
        struct=struct,
        params=params,
        inputs=tuple(argument for argument, _ in operands),
        constants=(ConstantArg(constant.name),),
        outputs=last.outputs,
        scratch=None,
        rows=0,
        halo=None,
        macs=sum(c.macs for c in calls),
        op=kernel.op,
        loc=last.loc,
        in_types=tuple(t for _, t in operands),
        out_types=last.out_types,
        grids=(grid,),
    )


@dataclass(frozen=True, slots=True)
class _Gate:
    """Places of the average, the two products after it and the multiplication; `map_first`: the map is its first
    operand."""

    average: int
    few: int
    many: int
    mul: int
    map_first: bool


def _gate(flow: Flow, mul: int) -> _Gate | None:
    """The squeeze and excite that ends with the multiplication at `mul`."""
    call = flow.calls[mul]
    dims = [t.dims for t in call.in_types]
    if call.loop or len(dims) != 2 or call.out_types[0].dims not in dims or dims[0] == dims[1]:
        return None
    map_first = dims[0] == call.out_types[0].dims
    n, _, _, channels = call.out_types[0].dims
    if dims[map_first] != (1, 1, 1, channels) or n != 1:
        return None
    place, chain = mul, []
    for symbol in (ROWS, ROWS, AVERAGE):
        argument = flow.calls[place].inputs[int(map_first) if place == mul else 0]
        before = _maker(flow, argument, (place,))
        if before is None or flow.calls[before].kernel.symbol != symbol:
            return None
        place = before
        chain.append(before)
    many, few, average = chain
    same = flow.calls[average].inputs[0] == call.inputs[1 - map_first]
    suits = all(_gate_product(flow.calls[p]) for p in (few, many))
    shift = 33 <= int(_fields(call)["shift"]) <= SHIFTS_HIGH[1] + 7
    return _Gate(average, few, many, mul, map_first) if same and suits and shift else None


def _gate_product(call: Call) -> bool:
    return call.grids[0].template[4] == "true" and _activation(call)[0] and int(_fields(call)["rows"]) == 1


def _gated_block(flow: Flow, mul: int, place: int, target: Target) -> Block | None:
    """Three calls: to the depthwise convolution, the squeeze, and the product of the gated map."""
    gate = _gate(flow, mul)
    if gate is None:
        return None
    d = flow.calls[mul].inputs[1 - gate.map_first]
    before = _maker(flow, d, (gate.average, mul))
    front = None if before is None else _front(flow, before)
    squeeze = _squeeze_layout(flow, gate)
    if front is None or squeeze is None or squeeze.bytes > gpu_of(target).shared_bytes:
        return None
    shape = _front_shape(flow, front, 0)
    share, product = choose(shape, gpu_of(target)), _product_shape(flow, place, mul)
    meeting = choose(product, gpu_of(target))
    if share is None or meeting is None:
        return None
    blocks = (
        _block_constant(flow, (*_front_calls(flow, front), None), shape, share),
        _squeeze_block(flow, gate, squeeze),
        _block_constant(flow, (None, None, flow.calls[place]), product, meeting),
    )
    expanded, sums = _expanded(flow, front, shape, share, blocks[0])
    middle = _squeeze(flow, gate, sums, squeeze, blocks[1])
    last = _gated(flow, gate, place, product, meeting, blocks[2])
    gone = (*front.places, gate.average, gate.few, gate.many, mul, place)
    calls = ((front.depthwise, expanded), (gate.many, middle), (place, last))
    return Block(gone, calls, (sums,), blocks)


def _expanded(
    flow: Flow, front: _Front, shape: Shape, share: Share, constant: PlanConstant
) -> tuple[Call, Buffer]:
    """The call up to the depthwise convolution, and the buffer of its sums."""
    first, last = flow.calls[front.places[0]], flow.calls[front.depthwise]
    template = (*(str(n) for n in (shape.kernel, shape.kernel, shape.stride)), flag(shape.expands))
    tiles = tiles_of(shape, share)
    blocks, size = (tiles, share.parts, 1), layout(shape, share).bytes
    grid = Grid("ec_expanded_s8_body", template, blocks, share.threads, size, waits=True, cached=True)
    params = _params(shape, share, _front_fields(flow, front), {})
    operands = ((first.inputs[0], first.in_types[0]),)
    calls = [flow.calls[p] for p in front.places]
    call = _call(EXPANDED, calls, params, operands, constant, grid)
    held = flow.buffers[last.outputs[0].buffer]
    sums = Type((tiles, shape.hidden), DType.I32)
    buffer = Buffer(f"{held.name}.sums", sums.bytes, held.align, Use.ACTIVATION, held.entry, 0, 0)
    outputs, types = (*call.outputs, BufferArg(buffer.name)), (*call.out_types, sums)
    return replace(call, outputs=outputs, out_types=types), buffer


def _squeeze_layout(flow: Flow, gate: _Gate) -> Layout | None:
    """Shared memory of the squeeze; None where it does not take these sizes."""
    f = _fields(flow.calls[gate.few])
    few, channels = int(f["out_c"]), int(f["in_c"])
    if channels % 16:
        return None
    sizes = {"w1": few * channels, "w2": -(-few // 4) * 4 * channels, "records1": 16 * few}
    sizes |= {"records2": 16 * channels, "table1": 256, "table2": 256}
    own = {"totals": 4 * channels, "average": channels, "few": few + 4}
    at, end = {}, BLOCK_AT
    for name, size in (sizes | own).items():
        at[name] = end
        end += round_up(size)
    return Layout(at, at["totals"] - BLOCK_AT, end)


def _squeeze_block(flow: Flow, gate: _Gate, where: Layout) -> PlanConstant:
    """The constants of the squeeze, as they stand in shared memory."""
    few, many = flow.calls[gate.few], flow.calls[gate.many]
    w = _data(flow, many.constants[0])
    full = np.pad(w, ((0, 0), (0, -w.shape[1] % 4)))
    found = {"w1": _data(flow, few.constants[0]), "records1": _data(flow, few.constants[1])}
    found["w2"] = full.reshape(w.shape[0], -1, 4).transpose(1, 0, 2)
    found["records2"] = _data(flow, many.constants[1])
    for name, call in (("table1", few), ("table2", many)):
        table = _activation(call)[1]
        if table is not None:
            found[name] = _data(flow, table)
    whole = np.zeros(where.block, np.int8)
    for name, array in found.items():
        raw, at = np.ascontiguousarray(array).reshape(-1).view(np.int8), where.at[name] - BLOCK_AT
        whole[at : at + raw.size] = raw
    return PlanConstant(f"{many.outputs[0].buffer}.block", "s8_inverted", whole)


def _squeeze(flow: Flow, gate: _Gate, sums: Buffer, where: Layout, constant: PlanConstant) -> Call:
    """The call from the sums to the gate."""
    average, few, many = (flow.calls[p] for p in (gate.average, gate.few, gate.many))
    f, m, pool = _fields(few), _fields(many), _fields(average)
    tiles = sums.bytes // (4 * int(f["in_c"]))
    tables = [_activation(c)[1] for c in (few, many)]
    params = {
        **{"channels": f["in_c"], "tiles": tiles, "pixels": int(pool["in_h"]) * int(pool["in_w"])},
        **{"zero": pool["zero"], "few": f["out_c"], "few_words": -(-int(f["out_c"]) // 4)},
        **{"block_bytes": where.block},
        **{"min1": f["act_min"], "max1": f["act_max"], "table1": int(tables[0] is not None)},
        **{"min2": m["act_min"], "max2": m["act_max"], "table2": int(tables[1] is not None)},
        **{f"at_{name}": at for name, at in where.at.items()},
    }
    grid = Grid("ec_squeeze_s8_body", (), (1, 1, 1), SQUEEZE_THREADS, where.bytes, waits=True)
    operand = (BufferArg(sums.name), Type((tiles, int(f["in_c"])), DType.I32))
    return _call(SQUEEZE, (average, few, many), tuple(params.items()), (operand,), constant, grid)


def _product_shape(flow: Flow, place: int, mul: int) -> Shape:
    """The product of the gated map, whose pixels stand in a row."""
    project = flow.calls[place]
    n, h, w, channels = flow.calls[mul].out_types[0].dims
    outputs = project.out_types[0].dims[-1]
    return Shape(1, 1, n * h * w, channels, channels, 1, n * h * w, outputs, 0, 1, False)


def _gated(flow: Flow, gate: _Gate, place: int, shape: Shape, share: Share, constant: PlanConstant) -> Call:
    project, mul = flow.calls[place], flow.calls[gate.mul]
    p, m = _fields(project), _fields(mul)
    shift = int(m["shift"])
    ends = ("a", "b") if gate.map_first else ("b", "a")
    given: Fields = {"min2": p["act_min"], "max2": p["act_max"]}
    given |= {"map_zero": m[f"zero_{ends[0]}"], "gate_zero": m[f"zero_{ends[1]}"]}
    given |= {"gate_multiplier": m["multiplier_a"], "gate_round": 1 << (shift - 33), "gate_shift": shift - 32}
    given |= {"gate_zero_out": m["zero_out"], "gate_min": m["act_min"], "gate_max": m["act_max"]}
    grid = Grid(
        "ec_gated_s8_body",
        (str(share.parts),),
        (tiles_of(shape, share) * share.parts, 1, 1),
        share.threads,
        layout(shape, share).bytes,
        waits=True,
        cluster=share.parts,
    )
    operands = (
        (mul.inputs[1 - gate.map_first], mul.in_types[1 - gate.map_first]),
        (mul.inputs[int(gate.map_first)], mul.in_types[int(gate.map_first)]),
        _other(project, mul),
    )
    params = _params(shape, share, given, _sum_fields(project))
    return _call(GATED, (mul, project), params, operands, constant, grid)
