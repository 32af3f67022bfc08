"""Attention kernels on a GPU, beside PyTorch's scaled_dot_product_attention in the same run.

    python benchmarks/cuda_attention.py [--target h200] [--json]

Each shape is one graph of several nodes; the figure is the time of the graph by the number of nodes, so it holds what
a kernel costs inside a network: launch, hand-over and work. PyTorch's is a captured CUDA graph of as many calls (flash
or whatever it chooses), which read separate q, k and v, cut apart beforehand. Inputs of encoders are the same for all
nodes, as they lie in L2 in a network; the caches of the decoding nodes are different and together exceed L2.
With `--json` writes results/cuda_attention.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import cuda_harness
import environment

from edgec.backends import kernels_cuda
from edgec.build import constant
from edgec.cuda.library import Library
from edgec.ir import Array, Attrs, DType, Graph, Loc, Node, Persistence, Port, Program, State, Type, Value
from edgec.ops import OPS
from edgec.ops.cached_attention import CachedAttentionAttrs
from edgec.ops.linear_attention import LinearAttentionAttrs
from edgec.ops.strided_attention import StridedAttentionAttrs
from edgec.ops.window_attention import WindowAttentionAttrs
from edgec.passes.choose_kernels import choose_kernels
from edgec.passes.memory import plan_memory
from edgec.plan import Kernel
from edgec.targets.load import load_target

RUNS: Final = 60
NODES: Final = 12


@dataclass(frozen=True)
class Shape:
    """One op at one size. `inputs`: arrays given once to all nodes; `states`: arrays of which each node has its own,
    and position; `order`: the node's inputs, i the i-th input, -1 - i the i-th state. `sdpa`: (batch, heads, key heads,
    queries, keys, depth, causal) of PyTorch's call, None where it has none."""

    name: str
    op: str
    attrs: Attrs
    inputs: tuple[Array, ...]
    order: tuple[int, ...]
    states: tuple[Array, ...] = ()
    bias: Array | None = None
    sdpa: tuple[int, int, int, int, int, int, bool] | None = None
    nodes: int = NODES
    bytes: int = 0  # that must come from memory, for the bound


def half(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float16)


def encoder(name: str, tokens: int, heads: int, depth: int) -> Shape:
    """Packed q, k and v."""
    channels = 3 * heads * depth
    places = [(i * heads * depth, tokens * channels, depth, channels) for i in range(3)]
    attrs = StridedAttentionAttrs(depth**-0.5, 1, tokens, tokens, heads, heads, depth, depth, *places)
    sdpa = (1, heads, heads, tokens, tokens, depth, False)
    return Shape(name, "strided_attention", attrs, (half(1, tokens, channels),), (0, 0, 0), sdpa=sdpa)


def reduced(name: str, tokens: int, keys: int, heads: int, depth: int) -> Shape:
    """SegFormer: many queries, few keys."""
    c = heads * depth
    attrs = StridedAttentionAttrs(
        depth**-0.5,
        1,
        tokens,
        keys,
        heads,
        heads,
        depth,
        depth,
        (0, tokens * c, depth, c),
        (0, keys * 2 * c, depth, 2 * c),
        (c, keys * 2 * c, depth, 2 * c),
    )
    sdpa = (1, heads, heads, tokens, keys, depth, False)
    inputs = (half(1, tokens, c), half(1, keys, 2 * c))
    return Shape(name, "strided_attention", attrs, inputs, (0, 1, 1), sdpa=sdpa)


def prefill(tokens: int) -> Shape:
    """Llama-3-8B."""
    heads, kv, depth = 32, 8, 128
    channels = (heads + 2 * kv) * depth
    places = [(o * depth, tokens * channels, depth, channels) for o in (0, heads, heads + kv)]
    attrs = StridedAttentionAttrs(
        depth**-0.5, 1, tokens, tokens, heads, kv, depth, depth, *places, causal=True
    )
    sdpa = (1, heads, kv, tokens, tokens, depth, True)
    x = half(1, tokens, channels)
    return Shape(f"llama prefill {tokens}", "strided_attention", attrs, (x,), (0, 0, 0), sdpa=sdpa, nodes=4)


