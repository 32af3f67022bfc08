"""Weight decay, Q8.8, momentum and accumulation of int8 parameters: against PyTorch's optimisers and numpy written
here, and in C against the interpreter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcunet
import numpy as np
import pytest
import torch
from artifacts import artifact, drawn, interpreted, ran
from host_model import HostModel

from benchmarks.schemes import spec_of
from edgec import interp, pipeline
from edgec.backends.kernels_c import KERNELS
from edgec.build import constant
from edgec.errors import UserError
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle
from edgec.ir import Array, Persistence, Program, Quant, State
from edgec.ops import OPS
from edgec.ops.block_float import Rounding, unpack_mask
from edgec.ops.train_conv import TrainConv2dBiasAttrs, TrainConv2dWeightAttrs
from edgec.ops.train_sums import SgdIntegerAttrs, SumConv2dWeightAttrs
from edgec.passes.straight_through import Format, integers
from edgec.passes.train import train
from edgec.plan import Use
from edgec.targets.load import load_target
from edgec.training import report
from edgec.training.options import Scheme, TrainSpec, WeightSlice
from edgec.verify import verify
from tests.test_passes.test_straight_through import chain

SCHEME = Scheme(3, (WeightSlice("a", None, 1.0), WeightSlice("b", None, 0.5), WeightSlice("c", None, 0.5)))
RATE = 0.02


@dataclass(frozen=True)
class Case:
    rounding: Rounding = "stochastic"
    optimizer: Any = "sgd"
    decay: float = 0.0
    accumulate: int = 1

    @property
    def spec(self) -> TrainSpec:
        return TrainSpec(
            "sparse",
            scheme=SCHEME,
            optimizer=self.optimizer,
            rate=RATE,
            momentum=0.75,
            weight_decay=self.decay,
            accumulate=self.accumulate,
        )

    def program(self, gradients: Format = "int8", network: Program | None = None) -> Program:
        made = train(network or chain(), self.spec, integers(gradients, self.rounding, seed=5))
        verify(made)
        return made


CASES = {
    "decay": Case(decay=0.3),
    "q8.8": Case("q8.8"),
    "q8.8, decay": Case("q8.8", decay=0.3),
    "momentum": Case(optimizer="momentum"),
    "momentum, nearest, decay": Case("nearest", "momentum", 0.3),
    "momentum, q8.8, decay": Case("q8.8", "momentum", 0.3),
    "accumulate": Case(accumulate=3),
    "accumulate, q8.8, decay": Case("q8.8", decay=0.3, accumulate=3),
    "accumulate, momentum": Case(optimizer="momentum", accumulate=3),
    "accumulate, momentum, q8.8, decay": Case("q8.8", "momentum", 0.3, 3),
}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def samples(program: Program, count: int) -> list[dict[str, Array]]:
    found = [inputs for _, inputs in drawn(program, ["train_step"] * count, 8)]
    for index, inputs in enumerate(found):
        inputs["label"] = np.array([index % 3], np.int32)
    return found


class Recorder:
    """Gradients of a step to each state, in its integers, by PyTorch from what the backward nodes read."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.values: dict[str, Array] = {"@" + n: c.data for n, c in program.constants.items()}

    def step(self, inputs: dict[str, Array], state: dict[str, Array]) -> dict[str, Array]:
        graph = self.program.graph("train_step")
        self.values.update(inputs)
        self.values.update({"$" + n: a for n, a in state.items()})
        self.found: dict[str, Array] = {}
        _, after = interp.run(self.program, graph, inputs, state, observe=self.keep)
        return after

    def keep(self, node: Any, results: tuple[Array, ...]) -> None:
        self.values.update({v.name: r for v, r in zip(node.outputs, results, strict=True)})
        ops = ("train_conv2d_weight", "sum_conv2d_weight", "train_conv2d_bias", "sum_conv2d_bias")
        if node.op in ops:
            parameter = node.inputs[0][1:].removesuffix(".sum").removesuffix(".momentum")
            given = [self.values[r] for r in node.inputs]
            self.found[parameter] = gradient(node, given)


