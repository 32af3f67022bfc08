"""What the report says of a network that learns: what trains, in how many bytes, and what a step keeps for its
backward part. The arena map of a step is that of the entry train_step."""

from __future__ import annotations

from typing import Any, Final

from edgec.ir import Graph, Program
from edgec.plan import Buffer, Call, Entry, Item, Plan, Stream, Use
from edgec.training.options import TRAIN_STEP, TrainSpec

Json = dict[str, Any]
_LOSSES: Final = ("cross_entropy", "mse", "bce_logits", "kl_logits")
_ROWS: Final = (".momentum", ".mean", ".square", ".sum", ".fraction")  # states of the optimiser


def build(plan: Plan, program: Program, spec: TrainSpec) -> Json | None:
    """The section as JSON; None where nothing learns."""
    if all(entry.name != TRAIN_STEP for entry in plan.entries):
        return None
    entry = next(e for e in plan.entries if e.name == TRAIN_STEP)
    rows = _trainables(program)
    kept = saved_activations(plan, entry)
    optimizer = sum(s.type.bytes for n, s in program.state.items() if n.endswith(_ROWS))
    return {
        "mode": spec.title,
        "loss": spec.loss,
        "optimizer": spec.optimizer,
        "accumulate": spec.accumulate,
        "trainables": rows,
        "trainable_bytes": sum(row["bytes"] for row in rows),
        "optimizer_bytes": optimizer,
        "saved_activations": [{"name": b.name, "bytes": b.bytes} for b in kept],
        "saved_activation_bytes": sum(b.bytes for b in kept),
        "macs_forward": _macs(entry, forward=True),
        "macs_backward": _macs(entry, forward=False),
    }


def _trainables(program: Program) -> list[Json]:
    """One row a state that some layer of `infer` reads, with the layer and how much of the weight it is."""
    graph = program.graph("infer")
    found: dict[str, Json] = {}
    for node in graph.nodes:
        for ref in node.inputs:
            name = ref[1:]
            if ref[0] != "$" or name in found:
                continue
            whole = program.constants.get(name.removesuffix(".slice")) if name.endswith(".slice") else None
            layer = node.loc.layer or _reader(graph, node.outputs[0].name)
            found[name] = {
                "layer": layer,
                "state": name,
                "shape": list(program.state[name].type.dims),
                "bytes": program.state[name].type.bytes,
                "of_bytes": whole.type.bytes if whole is not None else program.state[name].type.bytes,
            }
    return list(found.values())


def _reader(graph: Graph, value: str) -> str:
    """The layer of the first node that reads `value`."""
    return next((n.loc.layer for n in graph.nodes if value in n.inputs), "")


def _loss_time(entry: Entry) -> int:
    """The item that computes the loss."""
    return next(i for i, item in enumerate(entry.items) if any(c.op in _LOSSES for c in _calls(item)))


def _calls(item: Item) -> tuple[Call, ...]:
    return item.calls if isinstance(item, Stream) else (item,)


def saved_activations(plan: Plan, entry: Entry) -> list[Buffer]:
    """Buffers of a training step that were written before the loss and are read after it, the largest first. The
    outputs of the step and its labels are none."""
    time = _loss_time(entry)
    ports = {p.buffer for p in (*entry.outputs, *entry.inputs[-1:])}
    kept = [
        b
        for b in plan.buffers
        if b.entry == entry.name
        and b.inside is None
        and b.use is not Use.STATE
        and b.first < time < b.last
        and b.name not in ports
    ]
    return sorted(kept, key=lambda b: (-b.bytes, b.name))


def _macs(entry: Entry, forward: bool) -> int:
    time = _loss_time(entry)
    return sum(c.macs for i, item in enumerate(entry.items) if (i <= time) == forward for c in _calls(item))


def text(section: Json) -> list[str]:
    """The section for a terminal."""
    lines = [
        f"\nlearns: {section['mode']}, {section['loss']}, {section['optimizer']}",
        f"trained {section['trainable_bytes']:,} B, optimiser {section['optimizer_bytes']:,} B, kept from forward to "
        f"backward {section['saved_activation_bytes']:,} B",
        f"a step: {section['macs_forward']:,} MACs forward, {section['macs_backward']:,} backward",
        f"  {'layer':<36} {'shape':<16} {'bytes':>10} {'of':>10}",
    ]
    for row in section["trainables"]:
        shape = "x".join(str(d) for d in row["shape"])
        layer = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in row["layer"])[-36:]
        lines.append(f"  {layer:<36} {shape:<16} {row['bytes']:>10,} {row['of_bytes']:>10,}")
    return lines
