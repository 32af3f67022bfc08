"""Linear layers in 4-bit weights or in int8 products, from the float network to the rounded one: which layers, with
what preparation, and why the others stay.

A layer stays in float where the user keeps it, where it is the head, where no group size divides its channels, and
where the rounded form is predicted slower on the target in every entry that has it: by the roofline of `edgec.cost`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from edgec.cost import LinearForm, LinearSize, linear_seconds
from edgec.ir import Array, Graph, Node, Program, Type
from edgec.passes.awq import Clipped, Scaled, awq
from edgec.passes.quantize_w4 import GROUPS, KERNEL_GROUPS, W4Scheme, group_of, head_names, quantize_w4
from edgec.passes.quantize_w8a8 import W8A8Scheme, quantize_w8a8
from edgec.passes.smooth import Smoothed, Smoothing, smooth
from edgec.plan import Gpu

Json = dict[str, Any]
Samples = Sequence[Mapping[str, Array]]
ROUNDED: Final = {"linear_w4": "w4a16", "linear_w8a8": "w8a8"}


@dataclass(frozen=True, slots=True)
class LowPrecision:
    """`smooth`: alpha, "auto" or "off", for w8a8. `awq`, `group`, `symmetric`: for w4a16. `head`: the head is rounded,
    too. `keep`: layers of the user's model that stay. `gpu`: None where no target is known."""

    form: Literal["w8a8", "w4a16"]
    smooth: float | Literal["auto", "off"] = "off"
    awq: bool = False
    group: int = 128
    symmetric: bool = False
    head: bool = False
    keep: frozenset[str] = frozenset()
    gpu: Gpu | None = None


@dataclass(slots=True)
class Journal:
    """What the passes decided, for the report. `slower`: layers that stay because they would be, and the figures."""

    smoothed: tuple[Smoothed, ...] = ()
    scaled: tuple[Scaled, ...] = ()
    clipped: tuple[Clipped, ...] = ()
    slower: dict[str, str] = field(default_factory=dict)


def prepare(program: Program, samples: Samples, how: LowPrecision, journal: Journal) -> Program:
    """`program` in float, its linear layers made easy to round."""
    kept = how.keep | frozenset(slower_layers(program, how))
    if how.form == "w8a8" and how.smooth != "off":
        program, journal.smoothed = smooth(program, samples, Smoothing(how.smooth, keep=kept))
    if how.form == "w4a16" and how.awq:
        program, journal.scaled, journal.clipped = awq(program, samples, _w4_scheme(how, kept))
    return program


def round_layers(program: Program, how: LowPrecision, journal: Journal) -> Program:
    """`program` with its linear layers rounded."""
    journal.slower = slower_layers(program, how)
    kept = how.keep | frozenset(journal.slower)
    if how.form == "w8a8":
        return quantize_w8a8(program, W8A8Scheme(head=how.head, keep=kept))
    return quantize_w4(program, _w4_scheme(how, kept))


def _w4_scheme(how: LowPrecision, kept: frozenset[str]) -> W4Scheme:
    # A gain that AWQ has divided by its scales must stay a gain.
    return W4Scheme(how.group, how.symmetric, how.head, not how.awq, kept, _groups(how))


def _groups(how: LowPrecision) -> tuple[int, ...]:
    """Group sizes that a layer may have."""
    return GROUPS if how.gpu is None else KERNEL_GROUPS


def slower_layers(program: Program, how: LowPrecision) -> dict[str, str]:
    """Layers whose rounded form is predicted slower than fp16 in every graph that has them, and the figures."""
    if how.gpu is None:
        return {}
    faster: set[str] = set()
    found: dict[str, str] = {}
    for graph in program.graphs:
        for node, size in sizes(program, graph, how):
            if not _divides(size, how):
                continue
            before, after = (linear_seconds(f, size, how.gpu) for f in _forms(how))
            if after <= before:
                faster.add(node.loc.layer)
            found.setdefault(
                node.loc.layer,
                f"predicted slower: {after * 1e6:.2f} us against {before * 1e6:.2f} us in fp16 "
                f"({size.rows} rows in {graph.name})",
            )
    return {layer: text for layer, text in found.items() if layer not in faster}