def gradient(node: Any, inputs: list[Array]) -> Array:
    """dw or db times factor * 2**e, float64, by torch.nn.grad."""
    weight = node.op.endswith("weight")
    x, rest = (inputs[1], inputs[2:]) if weight else (inputs[0], inputs[1:])
    pair = rest[0].dtype == np.int8
    g, e, mask, factor = (rest[0], float(rest[1][0]), *rest[2:4]) if pair else (rest[0], 0.0, *rest[1:3])
    h = np.where(unpack_mask(mask, g.shape), g, 0.0).astype(np.float64) * 2.0**e
    if not weight:
        return np.asarray(h.reshape(-1, h.shape[-1]).sum(0) * factor)
    a, w = node.attrs, inputs[0]
    if a.groups > 1:  # depthwise: the trained channels are those of x, idx the gradient's
        h = h[..., inputs[-1]] if h.shape[-1] != w.shape[0] else h
    top, bottom, left, right = a.pad
    padded = torch.nn.functional.pad(
        torch.tensor(x.astype(np.float64) - a.zero).permute(0, 3, 1, 2), (left, right, top, bottom)
    )
    groups = w.shape[0] if a.groups > 1 else 1
    shape = tuple(np.transpose(w, (0, 3, 1, 2)).shape)
    out = torch.tensor(h).permute(0, 3, 1, 2)
    made = torch.nn.grad.conv2d_weight(padded, shape, out, a.stride, 0, a.dilation, groups)  # type: ignore[no-untyped-call]
    return np.asarray(made.permute(0, 2, 3, 1).numpy() * factor[:, None, None, None])


def real(state: dict[str, Array], name: str) -> Array:
    """A parameter in its integer steps, with its fraction."""
    fraction = state.get(f"{name}.fraction")
    whole = state[name].astype(np.float64)
    return np.asarray(whole if fraction is None else whole + fraction / 256.0)


def initial(program: Program) -> dict[str, Array]:
    return {n: s.initial.data for n, s in program.state.items()}


def quantised(program: Program) -> list[str]:
    return [n for n, s in program.state.items() if s.type.quant is not None]


@pytest.mark.parametrize("gradients", ["int8", "fp32"])
@EVERY
def test_parameters_and_velocities_are_those_of_torch(case: Case, gradients: Format) -> None:
    """Twelve steps: a parameter differs from that of torch.optim.SGD, which starts each update from ours, by less than
    one rounding; velocities, which go on by themselves, by float32's."""
    program = case.program(gradients)
    state, names, recorder = initial(program), quantised(program), Recorder(program)
    tensors = {n: torch.nn.Parameter(torch.tensor(real(state, n))) for n in names}
    momentum = case.spec.momentum if case.optimizer == "momentum" else 0.0
    torch_sgd = torch.optim.SGD(tensors.values(), RATE, momentum, weight_decay=case.decay)
    sums = {n: np.zeros(state[n].shape) for n in names}
    moved = updates = 0
    for number, inputs in enumerate(samples(program, 12), 1):
        before = state
        state = recorder.step(inputs, state)
        assert set(recorder.found) == set(names)
        for name in names:
            sums[name] = sums[name] + recorder.found[name] / case.accumulate
        if number % case.accumulate:
            assert all((state[n] == before[n]).all() for n in names)
            continue
        if case.accumulate > 1:
            _, state = interp.run(program, program.graph("apply"), {}, state)
        for name in names:
            tensors[name].data = torch.tensor(real(before, name))
            tensors[name].grad = torch.tensor(sums[name])
            sums[name] = np.zeros(state[name].shape)
        torch_sgd.step()
        updates += 1
        for name in names:
            limit = 127 if state[name].dtype == np.int8 else 2**31 - 1
            unit = 1 / 256 if f"{name}.fraction" in state else 1.0
            unit *= 0.5 if case.rounding == "nearest" else 1.0
            wanted = np.clip(tensors[name].detach().numpy(), -limit, limit)
            assert np.abs(real(state, name) - wanted).max() <= unit * 1.01, name
            moved += int((state[name] != before[name]).sum())
            if momentum:
                theirs = torch_sgd.state[tensors[name]]["momentum_buffer"].numpy()
                ours = state[f"{name}.momentum"]
                assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max(), name
    assert updates == 12 // case.accumulate
    assert moved > 20
    assert int(state["step"][0]) == updates


def draws(op: str, attrs: Any, inputs: tuple[Array, ...], number: int, count: int) -> tuple[Array, Array]:
    """Mean of the new parameter, fraction included, over steps of other numbers, and the largest of one draw."""
    total, largest = np.zeros(inputs[0].shape), 0.0
    given = list(inputs)
    for step in range(count):
        given[number] = np.array([step], np.int32)
        w, *fraction = OPS[op].ref(attrs, tuple(given))  # type: ignore[arg-type]
        now = w.astype(np.float64) + (fraction[0] / 256.0 if fraction else 0.0)
        total += now
        largest = max(largest, float(np.abs(now - inputs[0]).max()))
    return total / count, np.array(largest)


