"""Memory of MCUNet's published schemes by three ways: the labels' formula, a liveness model, and the planned step.

    python benchmarks/scheme_arithmetic.py

The label is the extra memory that Lin et al. print. The liveness model was written apart from the compiler: F is the
largest sum of live bytes in the forward part, B in the backward part, T the trained copies; a step takes max(F, B) + T,
scratch apart. Its front is whole, or each block runs row by row; its int8 gradients take a quarter of float ones. Ours
are sums over the buffers of the Plan. Prints a table and writes results/scheme_arithmetic.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import environment
import schemes
import training

from edgec import pipeline
from edgec.backends.kernels_c import KERNELS
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle
from edgec.ir import Program
from edgec.passes.straight_through import Format
from edgec.passes.training_cost import training_cost
from edgec.plan import Buffer, Item, Plan, Stream, Use
from edgec.targets.load import load_target
from edgec.training.options import LEARNING_RATE, STEP, TRAIN_STEP, Scheme
from edgec.training.report import saved_activations
from edgec.tune.evolution import Choice

WHOLE, FUSED = 163_840, 86_016  # F of the model
FLOAT_HEAD: Final = 3 * 160  # the label counts the head's input in int8
Front = Literal["off", "all"]


@dataclass(frozen=True, slots=True)
class Modelled:
    """Bytes by the liveness model: B by format, what is kept from forward to backward, and T."""

    backward: dict[Format, int]
    kept: int
    trained: int

    def total(self, gradients: Format, front: Front) -> int:
        """Of the whole step."""
        return max(WHOLE if front == "off" else FUSED, self.backward[gradients]) + self.trained


MODEL: Final = {
    49: Modelled({"fp32": 91_136, "int8": 33_536}, 21_472, 36_904),
    74: Modelled({"fp32": 98_816, "int8": 41_216}, 29_152, 54_888),
    99: Modelled({"fp32": 100_992, "int8": 43_392}, 31_904, 78_088),
    124: Modelled({"fp32": 101_632, "int8": 44_960}, 33_504, 102_216),
    148: Modelled({"fp32": 102_272, "int8": 46_368}, 34_912, 124_808),
}


def label_kib(scheme: Scheme) -> float:
    """What the compiler's own formula gives for a label."""
    network = import_mcu_pickle(training.FOLDER / training.MODELS["mcunet-5fps"], Head(training.CLASSES))
    slices = tuple((w.conv or 0, w.ratio) for w in scheme.weights if w.ratio)
    cost = training_cost(network, network.graphs[0])
    return (cost.extra_bytes(Choice(scheme.biases, slices)) - FLOAT_HEAD) / 1024


def planned(scheme: int, gradients: Format, front: Front) -> Plan:
    """The training step alone."""
    program = training.learner("mcunet-5fps", str(scheme), gradients, 0)
    step = Program((program.graph(TRAIN_STEP),), program.constants, program.state)
    return pipeline.lower(step, load_target("host"), pipeline.Options(stream=front), KERNELS, "model")


def _calls(item: Item) -> tuple[Any, ...]:
    return item.calls if isinstance(item, Stream) else (item,)


@dataclass(frozen=True, slots=True)
class Live:
    """The buffers of a Plan's one entry over time, scratch and state apart."""

    plan: Plan

    @property
    def trained(self) -> int:
        """Bytes of the states, without the rate and the counter of steps."""
        own = {f"state.{LEARNING_RATE}", f"state.{STEP}"}
        return sum(b.bytes for b in self.plan.buffers if b.use is Use.STATE and b.name not in own)

    @property
    def kept(self) -> int:
        """Bytes that the forward part leaves to the backward part."""
        return sum(b.bytes for b in saved_activations(self.plan, self.plan.entries[0]))

    @property
    def loss_time(self) -> int:
        """The item that makes the loss: the last of the forward part."""
        return training.forward_items(self.plan) - 1

    def at(self, time: int) -> list[Buffer]:
        """What is live at an item, the largest first."""
        apart = (Use.STATE, Use.SCRATCH)
        live = [b for b in self.plan.buffers if b.inside is None and b.use not in apart]
        return sorted((b for b in live if b.first <= time <= b.last), key=lambda b: (-b.bytes, b.name))

    def bytes_at(self, time: int) -> int:
        return sum(b.bytes for b in self.at(time))

    def peaks(self) -> tuple[int, int]:
        """The items where the forward and the backward part need most."""
        items, loss = len(self.plan.entries[0].items), self.loss_time
        return max(range(loss + 1), key=self.bytes_at), max(range(loss + 1, items), key=self.bytes_at)

    def gradient_of(self, layer: str) -> int:
        """The item that makes the gradient to the input of a layer."""
        return next(
            i
            for i, item in enumerate(self.plan.entries[0].items)
            if any(c.op == "trained_conv2d_input_grad" and c.loc.layer == layer for c in _calls(item))
        )


def row_of(scheme: int, gradients: Format, front: Front) -> dict[str, Any]:
    """One scheme in one format, beside the model."""
    plan = planned(scheme, gradients, front)
    live, model = Live(plan), MODEL[scheme]
    forward, backward = (live.bytes_at(time) for time in live.peaks())
    total, wanted = max(forward, backward) + live.trained, model.total(gradients, front)
    return {
        "scheme": scheme,
        "gradients": gradients,
        "front": "whole" if front == "off" else "row by row",
        "forward": [WHOLE if front == "off" else FUSED, forward],
        "backward": [model.backward[gradients], backward],
        "trained": [model.trained, live.trained],
        "total": [wanted, total],
        "percent": round(100 * (total / wanted - 1), 2),
        "arena_bytes": plan.arenas[0].bytes,
    }


def main() -> int:
    labels = {n: [p.kib, round(label_kib(p.scheme), 2)] for n, p in schemes.MCUNET.items()}
    for number, (published, ours) in labels.items():
        print(f"label {number:>4}  published {published:6.1f} KiB  ours {ours:7.2f}")
    rows = []
    for scheme in MODEL:
        for gradients in ("int8", "fp32"):
            for front in ("off", "all"):
                rows.append(row_of(scheme, gradients, front))  # type: ignore[arg-type]
                print(rows[-1], flush=True)
    print(f"wrote {environment.write('scheme_arithmetic', rows, labels_kib=labels)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