def decode(context: int) -> Shape:
    """Llama-3-8B, one token: rotary positions, cache update and attention."""
    heads, kv, depth = 32, 8, 128
    channels = (heads + 2 * kv) * depth
    places = [(o * depth, channels, depth, channels) for o in (0, heads, heads + kv)]
    attrs = CachedAttentionAttrs(depth**-0.5, 1, 1, heads, kv, depth, depth, *places, rotary="half")
    frequency = (500000.0 ** (-np.arange(64) / 64)).astype(np.float32)
    nodes = max(2, min(16, -(-(72 << 20) // (context * kv * depth * 4))))
    return Shape(
        f"llama decode {context}",
        "cached_attention",
        attrs,
        (half(1, 1, channels),),
        (0, 0, 0, -1, -2, -3),
        (half(1, kv, context + 32, depth), half(1, kv, context + 32, depth), np.array([context], np.int32)),
        frequency,
        (1, heads, kv, 1, context, depth, False),
        nodes,
        2 * context * kv * depth * 2,
    )


def windows(name: str, size: int, heads: int, shift: int) -> Shape:
    """Swin-T, depth 32, windows of 7."""
    c = heads * 32
    attrs = WindowAttentionAttrs(
        32**-0.5, heads, 32, (7, 7), (shift, shift), (0, 32), (c, 32), (2 * c, 32), -100.0 if shift else 0.0
    )
    sdpa = ((size // 7) ** 2, heads, heads, 49, 49, 32, False)
    bias = np.random.default_rng(1).normal(size=(heads, 49, 49)).astype(np.float16)
    return Shape(name, "window_attention", attrs, (half(1, size, size, 3 * c),), (0, 0, 0), (), bias, sdpa)


def linear(name: str, tokens: int, heads: int) -> Shape:
    """EfficientViT-B1, depth 16."""
    channels = 48 * heads
    places = [(16 * i, tokens * channels, 48, channels) for i in range(3)]
    attrs = LinearAttentionAttrs(1e-5, 1, tokens, heads, 16, *places)
    return Shape(name, "linear_attention", attrs, (half(1, tokens, channels),), (0, 0, 0))


def shapes() -> tuple[Shape, ...]:
    return (
        encoder("ViT-B/16", 197, 12, 64),
        encoder("MiniLM 128", 128, 12, 32),
        encoder("BERT-base 384", 384, 12, 64),
        encoder("Whisper-tiny", 1500, 6, 64),
        reduced("SegFormer-B0 stage 1", 3136, 49, 1, 32),
        reduced("SegFormer-B0 stage 2", 784, 49, 2, 32),
        reduced("SegFormer-B0 stage 3", 196, 49, 5, 32),
        prefill(128),
        prefill(512),
        prefill(2048),
        windows("Swin-T stage 1", 56, 3, 3),
        windows("Swin-T stage 2", 28, 6, 3),
        windows("Swin-T stage 3", 14, 12, 3),
        windows("Swin-T stage 4", 7, 24, 0),
        linear("EfficientViT-B1 stage 3", 196, 16),
        linear("EfficientViT-B1 stage 4", 49, 32),
        decode(128),
        decode(1024),
        decode(8192),
    )


def graph(index: int, shape: Shape, program: Program) -> Graph:
    """The nodes of one shape; their states and constants go into `program`."""
    constants, state = program.constants, program.state
    assert isinstance(constants, dict) and isinstance(state, dict)
    types = [Type(a.shape, DType.F16) for a in shape.inputs]
    nodes, outputs, updates = [], [], []
    extra: tuple[str, ...] = ()
    if shape.bias is not None:
        constants[f"c{index}"] = constant(shape.bias)
        extra = (f"@c{index}",)
    for n in range(shape.nodes):
        for i, array in enumerate(shape.states):
            initial = constant(array)
            state[f"s{index}.{n}.{i}"] = State(initial.type, initial, Persistence.KEPT)
        refs = [f"x{o}" if o >= 0 else f"$s{index}.{n}.{-1 - o}" for o in shape.order] + list(extra)
        in_types = [types[o] if o >= 0 else constant(shape.states[-1 - o]).type for o in shape.order]
        in_types += [constants[f"c{index}"].type] if extra else []
        made = OPS[shape.op].infer(shape.attrs, tuple(in_types))
        values = tuple(Value(f"y{n}.{i}", t) for i, t in enumerate(made))
        nodes.append(Node(shape.op, tuple(refs), values, shape.attrs, Loc(shape.name)))
        outputs.append(values[0].name)
        updates += [(f"s{index}.{n}.{i}", v.name) for i, v in enumerate(values[1:])]
    inputs = tuple(Value(f"x{i}", t) for i, t in enumerate(types))
    in_ports = tuple(Port(v.name, v.name, tuple(range(len(v.type.dims)))) for v in inputs)
    out_ports = tuple(Port(o, o, (0, 1, 2, 3)) for o in outputs)
    return Graph(f"e{index}", inputs, tuple(nodes), tuple(outputs), tuple(updates), in_ports, out_ports)


def measure(
    chosen: Sequence[Shape], target_name: str, table: Sequence[Kernel] = kernels_cuda.KERNELS
) -> list[float]:
    """Microseconds a node of each shape."""
    target = load_target(target_name)
    empty = Program((), {}, {})
    graphs = tuple(graph(i, s, empty) for i, s in enumerate(chosen))
    plan = plan_memory(
        choose_kernels(Program(graphs, empty.constants, empty.state), target, table, "bench"), target
    )
    found = []
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "bench"
        cuda_harness.write(where, plan, target)
        library = Library(where)
        model = library.instance()
        for i, shape in enumerate(chosen):
            for j, array in enumerate(shape.inputs):
                model.write(f"e{i}", f"x{j}", array)
            model.times_ms(f"e{i}", RUNS // 3)
            found.append(1e3 * float(np.median(model.times_ms(f"e{i}", RUNS))) / shape.nodes)
        model.close()
        library.close()
    return found


def torch_time(shape: Shape) -> float | None:
    """Microseconds a call of PyTorch's attention in a captured graph, fp16."""
    import torch

    if shape.sdpa is None:
        return None
    n, a, b, t, s, d, causal = shape.sdpa
    cuda: dict[str, Any] = {"device": "cuda", "dtype": torch.float16}
    sets = [
        (torch.randn(n, a, t, d, **cuda), torch.randn(n, b, s, d, **cuda), torch.randn(n, b, s, d, **cuda))
        for _ in range(shape.nodes if shape.op == "cached_attention" else 1)
    ]
    mask = torch.randn(1, a, t, s, **cuda) if shape.op == "window_attention" else None

    def call(i: int) -> Any:
        q, k, v = sets[i % len(sets)]
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, mask, is_causal=causal, enable_gqa=a != b
        )

    return _graph_time(call, shape.nodes)


def _graph_time(call: Callable[[int], Any], nodes: int) -> float:
    """Median microseconds of one of `nodes` calls captured in a CUDA graph."""
    import torch

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for i in range(nodes):
            call(i)
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        for i in range(nodes):
            call(i)
    times = []
    for _ in range(RUNS + RUNS // 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        captured.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return 1e3 * statistics.median(times[RUNS // 3 :]) / nodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="h200")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen, rows = shapes(), []
    for shape, own in zip(chosen, measure(chosen, options.target), strict=True):
        peer = torch_time(shape)
        rows.append({"shape": shape.name, "us": own, "torch_us": peer, "bytes": shape.bytes})
        bound = f", {shape.bytes / own / 1e6:.2f} TB/s" if shape.bytes else ""
        print(f"{shape.name:26} {own:8.2f} us  torch {peer or float('nan'):8.2f} us{bound}", flush=True)
    if options.json:
        import torch

        versions = {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }
        print(f"wrote {environment.write('cuda_attention', rows, **versions)}")


if __name__ == "__main__":
    main()
