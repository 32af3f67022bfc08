"""Which layers are rounded on a target, by the roofline, and what the report says of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_awq import network
from test_smooth import samples

from edgec import pipeline
from edgec.build import constant
from edgec.cost import LAUNCH_SECONDS, LinearSize, linear_seconds
from edgec.ir import Array, DType, Port, Program
from edgec.passes.low_precision import Journal, LowPrecision, choices, prepare, round_layers, slower_layers
from edgec.passes.sensitivity import sensitivity
from edgec.pipeline import Options
from edgec.plan import Gpu
from edgec.targets.load import load_target
from edgec.text import read


def gpu(name: str) -> Gpu:
    found = load_target(name).gpu
    assert found is not None
    return found


def test_one_token_waits_for_the_weights_alone() -> None:
    orin, size = gpu("orin"), LinearSize(1, 4096, 4096)
    assert linear_seconds("fp16", size, orin) == pytest.approx(2 * 4096 * 4096 / orin.bandwidth, rel=1e-3)
    assert linear_seconds("w4a16", size, orin) / linear_seconds("fp16", size, orin) == pytest.approx(
        4.19 / 16, rel=0.01
    )


def test_many_rows_wait_for_the_products_and_for_unpacking() -> None:
    orin, size = gpu("orin"), LinearSize(2048, 4096, 4096)
    fp16 = linear_seconds("fp16", size, orin)
    assert fp16 == pytest.approx(2 * 2048 * 4096 * 4096 / orin.fp16_flops)
    assert linear_seconds("w4a16", size, orin) > fp16
    assert linear_seconds("w8a8", size, orin) < 0.6 * fp16


def test_a_kernel_that_rounds_the_input_costs_its_launch_once_for_all_who_share_it() -> None:
    h200 = gpu("h200")
    alone, shared = (linear_seconds("w8a8", LinearSize(1, 64, 64, sharing=n), h200) for n in (1, 3))
    assert alone - shared == pytest.approx(2 / 3 * LAUNCH_SECONDS, rel=0.01)


def test_layers_that_would_be_slower_stay_and_say_so() -> None:
    p, journal = network(), Journal()
    how = LowPrecision("w8a8", smooth="auto", gpu=gpu("h200"))
    assert set(slower_layers(p, how)) == {"q", "k", "v", "o", "up", "down", "head"}
    same = round_layers(prepare(p, samples(), how, journal), how, journal)
    assert same is p
    rows = choices(p, same, how, journal)
    assert {row["became"] for row in rows} == {"float"}
    assert rows[0]["why"].startswith("predicted slower: 0.5") and "(12 rows in g)" in rows[0]["why"]
    assert rows[-1]["why"] == "the head: no other linear layer follows"


def test_every_layer_says_what_it_became_and_why() -> None:
    p, journal = network(), Journal()
    how = LowPrecision("w4a16", awq=True, group=64, keep=frozenset({"k"}))
    rounded = round_layers(prepare(p, samples(), how, journal), how, journal)
    became = {row["layer"]: (row["became"], row["why"]) for row in choices(p, rounded, how, journal)}
    assert became["k"] == ("float", "kept in float by request")
    assert became["head"][0] == "float"
    assert [became[n][0] for n in ("q", "v", "o", "up", "down")] == ["w4a16"] * 5
    assert became["q"][1].startswith("AWQ exponent ") and "clipped" not in became["q"][1]
    assert "of groups clipped" in became["down"][1]


def test_channels_that_no_group_divides_stay() -> None:
    graph = read("graph g(%x: f32[1,40]) { %a: f32[1,8] = linear(%x, @w) // odd\n return %a }")
    p = Program((graph,), {"w": constant(np.ones((8, 40), np.float32))}, {})
    how, journal = LowPrecision("w4a16", head=True), Journal()
    (row,) = choices(p, round_layers(p, how, journal), how, journal)
    assert row["why"] == "no group size divides its 40 channels"


@pytest.mark.parametrize("awq", [False, True])
def test_channels_that_only_a_group_of_32_divides_stay_on_a_gpu(awq: bool) -> None:
    """Its kernels take groups of 64 and 128; a network for no target may have 32."""
    graph = read("graph g(%x: f32[1,96]) { %a: f32[1,4096] = linear(%x, @w) // odd\n return %a }")
    weights = np.random.default_rng(0).normal(size=(4096, 96)).astype(np.float32)
    p, given = Program((graph,), {"w": constant(weights)}, {}), [{"x": np.ones((1, 96), np.float32)}]
    for target, became, why in (
        (None, "w4a16", None),
        (gpu("orin"), "float", "no group size divides its 96 channels"),
        (gpu("h200"), "float", "no group size divides its 96 channels"),
    ):
        how, journal = LowPrecision("w4a16", awq=awq, head=True, gpu=target), Journal()
        after = round_layers(prepare(p, given, how, journal), how, journal)
        (row,) = choices(p, after, how, journal)
        assert row["became"] == became
        assert why is None or row["why"] == why


@pytest.mark.parametrize(("precision", "op"), [("w8a8", "linear_w8a8"), ("w4a16", "linear_w4")])
def test_the_pipeline_rounds_and_then_halves(precision: pipeline.Precision, op: str) -> None:
    options = Options(
        precision=precision, smooth="auto" if precision == "w8a8" else None, awq=precision == "w4a16"
    )
    arrays: dict[str, Array] = {"x": np.concatenate([s["x"] for s in samples()])}
    p = with_ports()
    trace = pipeline.run(p, pipeline.graph_steps(options, arrays), options, arrays)
    ops = [n.op for n in trace.program.graphs[0].nodes]
    assert ops.count(op) == 6 and ops.count("linear") == 1
    floats = {t.dtype for t in trace.program.type_of(trace.program.graphs[0]).values() if t.dtype.is_float}
    assert floats <= {DType.F16, DType.F32}
    assert pipeline.output_snr(trace, arrays) > 15


def with_ports() -> Program:
    """The network with the names that its user knows."""
    p = network()
    graph = p.graphs[0]
    ports = {"input_ports": (Port("x", "x", (0, 1, 2)),), "output_ports": (Port("y", "y", (0, 1, 2)),)}
    return replace(p, graphs=(replace(graph, **ports),))


def test_sensitivity_names_the_layer_that_was_hurt() -> None:
    p = with_ports()
    arrays: dict[str, Array] = {"x": np.concatenate([s["x"] for s in samples()])}
    how = LowPrecision("w4a16", group=32)

    def but(keep: frozenset[str]) -> Program:
        return round_layers(p, replace(how, keep=keep), Journal())

    whole, *rows = sensitivity(p, arrays, but)
    assert whole.layer == "" and {r.layer for r in rows} == {"q", "k", "v", "o", "up", "down"}
    assert [r.network_snr_db for r in rows] == sorted(r.network_snr_db for r in rows)
    assert all(r.layer_snr_db is not None and r.layer_snr_db < 40 for r in rows)
    assert whole.network_mse >= 0.3 * rows[0].network_mse
