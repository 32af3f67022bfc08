"""Which layer's rounding hurts: each one is rounded alone, and the network's outputs and its own are compared with the
float network's.

Signal to noise is 10 log10(sum y^2 / sum (y - yq)^2) in dB over all samples, at most 99. A layer's own figures show
how well its output is kept, the network's what that means in the end; they differ where later layers forgive an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgec import interp, log
from edgec.fixedpoint import dequantize_array
from edgec.ir import Array, Graph, Node, Program
from edgec.ops import OPS
from edgec.ops.define import QuantRule
from edgec.samples import to_device

F64 = npt.NDArray[np.float64]
MOST: Final = 99.0
SAMPLES: Final = 4  # of the calibration's, on which the layers are compared

# Rounds the network but for the layers (Loc.layer) it is given.
RoundBut = Callable[[frozenset[str]], Program]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Of one layer, rounded alone. `layer` "" stands for all layers at once."""

    layer: str
    op: str
    network_snr_db: float
    network_mse: float
    layer_snr_db: float | None
    layer_mse: float | None

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def layers_with_weights(graph: Graph) -> dict[str, Node]:
    """The last node with a weight of each named layer."""
    found = {}
    for node in graph.nodes:
        rule = OPS[node.op].quant
        if isinstance(rule, QuantRule) and "weight" in rule.roles and node.loc.layer:
            found[node.loc.layer] = node
    return found


def sensitivity(
    program: Program, arrays: Mapping[str, Array], round_but: RoundBut
) -> tuple[Sensitivity, ...]:
    """The whole network first, then each layer of the first graph that `round_but` rounds, the worst first. Empty
    where it rounds nothing.

    `program`: in float; `arrays`: inputs by label in the user's layout, of which the first SAMPLES samples are taken.
    """
    graph = program.graphs[0]
    layers = layers_with_weights(graph)
    every = frozenset(n.loc.layer for n in graph.nodes)
    own = {node.outputs[0].name for node in layers.values()}
    wanted = _run(program, arrays, own)
    whole = round_but(frozenset())
    if whole.graphs[0] == graph:
        return ()
    ends = tuple(f"output {i}" for i in range(len(graph.outputs)))
    rows = []
    for layer, node in log.progress(layers.items(), "sensitivity", len(layers)):
        rounded = round_but(every - {layer})
        if rounded.graphs[0] == graph:
            continue
        name = node.outputs[0].name
        found = _run(rounded, arrays, {name})
        noise = _figures(wanted, found, (name,)) if all(name in one for one in found) else (None, None)
        rows.append(Sensitivity(layer, node.op, *_figures(wanted, found, ends), *noise))
    rows.sort(key=lambda row: (row.network_snr_db, row.layer))
    total = _figures(wanted, _run(whole, arrays, set()), ends)
    return (Sensitivity("", "all layers", *total, None, None), *rows)


def _run(program: Program, arrays: Mapping[str, Array], names: set[str]) -> list[dict[str, F64]]:
    """Real values by name, and the outputs as `output 0` ..., for each sample. State runs on."""
    graph = program.graphs[0]
    types = program.type_of(graph)
    state: dict[str, Array] | None = None
    results = []

    def real(ref: str, y: Array) -> F64:
        quant = types[ref].quant
        return dequantize_array(y, quant) if quant is not None else y.astype(np.float64)

    for sample in to_device(arrays, graph.input_ports, types, "the calibration")[:SAMPLES]:
        kept: dict[str, F64] = {}

        def keep(node: Node, outputs: tuple[Array, ...], into: dict[str, F64] = kept) -> None:
            for value, y in zip(node.outputs, outputs, strict=True):
                if value.name in names:
                    into[value.name] = real(value.name, y)

        outputs, state = interp.run(program, graph, sample, state, keep)
        kept.update((f"output {i}", real(ref, outputs[ref])) for i, ref in enumerate(graph.outputs))
        results.append(kept)
    return results


def _figures(
    wanted: Sequence[Mapping[str, F64]], found: Sequence[Mapping[str, F64]], names: Sequence[str]
) -> tuple[float, float]:
    """(signal to noise in dB, mean squared error) over `names` of all samples; elements that are not finite in both
    are left out."""
    signal = noise = 0.0
    count = 0
    for one, other in zip(wanted, found, strict=True):
        for name in names:
            a, b = one[name], other[name]
            finite = np.isfinite(a) & np.isfinite(b)
            signal += float(np.square(a[finite]).sum())
            noise += float(np.square(a[finite] - b[finite]).sum())
            count += int(finite.sum())
    mse = noise / max(1, count)
    if noise == 0.0 or signal == 0.0:
        return (MOST if noise == 0.0 else 0.0), mse
    return min(MOST, 10.0 * float(np.log10(signal / noise))), mse