@pytest.mark.parametrize("decays", [False, True])
@pytest.mark.parametrize("rounding", ["stochastic", "q8.8"])
@pytest.mark.parametrize("op", ["train_conv2d_weight", "train_conv2d_bias", "sgd_integer"])
def test_the_mean_of_many_draws_is_the_float_update(op: str, rounding: Rounding, decays: bool) -> None:
    rng, count, q88 = np.random.default_rng(31), 1500, rounding == "q8.8"
    rate, decay = 0.05, np.array([0.0, 0.2, 0.5, 1.5], np.float32)
    q, e = rng.integers(-20, 21, (1, 3, 3, 4)).astype(np.int8), -4
    factor = rng.uniform(0.05, 0.3, 4).astype(np.float32)
    given = (q, np.array([e], np.int32), np.full(5, 255, np.uint8), factor)
    scalars = (np.array([rate], np.float32), np.zeros(1, np.int32))
    w = rng.integers(-90, 91, (4, 1, 1, 5)).astype(np.int8)
    x = rng.integers(-9, 10, (1, 3, 3, 5)).astype(np.int8)
    attrs: Any
    if op == "train_conv2d_bias":
        w = rng.integers(-900, 900, 4).astype(np.int32)
        step = q.reshape(9, 4).astype(np.float64).sum(0) * factor * 2.0**e
        attrs, inputs, number, q88 = (
            TrainConv2dBiasAttrs(3, 4, rounding, decays),
            (w, *given, *scalars),
            6,
            False,
        )
    elif op == "train_conv2d_weight":
        both = np.einsum("po,pi->oi", q.reshape(9, 4).astype(np.float64), x.reshape(9, 5) + 2.0)
        step = (both * factor[:, None] * 2.0**e).reshape(w.shape)
        attrs, inputs, number = (
            TrainConv2dWeightAttrs(-2, 3, 4, rounding, decays=decays),
            (w, x, *given, *scalars),
            7,
        )
    else:
        step = rng.normal(size=w.shape) * 5
        attrs, inputs, number = (
            SgdIntegerAttrs(3, 4, rounding, decays),
            (w, step.astype(np.float32), *scalars),
            3,
        )
    fraction = rng.integers(-128, 128, w.shape).astype(np.int8)
    inputs += ((fraction,) if q88 else ()) + ((decay,) if decays else ())
    start = w + (fraction / 256.0 if q88 else 0.0)
    pull = (decay[:, None, None, None] if w.ndim == 4 else decay) * start if decays else 0.0
    mean, _ = draws(op, attrs, inputs, number, count)
    off = mean - (start - rate * (step + pull))
    unit = 1 / 256 if q88 else 1.0
    assert np.abs(off).max() < 5 * 0.5 * unit / np.sqrt(count)
    assert np.abs(off).max() > 0


def test_steps_below_a_half_add_up_in_q8_8_alone() -> None:
    w = np.zeros((2, 1, 1, 3), np.int8)
    total = np.full(w.shape, -0.02, np.float32)  # a fiftieth of a step of the weight, five of its fraction
    kept: dict[Rounding, Array] = {}
    roundings: tuple[Rounding, ...] = ("nearest", "q8.8")
    for rounding in roundings:
        found: tuple[Array, ...] = (w, np.zeros_like(w))
        for step in range(100):
            rest = (total, np.ones(1, np.float32), np.array([step], np.int32))
            attrs = SgdIntegerAttrs(1, 2, rounding)
            made = OPS["sgd_integer"].ref(attrs, (found[0], *rest, *found[1:][: rounding == "q8.8"]))  # type: ignore[arg-type]
            found = (*made, np.zeros_like(w))[:2]
        kept[rounding] = found[0] + found[1] / 256.0
    assert (kept["nearest"] == 0.0).all()
    np.testing.assert_allclose(kept["q8.8"], 2.0, atol=0.15)


def test_frozen_columns_and_dead_channels_do_not_decay() -> None:
    network = chain()
    name = next(n for n in network.constants if n == "a.w")
    old = network.constants[name]
    assert old.type.quant is not None
    scales = (old.type.quant.scale[0] * 1e-9, *old.type.quant.scale[1:])
    network.constants[name] = constant(old.data, Quant(scales, old.type.quant.zero, old.type.quant.axis))
    bias = network.constants["a.b"]
    assert bias.type.quant is not None
    kept = (bias.type.quant.scale[0] * 1e-9, *bias.type.quant.scale[1:])
    network.constants["a.b"] = constant(bias.data, Quant(kept, bias.type.quant.zero, bias.type.quant.axis))
    for case in (Case(decay=9.0), Case("q8.8", "momentum", 9.0), Case(decay=9.0, accumulate=2)):
        program = case.program(network=network)
        state, frozen = initial(program), {n: c.data.copy() for n, c in program.constants.items()}
        for number, inputs in enumerate(samples(program, 4), 1):
            _, state = interp.run(program, program.graph("train_step"), inputs, state)
            if case.accumulate > 1 and number % case.accumulate == 0:
                _, state = interp.run(program, program.graph("apply"), {}, state)
        for parameter in ("a.w.trained", "a.b.trained"):
            first = program.state[parameter].initial.data
            assert (state[parameter][0] == first[0]).all()
            assert (state[parameter][1:] != first[1:]).any()
        assert all((program.constants[n].data == data).all() for n, data in frozen.items())


