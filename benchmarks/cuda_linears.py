"""Times the four linear layers of a block of Llama-3-8B with 4-bit and 8-bit weights, next to PyTorch's fp16 and int4.

    PYTHONPATH=. python benchmarks/cuda_linears.py [--batch 1 16 128]

A figure is what one more launch adds to a CUDA graph of many, each with weights of its own that together exceed the
L2. 4 bits: symmetric groups of 128, fp16. W8A8: the product alone, and the quantisation of its rows. PyTorch: linear in
fp16 (cuBLAS) and torch._weight_int4pack_mm in bf16, in the same way. The bound: packed weights at the data sheet's
bandwidth. Written to results/cuda_linears.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

import cuda_launch
import environment
import numpy as np
import torch
from cuda_harness import Case
from cuda_launch import TARGET

from edgec.ir import NO_ATTRS, Array
from edgec.ops.linear_w4 import LinearW4Attrs
from edgec.ops.linear_w8a8 import LinearW8A8Attrs

LAYERS: Final = {"qkv": (6144, 4096), "out": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
GROUP: Final = 128
KINDS: Final = ("w4", "w8a8", "rows")
Key = tuple[str, str, int]  # layer, kind, batch
ROTATED_BYTES: Final = 240 << 20  # of weights, four times the L2
TURNS_MOST: Final = 40


class Rotated(cuda_launch.Buffers):
    """Buffers of a node whose constants are others at each turn."""

    def __init__(self, node: cuda_launch.Node, case: Case) -> None:
        super().__init__(node, case, 1)
        size = sum(t.numel() for t in node.constants.values())
        self.copies = [
            {n: t.clone() for n, t in node.constants.items()} for _ in range(turns_of(max(size, 1)))
        ]

    def pointers(self, turn: int) -> list[int]:
        self.node.constants = self.copies[turn % len(self.copies)]
        return super().pointers(turn)


def turns_of(size: int) -> int:
    """Copies of `size` bytes that exceed the L2."""
    return max(2, min(TURNS_MOST, -(-ROTATED_BYTES // size)))


def weights(outputs: int, channels: int) -> tuple[Array, ...]:
    """q, scale, zero of one layer, and int8 weights."""
    rng = np.random.default_rng(0)
    groups = (outputs, channels // GROUP)
    q = rng.integers(0, 256, (outputs, channels // 2), np.uint8)
    scale = rng.uniform(0.005, 0.02, groups).astype(np.float16)
    return q, scale, np.full(groups, 8, np.uint8), np.repeat(q.view(np.int8), 2, axis=1)


def cases(name: str, held: tuple[Array, ...], batch: int) -> dict[str, Case]:
    """The layer's nodes, by what they are called in the result."""
    outputs, channels = LAYERS[name]
    rng = np.random.default_rng(batch)
    x = rng.normal(size=(batch, channels)).astype(np.float16)
    bytes_of_x = rng.integers(-127, 128, (batch, channels), np.int8)
    scale_x, scale_w = np.ones((batch, 1), np.float32), np.full(outputs, 1e-4, np.float32)
    return {
        "w4": Case(f"{name} {batch}", "linear_w4", LinearW4Attrs(GROUP), (x, *held[:3]), constants=(1, 2, 3)),
        "w8a8": Case(
            f"{name} {batch} int8",
            "linear_w8a8",
            LinearW8A8Attrs("f16"),
            (bytes_of_x, scale_x, held[3], scale_w),
            constants=(2, 3),
        ),
        "rows": Case(f"{name} {batch} rows", "quantize_rows", NO_ATTRS, (x,)),
    }


def lowered(nodes: dict[Key, Case]) -> dict[Key, tuple[Any, ...]]:
    """(plan, call, launches, cubins) of each node, all compiled together."""
    texts: dict[str, str] = {}
    found = {}
    for key, case in nodes.items():
        plan, call, units, launches = cuda_launch.lowered(case)
        texts |= units
        found[key] = (plan, call, launches)
    cubins = cuda_launch.compiled(texts, "sm_90a")
    return {key: (*parts, cubins) for key, parts in found.items()}


def ours_us(parts: tuple[Any, ...], case: Case) -> tuple[float, str]:
    """Microseconds of a node, and how it was launched."""
    buffers = Rotated(cuda_launch.loaded(*parts), case)
    us = cuda_launch.graph_us(lambda turn: buffers.launch(turn, torch.cuda.current_stream().cuda_stream))
    grid = parts[2][0][1]
    return us, f"{grid.body} {', '.join(grid.template[1:])} x {grid.blocks}"


def peers(name: str, batch: int) -> dict[str, Callable[[int], Any]]:
    """PyTorch's runs of the layer, by what they are called in the result."""
    outputs, channels = LAYERS[name]
    x = torch.randn(batch, channels, dtype=torch.float16, device="cuda")
    turns = turns_of(2 * outputs * channels)
    halves = [torch.randn(outputs, channels, dtype=torch.float16, device="cuda") for _ in range(turns)]
    held = torch.randint(0, 256, (outputs, channels // 2), dtype=torch.uint8, device="cuda")
    packed = torch._convert_weight_to_int4pack(held, 8)
    fours = [packed.clone() for _ in range(turns_of(outputs * channels // 2))]
    scales = torch.full((channels // GROUP, outputs, 2), 0.01, dtype=torch.bfloat16, device="cuda")
    xb = x.bfloat16()
    return {
        "torch_fp16": lambda t: torch.nn.functional.linear(x, halves[t % turns]),
        "torch_int4": lambda t: torch._weight_int4pack_mm(xb, fours[t % len(fours)], GROUP, scales),
    }


def bound_us(name: str) -> float:
    """The packed weights at the bandwidth of the data sheet."""
    outputs, channels = LAYERS[name]
    assert TARGET.gpu is not None
    return 1e6 * outputs * channels * (4 + 16 / GROUP) / 8 / TARGET.gpu.bandwidth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--name", default="cuda_linears")
    given = parser.parse_args()
    torch.zeros(1, device="cuda")  # makes the context
    held = {name: weights(*sizes) for name, sizes in LAYERS.items()}
    nodes = {
        (name, kind, batch): case
        for batch in given.batch
        for name in LAYERS
        for kind, case in cases(name, held[name], batch).items()
    }
    made = lowered(nodes)
    rows: list[dict[str, Any]] = []
    for batch in given.batch:
        total: dict[str, float] = {}
        for name in LAYERS:
            row: dict[str, Any] = {"layer": name, "batch": batch, "bound": bound_us(name)}
            for kind in KINDS:
                key = (name, kind, batch)
                row[kind], row[f"{kind}_launch"] = ours_us(made.pop(key), nodes.pop(key))
            for kind, run in peers(name, batch).items():
                row[kind] = cuda_launch.graph_us(run)
            torch.cuda.empty_cache()
            rows.append(row)
            for kind in (*KINDS, "torch_fp16", "torch_int4", "bound"):
                total[kind] = total.get(kind, 0.0) + row[kind]
            shown = "  ".join(f"{k} {row[k]:.2f}" for k in total)
            print(f"batch {batch} {name}: {shown}  {row['w4_launch']}", flush=True)
        print(f"batch {batch}: " + ", ".join(f"{k} {v:.1f} us" for k, v in total.items()), flush=True)
        environment.write(
            given.name, rows, gpu=torch.cuda.get_device_name(), torch=torch.__version__, unit="us"
        )


if __name__ == "__main__":
    main()
