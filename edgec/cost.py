"""What a graph costs before any kernel is chosen: multiply-accumulates and bytes of weights, from the cost that each
op's record states; and how long a linear layer takes on a GPU at least, by its number formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from edgec.ir import Graph, Program, uses
from edgec.ops import OPS

if TYPE_CHECKING:
    from edgec.plan import Gpu

LinearForm = Literal["fp16", "w8a8", "w4a16"]
LAUNCH_SECONDS: Final = (
    1.5e-6  # of one more kernel in a CUDA graph (an assumption; small networks feel it most)
)
UNPACK_ROWS: Final = 128  # rows of a tile: a 4-bit weight is unpacked once for each
UNPACK_OPS: Final = 2  # on the CUDA cores, for each weight that is unpacked


@dataclass(frozen=True, slots=True)
class GraphCost:
    """Cost of one run. `weight_bytes`: constants, each counted once."""

    macs: int
    weight_bytes: int


def cost(program: Program, graph: Graph) -> GraphCost:
    """The sum over the nodes of `graph`."""
    types = program.type_of(graph)
    macs = 0
    for node in graph.nodes:
        inputs, outputs = tuple(types[r] for r in node.inputs), tuple(v.type for v in node.outputs)
        macs += OPS[node.op].cost(node.attrs, inputs, outputs).macs
    return GraphCost(macs, sum(types[ref].bytes for ref in set(uses(graph)) if ref[0] == "@"))


@dataclass(frozen=True, slots=True)
class LinearSize:
    """y[M,N] = x[M,K] W': `rows` M, `outputs` N, `channels` K. `group`: of 4-bit weights. `sharing`: layers that read
    the same x, and share its quantisation."""

    rows: int
    outputs: int
    channels: int
    group: int = 128
    sharing: int = 1


def linear_seconds(form: LinearForm, size: LinearSize, gpu: Gpu) -> float:
    """The roofline: the longer of bytes / bandwidth and operations / peak, and what the format adds.

    fp16: 2 bytes a weight. w8a8: 1 byte and int8 products, and for each x one kernel more that rounds it. w4a16: half
    a byte and 2 + 1 bytes a group; the products are those of fp16, and unpacking takes the CUDA cores UNPACK_OPS for
    each weight and tile of rows.
    """
    weights = size.outputs * size.channels
    values = 2 * size.rows * (size.channels + size.outputs)
    operations = 2 * size.rows * weights
    if form == "fp16":
        return max((2 * weights + values) / gpu.bandwidth, operations / gpu.fp16_flops)
    if form == "w8a8":
        rounding = LAUNCH_SECONDS + 3 * size.rows * size.channels / gpu.bandwidth
        products = max(
            (weights + values - size.rows * size.channels) / gpu.bandwidth, operations / gpu.int8_ops
        )
        return products + rounding / size.sharing
    stored = weights // 2 + 3 * weights // size.group
    unpacked = -(-size.rows // UNPACK_ROWS) * weights
    busy = operations / gpu.fp16_flops + UNPACK_OPS * unpacked / gpu.fp32_flops
    return max((stored + values) / gpu.bandwidth, busy)