def _forms(how: LowPrecision) -> tuple[LinearForm, LinearForm]:
    return "fp16", how.form


def sizes(program: Program, graph: Graph, how: LowPrecision) -> list[tuple[Node, LinearSize]]:
    """The linear layers of `graph` that have float weights."""
    types = program.type_of(graph)
    layers = [n for n in graph.nodes if _is_layer(n, types)]
    readers = Counter(n.inputs[0] for n in layers)
    found = []
    for node in layers:
        outputs, channels = types[node.inputs[1]].dims
        rows = types[node.inputs[0]].size // channels
        own = group_of(channels, how.group, _groups(how)) or how.group
        found.append((node, LinearSize(rows, outputs, channels, own, readers[node.inputs[0]])))
    return found


def _is_layer(node: Node, types: Mapping[str, Type]) -> bool:
    return node.op == "linear" and node.inputs[1][0] == "@" and types[node.inputs[1]].dtype.is_float


def choices(before: Program, after: Program, how: LowPrecision, journal: Journal) -> list[Json]:
    """One row for each linear layer of each entry: what it became, why, and the predicted microseconds in fp16 and in
    the new form. `before`: in float; `after`: rounded."""
    notes = _notes(journal)
    rows = []
    for graph in before.graphs:
        made = {n.outputs[0].name: n.op for n in after.graph(graph.name).nodes if n.outputs}
        heads = () if how.head else head_names(graph)
        for node, size in sizes(before, graph, how):
            layer, name = node.loc.layer, node.outputs[0].name
            became = ROUNDED.get(made.get(name, ""), "float")
            why = notes.get(layer, "rounded to the nearest") if became != "float" else ""
            if became == "float":
                why = _why_float(layer, name in heads, size, how, journal)
            row: Json = {"entry": graph.name, "layer": layer, "became": became, "why": why}
            if how.gpu is not None:
                forms = _forms(how)
                row["predicted_us"] = [round(linear_seconds(f, size, how.gpu) * 1e6, 3) for f in forms]
            rows.append(row)
    return rows


def _divides(size: LinearSize, how: LowPrecision) -> bool:
    """Whether the layer can have the form: 4-bit weights stand in groups."""
    return how.form != "w4a16" or group_of(size.channels, how.group, _groups(how)) is not None


def _why_float(layer: str, head: bool, size: LinearSize, how: LowPrecision, journal: Journal) -> str:
    if layer in how.keep:
        return "kept in float by request"
    if head:
        return "the head: no other linear layer follows"
    if not _divides(size, how):
        return f"no group size divides its {size.channels} channels"
    if layer in journal.slower:
        return journal.slower[layer]
    return "its weights serve in a form that is not rounded"


def _notes(journal: Journal) -> dict[str, str]:
    """What was done to each layer."""
    notes: dict[str, str] = {}
    for d in journal.smoothed:
        text = f"SmoothQuant alpha {d.alpha:g}" if d.alpha is not None else f"not smoothed: {d.why}"
        for node in d.site.layers:
            notes[node.loc.layer] = f"{text}, error {d.before:.1e} -> {d.after:.1e}" if d.before else text
    for s in journal.scaled:
        text = f"AWQ exponent {s.exponent:g}" if s.exponent is not None else f"not scaled: {s.why}"
        text += ", the gain in the weights" if s.without_gain else ""
        for node in s.site.layers:
            notes[node.loc.layer] = (
                f"{text}, block error {s.before:.1e} -> {s.after:.1e}" if s.before else text
            )
    for c in journal.clipped:
        text = f"{100 * c.share:.0f} % of groups clipped, error {c.before:.1e} -> {c.after:.1e}"
        notes[c.layer] = f"{notes[c.layer]}; {text}" if c.layer in notes else text
    return notes