@EVERY
def test_a_loss_that_is_not_finite_changes_nothing(case: Case) -> None:
    program = case.program()
    inputs = samples(program, 2)
    state = initial(program)
    _, state = interp.run(program, program.graph("train_step"), inputs[0], state)
    head = np.array(state["head.w.trained"])
    head[0, 0] = np.nan
    broken = {**state, "head.w.trained": head}
    _, after = interp.run(program, program.graph("train_step"), inputs[1], broken)
    for name, content in broken.items():
        np.testing.assert_array_equal(after[name], content, err_msg=name)


def test_rate_0_leaves_the_parameters_as_they_are() -> None:
    program = CASES["momentum, q8.8, decay"].program()
    state = {**initial(program), "learning_rate": np.zeros(1, np.float32)}
    for inputs in samples(program, 3):
        _, state = interp.run(program, program.graph("train_step"), inputs, state)
    assert all((state[n] == program.state[n].initial.data).all() for n in quantised(program))
    assert (state["a.w.trained.momentum"] != 0).any()  # as torch.optim.SGD's


def kinds(program: Program) -> dict[str, Persistence]:
    return {n.rsplit(".", 1)[1]: s.persistence for n, s in program.state.items() if "." in n}


def test_states_beside_the_parameters() -> None:
    plain = Case().program()
    assert {"fraction", "momentum", "sum"} & set(kinds(plain)) == set()
    ops = {n.op for n in plain.graph("train_step").nodes}
    assert {"sum_conv2d_weight", "sgd_integer", "velocity"} & ops == set()
    assert all(not n.attrs.decays for n in plain.graph("train_step").nodes if n.op.startswith("train_conv2d"))  # type: ignore[attr-defined]
    full = CASES["accumulate, momentum, q8.8, decay"].program()
    found = kinds(full)
    assert (found["fraction"], found["momentum"]) == (Persistence.SAVED, Persistence.SAVED)
    assert found["sum"] is Persistence.KEPT
    for name in quantised(full):
        assert (f"{name}.fraction" in full.state) == (full.state[name].type.dtype.name == "I8")
        assert full.state[f"{name}.momentum"].type.dims == full.state[name].type.dims


def weights(program: Program, dtype: str) -> int:
    return sum(s.type.size for s in program.state.values() if s.type.quant and s.type.dtype.name == dtype)


@pytest.mark.parametrize("name", ["q8.8", "momentum", "momentum, q8.8, decay"])
def test_updates_are_in_place_and_cost_their_states_alone(name: str) -> None:
    def planned(case: Case) -> Any:
        program = case.program()
        step = Program((program.graph("train_step"),), program.constants, program.state)
        plan = pipeline.lower(step, load_target("host"), pipeline.Options(), KERNELS, "m")
        return program, plan, sum(b.bytes for b in plan.buffers if b.use is Use.STATE)

    program, plain, states = planned(Case())
    mine, plan, bytes_ = planned(CASES[name])
    assert plan.entries[0].updates == plain.entries[0].updates
    eight, head = weights(program, "I8"), program.state["head.w.trained"].type.bytes
    wanted = (eight if "q8.8" in name else 0) + (
        4 * (eight + weights(program, "I32")) + head if "momentum" in name else 0
    )
    assert bytes_ - states == wanted
    assert plan.arenas[0].bytes - plain.arenas[0].bytes == pytest.approx(wanted, abs=16 * len(mine.state))


def test_the_report_counts_them() -> None:
    case = CASES["q8.8"]
    program = case.program()
    plan = pipeline.lower(program, load_target("host"), pipeline.Options(), KERNELS, "m")
    section = report.build(plan, program, case.spec)
    assert section is not None
    assert section["optimizer_bytes"] == weights(program, "I8")


