"""Bias correction: what rounding the weights does to the mean of each output channel is taken back in the
bias.

b -= E[(Wq - W) x] over the samples and positions: Nagel et al., ICCV 2019, section 4.2, empirical form. x is
the float network's activation, so that one run over the samples corrects all layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgec import interp, log
from edgec.fixedpoint import dequantize_array
from edgec.ir import Array, Graph, Node, Program
from edgec.match import Rewrite, rewrite
from edgec.ops import OPS
from edgec.ops.define import QuantRule
from edgec.passes.calibrate import check_samples
from edgec.passes.dead import remove_dead
from edgec.passes.weights import quantize_bias

F64 = npt.NDArray[np.float64]


def bias_correct(
    reference: Program, quantized: Program, samples: Sequence[Mapping[str, Array]], graph: str | None = None
) -> Program:
    """`quantized` with corrected biases. `reference` is the float Program that it was made of; `samples` are
    in that one's own layout."""
    g = reference.graphs[0] if graph is None else reference.graph(graph)
    check_samples(g, samples)
    errors = _weight_errors(reference, g, quantized, quantized.graph(g.name))
    shifts = _mean_shifts(reference, g, samples, errors)
    if not shifts:
        return quantized

    def visit(at: Rewrite, node: Node) -> tuple[str, ...] | None:
        name = node.outputs[0].name if node.outputs else ""
        if name not in shifts or at.builder.name != g.name:
            return None
        x, w = (at.type(r).quant for r in node.inputs[:2])
        assert x is not None and w is not None
        before = _bias(quantized, node)
        data, quant = quantize_bias(before - shifts[name], x, w, node.loc)
        bias = at.builder.constant(data, name + ".bias.q", quant)
        return (at.remake(node, inputs=(*node.inputs[:2], bias)),)

    return remove_dead(rewrite(quantized, visit))


def _bias(program: Program, node: Node) -> F64:
    """The real bias of a quantised layer, zeros where it has none."""
    if len(node.inputs) < 3:
        w = program.constants[node.inputs[1][1:]].type
        return np.zeros(w.dims[0])
    constant = program.constants[node.inputs[2][1:]]
    assert constant.type.quant is not None
    return dequantize_array(constant.data, constant.type.quant)


def _weight_errors(reference: Program, g: Graph, quantized: Program, q: Graph) -> dict[str, F64]:
    """Wq - W in real numbers by the layer's output name."""
    made = {n.outputs[0].name: n for n in q.nodes if n.outputs}
    errors = {}
    for node in g.nodes:
        rule = OPS[node.op].quant
        if not isinstance(rule, QuantRule) or "bias" not in rule.roles:
            continue
        twin = made.get(node.outputs[0].name)
        if twin is None or twin.op != node.op or twin.inputs[1][0] != "@" or node.inputs[1][0] != "@":
            continue
        now = quantized.constants[twin.inputs[1][1:]]
        if now.type.quant is not None:
            was = np.asarray(reference.constants[node.inputs[1][1:]].data, np.float64)
            errors[node.outputs[0].name] = dequantize_array(now.data, now.type.quant) - was
    return errors


def _mean_shifts(
    reference: Program, g: Graph, samples: Sequence[Mapping[str, Array]], errors: Mapping[str, F64]
) -> dict[str, F64]:
    """E[(Wq - W) x] of each layer, by channel."""
    wanted = {n.inputs[0] for n in g.nodes if n.outputs and n.outputs[0].name in errors}
    last = interp.last_uses(g)
    order = {id(n): i for i, n in enumerate(g.nodes)}
    sums: dict[str, F64] = {}
    state: dict[str, Array] = {}
    for sample in log.progress(samples, "bias correction", len(samples)):
        held: dict[str, Array] = {r: np.asarray(a) for r, a in sample.items() if r in wanted}
        held.update(("$" + n, a) for n, a in state.items())

        def observe(node: Node, outputs: tuple[Array, ...], held: dict[str, Array] = held) -> None:
            name = node.outputs[0].name
            if name in errors and node.inputs[0] in held:
                sums[name] = sums.get(name, np.zeros(())) + _mean(node, held[node.inputs[0]], errors[name])
            for ref in node.inputs:
                if last.get(ref, 0) <= order[id(node)]:
                    held.pop(ref, None)
            held.update((v.name, y) for v, y in zip(node.outputs, outputs, strict=True) if v.name in wanted)

        _, state = interp.run(reference, g, sample, state or None, observe)
    return {name: total / len(samples) for name, total in sums.items()}


def _mean(node: Node, x: Array, error: F64) -> F64:
    """Mean over all positions of the layer with weight `error`, no bias and no clamp."""
    attrs = replace(node.attrs, act=None)  # type: ignore[call-arg]
    (y,) = OPS[node.op].ref(attrs, (x.astype(np.float64), error))
    return np.asarray(np.asarray(y, np.float64).reshape(-1, y.shape[-1]).mean(axis=0))
