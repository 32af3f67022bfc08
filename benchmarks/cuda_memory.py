"""Times the memory-bound kernels of the CUDA backend next to PyTorch: us, and the share of the bandwidth bound.

    python benchmarks/cuda_memory.py [WORD ...]     only the lines that hold one of the words

Large tensors are several times the L2 cache, so that their bound is bytes / (4.2 TB/s), what a read reaches on an H200.
Small ones (a layer at batch 1) lie in the L2 cache; their bound is what an empty kernel takes in the same graph. Each
line begins with the time that was predicted before the first measurement.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from cuda_harness import Case
from cuda_launch import compiled, graph_us, kernel_us, loaded, lowered

from edgec.ir import NO_ATTRS, Array, Attrs
from edgec.ops.activation import GeluAttrs
from edgec.ops.binary import BinaryAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.gather import IndexCopyAttrs
from edgec.ops.joining import ConcatAttrs, PadAttrs
from edgec.ops.norm import GroupNormAttrs, LayerNormAttrs, RmsNormAttrs
from edgec.ops.pool import AdaptiveAvgPool2dAttrs, MaxPool2dAttrs
from edgec.ops.reduce import ArgmaxAttrs, ReduceAttrs
from edgec.ops.resize import ResizeAttrs
from edgec.ops.shape import RollAttrs, TransposeAttrs
from edgec.ops.slicing import SliceAttrs
from edgec.ops.softmax import SoftmaxAttrs
from edgec.ops.token_choice import settings_of

BANDWIDTH = 4.2e12
FUNCTIONS = torch.nn.functional
Torch = Callable[..., Any]


@dataclass(frozen=True)
class Line:
    """One measurement. `predicted`: us; `torch`: of the inputs on the device, in the layout of the op."""

    label: str
    predicted: float
    op: str
    attrs: Attrs
    arrays: tuple[Array, ...]
    torch: Torch | None
    constants: tuple[int, ...] = ()

    @property
    def case(self) -> Case:
        return Case(self.label, self.op, self.attrs, self.arrays, constants=self.constants)


def half(*shape: int) -> Array:
    """Normal numbers."""
    rng = np.random.default_rng(0)
    count = int(np.prod(shape))
    drawn = rng.normal(size=min(count, 1 << 20)).astype(np.float16)
    return np.resize(drawn, shape)


def pointwise() -> Iterator[Line]:
    big = (64, 1024, 1024)
    yield Line("add large", 105, "add", BinaryAttrs(), (half(*big), half(*big)), lambda a, b: a + b)
    yield Line("gelu large", 70, "gelu", GeluAttrs(), (half(*big),), FUNCTIONS.gelu)
    yield Line("silu 112x112x32", 1.6, "silu", NO_ATTRS, (half(1, 112, 112, 32),), FUNCTIONS.silu)
    gated = (half(1, 28, 28, 240), half(1, 1, 1, 240))
    yield Line("gate 28x28x240", 1.6, "mul", BinaryAttrs(), gated, lambda a, b: a * b)
    add = (half(1, 56, 56, 256), half(1, 56, 56, 256))
    yield Line("add 56x56x256", 1.8, "add", BinaryAttrs(), add, lambda a, b: a + b)


def rows() -> Iterator[Line]:
    layer, root = LayerNormAttrs(1, 1e-5), RmsNormAttrs(1e-6)
    for n, c, us in ((65536, 1024, 70.0), (3136, 96, 1.7), (784, 192, 1.6), (197, 768, 1.6), (49, 768, 1.6)):
        given = (half(n, c), half(c), half(c))
        torch_norm = lambda x, g, b: FUNCTIONS.layer_norm(x, (x.shape[-1],), g, b, 1e-5)
        yield Line(f"layer_norm {n}x{c}", us, "layer_norm", layer, given, torch_norm, (1, 2))
    for n, c, us in ((65536, 1024, 70.0), (1, 4096, 1.7), (128, 4096, 1.8)):
        torch_root = lambda x, g: FUNCTIONS.rms_norm(x, (x.shape[-1],), g, 1e-6)
        yield Line(f"rms_norm {n}x{c}", us, "rms_norm", root, (half(n, c), half(c)), torch_root, (1,))
    for shape, us in (((65536, 1024), 70.0), ((12, 197, 197), 1.8), ((64, 3, 49, 49), 1.8)):
        attrs = SoftmaxAttrs(len(shape) - 1)
        yield Line(f"softmax {shape}", us, "softmax", attrs, (half(*shape),), lambda x: x.softmax(-1))
    group = (half(1, 64, 64, 320), half(320), half(320))
    torch_group = lambda x, g, b: FUNCTIONS.group_norm(x.permute(0, 3, 1, 2), 32, g, b, 1e-5)
    yield Line("group_norm 64x64x320", 6, "group_norm", GroupNormAttrs(32, 1e-5), group, torch_group, (1, 2))


def reductions() -> Iterator[Line]:
    one = AdaptiveAvgPool2dAttrs((1, 1))
    for h, c, us in (
        (112, 32, 2.6),
        (56, 144, 2.4),
        (28, 240, 2.4),
        (14, 672, 2.2),
        (7, 1152, 1.8),
        (7, 1280, 1.8),
    ):
        torch_mean = lambda x: x.mean((1, 2))
        yield Line(
            f"global pool {h}x{h}x{c}", us, "adaptive_avg_pool2d", one, (half(1, h, h, c),), torch_mean
        )
    large = (half(65536, 1024),)
    yield Line("sum of rows large", 36, "reduce_sum", ReduceAttrs((1,)), large, lambda x: x.sum(1))
    yield Line("mean of columns large", 36, "reduce_mean", ReduceAttrs((0,)), large, lambda x: x.mean(0))
    yield Line("argmax 128256", 2.6, "argmax", ArgmaxAttrs(1), (half(1, 128256),), lambda x: x.argmax(1))
    for name, us, given in (
        ("greedy", 3.0, (0.0, 0, 1.0)),
        ("temperature", 3.5, (0.8, 0, 1.0)),
        ("top-k 50", 16.0, (0.8, 50, 1.0)),
        ("top-k 50 top-p 0.9", 20.0, (0.8, 50, 0.9)),
        ("top-p 0.9", 16.0, (0.8, 0, 0.9)),
    ):
        logits = (half(1, 128256) * 3).astype(np.float16)
        arrays = (logits, settings_of(*given, 7), np.array([3], np.int32))
        choose = lambda x, s, c: torch.multinomial(torch.softmax(x.float() / 0.8, -1), 1)
        ours = None if name != "temperature" else choose
        yield Line(f"sample {name}", us, "sample", NO_ATTRS, arrays, ours)


def movement() -> Iterator[Line]:
    pool = MaxPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1))
    torch_pool = lambda x: FUNCTIONS.max_pool2d(x.permute(0, 3, 1, 2), 3, 2, 1)
    yield Line("max pool 112x112x64", 2.0, "max_pool2d", pool, (half(1, 112, 112, 64),), torch_pool)
    heads = TransposeAttrs((0, 2, 1, 3))
    move = lambda x: x.permute(0, 2, 1, 3).contiguous()
    yield Line("heads 197x12x64", 1.7, "transpose", heads, (half(1, 197, 12, 64),), move)
    nhwc = TransposeAttrs((0, 2, 3, 1))
    last = lambda x: x.permute(0, 2, 3, 1).contiguous()
    yield Line("NCHW to NHWC 3x224x224", 1.9, "transpose", nhwc, (half(1, 3, 224, 224),), last)
    yield Line("NCHW to NHWC large", 75, "transpose", nhwc, (half(64, 256, 64, 64),), last)
    cat = tuple(half(1, 56, 56, 64) for _ in range(4))
    join = lambda *xs: torch.cat(xs, 3)
    yield Line("concat 4 of 56x56x64", 2.0, "concat", ConcatAttrs(3), cat, join)
    cut = lambda x: x[:, :, 256:512].contiguous()
    yield Line("slice 1024x256 of 768", 1.6, "slice", SliceAttrs(2, 256, 512), (half(1, 1024, 768),), cut)
    up = lambda x: FUNCTIONS.interpolate(x.permute(0, 3, 1, 2), scale_factor=4, mode="bilinear")
    large = ResizeAttrs((128, 128), "bilinear")
    yield Line("bilinear 32 to 128x256", 3.5, "resize", large, (half(1, 32, 32, 256),), up)
    rolled = lambda x: torch.roll(x, (-3, -3), (1, 2))
    yield Line("roll 56x56x96", 1.7, "roll", RollAttrs((-3, -3), (1, 2)), (half(1, 56, 56, 96),), rolled)
    padded = lambda x: FUNCTIONS.pad(x, (0, 0, 1, 1, 1, 1))
    pads = PadAttrs(((0, 0), (1, 1), (1, 1), (0, 0)))
    yield Line("pad 56x56x64", 1.7, "pad", pads, (half(1, 56, 56, 64),), padded)
    ids = np.arange(128, dtype=np.int32) * 77
    look = lambda t, i: FUNCTIONS.embedding(i, t)
    yield Line("embedding 128 of 4096", 1.8, "embedding", NO_ATTRS, (half(32000, 4096), ids), look, (0,))
    cache = (half(8, 1024, 128), np.array([77], np.int32), half(8, 1, 128))
    copy = lambda x, i, s: x.index_copy(1, i.long(), s)
    yield Line("cache of 8x1024x128, not in place", 2.6, "index_copy", IndexCopyAttrs(1), cache, copy)


def depthwise() -> Iterator[Line]:
    for h, c, stride, size in (
        *(
            (112, 32, 1, 3),
            (112, 96, 2, 3),
            (56, 144, 1, 3),
            (28, 192, 1, 3),
            (14, 384, 1, 3),
            (7, 960, 1, 3),
        ),
        *((28, 240, 1, 5), (14, 672, 1, 5), (7, 1152, 1, 5)),
        *((56, 96, 1, 7), (28, 192, 1, 7), (14, 384, 1, 7), (7, 768, 1, 7)),
    ):
        p = size // 2
        attrs = Conv2dAttrs((stride, stride), (p, p, p, p), groups=c)
        arrays = (half(1, h, h, c), half(c, size, size, 1), half(c))

        def torch_conv(x: Any, w: Any, b: Any, stride: int = stride, p: int = p, c: int = c) -> Any:
            weight = w.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
            return FUNCTIONS.conv2d(x.permute(0, 3, 1, 2), weight, b, stride, p, 1, c)

        yield Line(
            f"depthwise {size}x{size}/{stride} {h}x{h}x{c}", 2.2, "conv2d", attrs, arrays, torch_conv, (1, 2)
        )


def lines() -> Iterator[Line]:
    for group in (pointwise, rows, reductions, movement, depthwise):
        yield from group()


def report(line: Line, cubins: dict[str, bytes]) -> str:
    """One line: predicted, measured, PyTorch, GB/s and the share of the bound."""
    plan, call, _, launches = lowered(line.case)
    moved = sum(a.nbytes for a in line.arrays) + sum(t.bytes for t in call.out_types)
    if line.op == "embedding":
        moved = 2 * call.out_types[0].bytes
    turns = 2 if moved > 1e8 else 4
    ours = kernel_us(loaded(plan, call, launches, cubins), line.case, turns)
    theirs = float("nan")
    if line.torch is not None:
        given = [torch.from_numpy(a).cuda() for a in line.arrays]
        theirs = graph_us(lambda turn: line.torch(*given))
    share = f"{moved / ours / 1e-6 / BANDWIDTH:5.0%}" if moved > 1e8 else "     "
    text = f"{line.label:36s} predicted {line.predicted:6.1f}  us {ours:7.2f}  torch {theirs:7.2f}"
    return f"{text}  {moved / ours / 1e3:6.0f} GB/s {share}  {call.kernel.symbol} {launches[0][1].blocks}"


def main(words: list[str]) -> None:
    torch.zeros(1, device="cuda")
    torch.backends.cudnn.benchmark = True
    chosen = [line for line in lines() if not words or any(w in line.label for w in words)]
    texts: dict[str, str] = {}
    for line in chosen:
        texts |= lowered(line.case)[2]
    cubins = compiled(texts)
    for line in chosen:
        try:
            print(report(line, cubins), flush=True)
        except Exception as error:
            print(f"{line.label}: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