def test_adam_is_for_floats() -> None:
    with pytest.raises(UserError) as raised:
        Case(optimizer="adam").program()
    assert str(raised.value) == (
        "EDGEC-E248: give --optimizer sgd or momentum, or --precision fp32, or train a float head alone: int8 layers "
        "do not learn by Adam, which fp32 has"
    )


def after(program: Program, calls: list[tuple[str, dict[str, Array]]]) -> dict[str, Array]:
    state: dict[str, Array] | None = None
    for entry, inputs in calls:
        _, state = interp.run(program, program.graph(entry), inputs, state)
    assert state is not None
    return state


def steps(program: Program, case: Case, count: int) -> list[tuple[str, dict[str, Array]]]:
    calls = []
    for number, inputs in enumerate(samples(program, count), 1):
        calls.append(("train_step", inputs))
        if case.accumulate > 1 and number % case.accumulate == 0:
            calls.append(("apply", {}))
    return calls


@pytest.mark.parametrize("gradients", ["int8", "fp32"])
@EVERY
def test_states_in_c_are_the_interpreters_bit_for_bit(case: Case, gradients: Format, tmp_path: Path) -> None:
    program = case.program(gradients)
    model = HostModel(program, tmp_path)
    calls = steps(program, case, 6)
    for entry, inputs in calls:
        model.call(entry, inputs)
    for name, content in after(program, calls).items():
        ours = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        np.testing.assert_array_equal(model.bytes_at(f"state.{name}"), ours, err_msg=name)


@pytest.mark.qemu
@pytest.mark.parametrize("target", ["cortex-m0", "stm32f746-disco"])
@pytest.mark.parametrize("name", ["q8.8, decay", "decay", "accumulate, momentum, q8.8, decay"])
def test_emulated_boards_give_the_interpreters_bits(name: str, target: str, tmp_path: Path) -> None:
    case = CASES[name]
    program = case.program()
    calls = [*steps(program, case, 6), *drawn(program, ["infer", "evaluate"], 9)]
    calls[-1][1]["label"] = np.array([1], np.int32)
    made = artifact(program, target, tmp_path / "a")
    assert ran(made, program, calls, on="qemu", fill=0xA5) == interpreted(program, calls)


def test_sums_of_gradients_need_no_decay_to_be_exact() -> None:
    """keep 1, a share of a half: two halves of one gradient are the gradient, bit for bit."""
    rng = np.random.default_rng(3)
    q, e = rng.integers(-127, 128, (1, 2, 2, 3)).astype(np.int8), np.array([-9], np.int32)
    x = rng.integers(-128, 128, (1, 2, 2, 4)).astype(np.int8)
    rest = (x, q, e, np.full(2, 255, np.uint8), np.array([0.5, 2.0, 8.0], np.float32))
    attrs, total = SumConv2dWeightAttrs(0), np.zeros((3, 1, 1, 4), np.float32)
    (whole,) = OPS["sum_conv2d_weight"].ref(attrs, (total, *rest, np.ones(1, np.float32)))  # type: ignore[arg-type]
    for _ in range(2):
        (total,) = OPS["sum_conv2d_weight"].ref(attrs, (total, *rest, np.full(1, 0.5, np.float32)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(total, whole)


def test_saved_states_hold_fractions_and_velocities() -> None:
    program = CASES["momentum, q8.8, decay"].program()
    saved = [
        n for n, s in program.state.items() if isinstance(s, State) and s.persistence is Persistence.SAVED
    ]
    assert {f"{n}.momentum" for n in quantised(program)} <= set(saved)


@mcunet.needed
def test_mcunet_in_q8_8(tmp_path: Path) -> None:
    """Scheme 99: a byte a trained weight more, and every state after three steps in C is the interpreter's."""
    network = import_mcu_pickle(mcunet.FILE, Head(10, seed=1))
    plain, program = (
        train(network, spec_of("99"), integers("int8", rounding, seed=2))  # type: ignore[arg-type]
        for rounding in ("stochastic", "q8.8")
    )
    model = HostModel(program, tmp_path, stream="all")
    fewer = pipeline.lower(plain, load_target("host"), pipeline.Options(stream="all"), KERNELS, "model")
    assert model.plan.arenas[0].bytes - fewer.arenas[0].bytes == weights(program, "I8") == 52_480
    calls = drawn(program, ["train_step"] * 3, 6)
    for entry, inputs in calls:
        model.call(entry, inputs)
    expected = after(program, calls)
    for name, content in expected.items():
        ours = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        np.testing.assert_array_equal(model.bytes_at(f"state.{name}"), ours, err_msg=name)
    moved = [n for n in expected if n.endswith(".fraction")]
    assert len(moved) == 6
    assert all((expected[n] != 0).any() for n in moved)
