"""Every kernel record of the C backend against its op: integers bit for bit, floats within 1e-5."""

from __future__ import annotations

from collections.abc import Iterator

import kernel_harness as harness
import numpy as np
import pytest

from edgec.backends.kernels_c import KERNELS
from edgec.ir import Array
from edgec.ops import OPS
from edgec.ops.define import NoQuant, QuantRule
from edgec.ops.examples import ExampleNode, float_node, quantized_node
from edgec.passes.choose_kernels import row_for_row
from edgec.plan import Kernel, NodeView
from tests.dsp_examples import DSP_EXAMPLES
from tests.mve_examples import MVE_EXAMPLES

# Generated bodies have no source. DSP kernels run here with the C bodies of their instructions.
RECORDS = tuple(k for k in KERNELS if k.source)
CASES = [pytest.param(k, id=f"{k.op}-{k.symbol}") for k in RECORDS]
TARGET = harness.host("dsp", "mve", "simd", "unaligned")


def nodes(kernel: Kernel) -> Iterator[tuple[ExampleNode, NodeView]]:
    """The examples of the kernel's op that it accepts, in every form and with every choice of constants."""
    op = OPS[kernel.op]
    folder = kernel.source.split("/")[-2]
    more = {"dsp": DSP_EXAMPLES, "mve": MVE_EXAMPLES}.get(folder, {}).get(op.name, ())
    for example in (*op.examples, *more):
        forms = [float_node(op, example)]
        if not isinstance(op.quant, NoQuant):
            forms.append(quantized_node(op, example))
        for node in forms:
            for constant in _constant_choices(node):
                view = node.view(constant)
                if kernel.accepts(view, TARGET):
                    yield node, view


def _constant_choices(node: ExampleNode) -> list[tuple[int, ...]]:
    count = len(node.inputs)
    rule = node.op.quant
    fixed = {
        i
        for i in range(count)
        if isinstance(rule, QuantRule) and rule.role(i) in ("weight", "bias", "parameter")
    }
    quantized = any(t.quant is not None for t in node.in_types)
    choices = [] if quantized and fixed else [()]
    choices += [tuple(sorted(fixed)), tuple(range(1, count)), *((i,) for i in range(count))]
    if quantized and fixed:
        choices = [c for c in choices if fixed <= set(c)]
    return list(dict.fromkeys(c for c in choices if len(c) < max(count, 1) or not count))


def assert_equal(node: ExampleNode, outputs: tuple[Array, ...], first_element: bool = False) -> None:
    """Outputs equal what the op says (of batch element 0 only where asked)."""
    for actual, expected in zip(outputs, node.expected, strict=True):
        wanted = expected[0] if first_element else expected
        if not np.issubdtype(wanted.dtype, np.floating):
            np.testing.assert_array_equal(actual, wanted)
            continue
        scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0))
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=1e-5 * scale)


@pytest.mark.parametrize("kernel", CASES)
def test_kernel_equals_its_op(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    seen = 0
    for node, view in nodes(kernel):
        assert_equal(node, harness.run_whole(kernel, view, node.inputs))
        seen += 1
    assert seen, f"no example of {kernel.op} is accepted by {kernel.symbol}"
    assert "runtime error" not in capfd.readouterr().err


@pytest.mark.parametrize("kernel", [c for c, k in zip(CASES, RECORDS, strict=True) if k.halo is not None])
@pytest.mark.parametrize("spare", [0, 2])
def test_row_by_row_through_rings_equals_whole(
    kernel: Kernel, spare: int, capfd: pytest.CaptureFixture[str]
) -> None:
    for node, view in nodes(kernel):
        assert_equal(node, harness.run_rows(kernel, view, node.inputs, spare), first_element=True)
    assert "runtime error" not in capfd.readouterr().err


@pytest.mark.parametrize("kernel", [c for c, k in zip(CASES, RECORDS, strict=True) if k.in_place])
def test_in_place_equals_out_of_place(kernel: Kernel) -> None:
    for node, view in nodes(kernel):
        passed = kernel.launch(view, harness.host()).inputs
        for index in kernel.in_place:
            if index in passed and view.outputs[0].dims[0] == 1 and _may_take(kernel, view, index):
                assert_equal(node, harness.run_in_place(kernel, view, node.inputs, index))


def _may_take(kernel: Kernel, view: NodeView, index: int) -> bool:
    halo = None if kernel.halo is None else kernel.halo(view)
    return view.inputs[index].bytes == view.outputs[0].bytes and row_for_row(view, index, halo)


def test_every_source_has_a_record() -> None:
    files = (p for folder in ("kernels", "train") for p in harness.RUNTIME.glob(f"{folder}/**/*.c"))
    sources = {p.relative_to(harness.RUNTIME).as_posix() for p in files}
    assert sources - {k.source for k in KERNELS} == set()


@pytest.mark.parametrize("source", sorted({k.source for k in RECORDS}))
def test_source_is_named_as_its_symbol(source: str) -> None:
    symbols = {k.symbol for k in RECORDS if k.source == source}
    assert symbols == {source.rsplit("/", 1)[1].removesuffix(".c")}
