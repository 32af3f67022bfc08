"""The sparse update schemes published for MCUNet-5FPS and its siblings: what trains, and the label in KiB.

Numbers count convolutions from 0, the stem. Source: mit-han-lab/tiny-training at 7bf8e05, the label being the extra
memory of Lin et al. 2022: masks and biases of the layers whose biases train, inputs and weights of the slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from edgec.ir import Program
from edgec.ops.trained import by_rows
from edgec.training.options import Scheme, TrainSpec, WeightSlice

RATE: Final = 0.0005


@dataclass(frozen=True, slots=True)
class Published:
    """`kib`: the analytic extra memory."""

    biases: int
    slices: dict[int, str]
    kib: float

    @property
    def scheme(self) -> Scheme:
        weights = (WeightSlice(None, conv, float(Fraction(ratio))) for conv, ratio in self.slices.items())
        return Scheme(self.biases, tuple(weights))


def _whole(*convs: int) -> dict[int, str]:
    return dict.fromkeys(convs, "1")


MCUNET: Final = {
    49: Published(20, {24: "1/4", 27: "1/2", 30: "1/2", 23: "0", 33: "0", 39: "0"}, 49.8),
    74: Published(21, {21: "1", 24: "1", 27: "1/2", 30: "1", 23: "0", 26: "0"}, 74.8),
    99: Published(22, {**_whole(21, 24, 27, 30), 36: "1/8", 39: "1/4"}, 99.8),
    124: Published(24, {21: "1/4", **_whole(24, 27, 30), 33: "1/2", 39: "1/2"}, 125.0),
    148: Published(23, {**_whole(21, 24, 27, 30, 36), 39: "1/2"}, 148.4),
}

# MobileNetV2 of width 0.35 without its last convolution, 128x128.
MOBILENET: Final = {
    49: Published(16, {**_whole(36, 39), 41: "1/4", **dict.fromkeys((42, 45, 48, 49), "1/8"), 40: "0"}, 49.8),
    73: Published(
        20, {32: "1/8", 33: "1/2", 36: "1/2", **_whole(39, 48), 41: "1/4", 42: "1/8", 45: "1/8"}, 73.9
    ),
    99: Published(25, {**_whole(27, 30, 33, 36, 39, 48), 42: "1/8", 45: "1/2"}, 99.4),
    123: Published(31, {**_whole(27, 30, 33, 36, 39, 45, 48), 42: "1/2"}, 123.6),
    138: Published(34, _whole(27, 30, 33, 36, 39, 42, 45, 48), 138.2),
}


def spec_of(name: str) -> TrainSpec:
    """The TrainSpec of a scheme's number, or of head, bias (biases of the last 22), full."""
    if name in ("head", "full"):
        return TrainSpec("head" if name == "head" else "full", rate=RATE)
    if name == "bias":
        return TrainSpec("sparse", scheme=Scheme(MCUNET[99].biases), rate=RATE)
    return TrainSpec("sparse", scheme=MCUNET[int(name)].scheme, rate=RATE)


def extra_bytes(program: Program, scheme: Scheme) -> int:
    """The label's arithmetic on an imported network: a bit for each output of a layer whose bias trains, 4 bytes a
    bias, the inputs and weights of each slice, and the input of the head."""
    graph = program.graph("infer")
    types = program.type_of(graph)
    convs = [n for n in graph.nodes if n.op == "conv2d"]
    total = 0
    for node in convs[len(convs) - scheme.biases :]:
        y = types[node.outputs[0].name]
        total += y.size // 8 + 4 * y.dims[3]
    for part in scheme.weights:
        assert part.conv is not None
        x, w = (types[r] for r in convs[part.conv].inputs[:2])
        groups = x.dims[3] // w.dims[3]
        rows = by_rows(w, groups)
        channels = int(part.ratio * (w.dims[0] if rows else w.dims[3]))
        total += channels * x.dims[1] * x.dims[2] + channels * w.size // (w.dims[0] if rows else w.dims[3])
    head = next(n for n in graph.nodes if n.op == "linear")
    return total + types[head.inputs[0]].dims[-1]
