"""The C of MCUNet's training step against the interpreter."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Literal

import mcunet
import numpy as np
import pytest
from artifacts import artifact, interpreted, ran
from plan_c import Program as Compiled

from benchmarks.schemes import spec_of
from edgec import interp, pipeline
from edgec.backends.c_names import names_of
from edgec.backends.kernels_c import KERNELS
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle
from edgec.ir import Array, Program
from edgec.passes.straight_through import Format, integers
from edgec.passes.train import train
from edgec.plan import Plan, Target
from edgec.targets.load import load_target

pytestmark = mcunet.needed


def learning(scheme: int, gradients: Format) -> Program:
    program = import_mcu_pickle(mcunet.FILE, Head(10, seed=1))
    return train(program, spec_of(str(scheme)), integers(gradients, seed=2))


def step_alone(program: Program) -> Program:
    return Program((program.graph("train_step"),), program.constants, program.state)


def planned(scheme: int, gradients: Format, stream: Literal["off", "all"]) -> Plan:
    options = pipeline.Options(stream=stream)
    return pipeline.lower(
        step_alone(learning(scheme, gradients)), load_target("host"), options, KERNELS, "model"
    )


def calls_of(program: Program, count: int) -> list[tuple[str, dict[str, Array]]]:
    rng = np.random.default_rng(5)
    shape = program.graph("train_step").inputs[0].type.dims
    made = []
    for index in range(count):
        image = rng.integers(-128, 128, shape).astype(np.int8)
        label = np.array([index % 10], np.int32)
        made.append(("train_step", {"image": image, "label": label}))
    return made


def states_after(plan: Plan, target: Target, folder: Path, calls: list[dict[str, Array]]) -> dict[str, bytes]:
    """Bytes of every state after these steps of the Plan's one entry, compiled for this computer."""
    compiled = Compiled(plan, target, folder)
    (invoke,) = names_of(plan).invokes.values()
    (arena,) = plan.arenas
    memory = np.full(arena.bytes + 16, 0xA5, np.uint8)
    start = -memory.ctypes.data % 16
    instance = ctypes.create_string_buffer(64)
    assert compiled.library.edgec_model_init(instance, ctypes.c_void_p(memory.ctypes.data + start)) == 0
    slot = (ctypes.c_void_p * 1).in_dll(compiled.library, "edgec_fill_arenas")
    slot[:] = [memory.ctypes.data + start]  # dead bytes are overwritten after each item
    ctypes.c_ubyte.in_dll(compiled.library, "edgec_fill_byte").value = 0x5A
    for inputs in calls:
        for port in plan.entries[0].inputs:
            raw = np.ascontiguousarray(inputs[port.port.ref]).tobytes()
            at = start + plan.buffer(port.buffer).offset
            memory[at : at + len(raw)] = np.frombuffer(raw, np.uint8)
        assert getattr(compiled.library, f"edgec_model_{invoke}")(instance) == 0
    found = {}
    for state in plan.state:
        b = plan.buffer(state.buffer)
        found[state.buffer] = memory[start + b.offset : start + b.offset + b.bytes].tobytes()
    return found


@pytest.mark.parametrize("gradients", ["int8", "fp32"])
def test_states_are_the_interpreters_after_three_steps(tmp_path: Path, gradients: Format) -> None:
    program = learning(99, gradients)
    calls = [inputs for _, inputs in calls_of(program, 3)]
    state: dict[str, Array] | None = None
    for inputs in calls:
        _, state = interp.run(program, program.graph("train_step"), inputs, state)
    assert state is not None
    found = states_after(planned(99, gradients, "all"), load_target("host"), tmp_path, calls)
    assert len(found) == len(state)
    for name, content in state.items():
        assert found[f"state.{name}"] == np.ascontiguousarray(content).tobytes(), name


@pytest.mark.parametrize("gradients", ["int8", "fp32"])
def test_c_steps_are_the_interpreters_bit_for_bit(tmp_path: Path, gradients: Format) -> None:
    """Losses of four steps and the logits that the trained network then gives, with sanitizers."""
    program = learning(99, gradients)
    calls = calls_of(program, 4)
    image = calls[0][1]["image"]
    calls.append(("infer", {"image": image}))
    made = artifact(program, "host", tmp_path / "a", options=pipeline.Options(stream="all"))
    assert ran(made, program, calls, fill=0xA5) == interpreted(program, calls)


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("board", "gradients"), [("stm32f746-disco", "int8"), ("stm32f746-disco", "fp32"), ("cortex-m55", "int8")]
)
def test_the_emulated_board_gives_the_interpreters_bits(
    tmp_path: Path, board: str, gradients: Format
) -> None:
    """Two steps and the logits after them, by the kernels of Armv7E-M and with MVE."""
    program = learning(99, gradients)
    calls = calls_of(program, 2)
    calls.append(("infer", {"image": calls[0][1]["image"]}))
    options = pipeline.Options(stream="all", ram_bytes=256 << 10)
    made = artifact(program, board, tmp_path / "a", options=options)
    assert ran(made, program, calls, on="qemu", fill=0xA5) == interpreted(program, calls)
