"""A network in two of the four RAMs of nucleo-h743: what is placed where, through API and firmware to its outputs."""

from __future__ import annotations

import shutil

import pytest
from artifacts import artifact, compiled, drawn, interpreted, ran
from plan_cases import Block, mobile_net_s8

from edgec import device
from edgec.artifact import Artifact
from edgec.pipeline import Options
from edgec.plan import Plan

WHOLE_MAPS = Options(stream="off")
PROGRAM = mobile_net_s8(160, (Block(2, 1, 8),))  # its largest moment, 256 KB, exceeds the 128 KB of DTCM
CALLS = drawn(PROGRAM, ["infer", "infer"], 0)
qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None,
    reason="needs qemu-system-arm and arm-none-eabi-gcc",
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compiled(PROGRAM, "nucleo-h743", "net", WHOLE_MAPS).plan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return artifact(PROGRAM, "nucleo-h743", tmp_path_factory.mktemp("split") / "a", "net", WHOLE_MAPS)


def test_dtcm_fills_first_and_axi_takes_the_rest(plan: Plan) -> None:
    assert [a.memory for a in plan.arenas] == ["dtcm", "axi"]
    assert plan.arenas[0].bytes <= 128 << 10


def test_the_map_that_is_read_twice_lives_in_dtcm(plan: Plan) -> None:
    """The residual's operand is written once and read by the expansion and the addition; all others are read once."""
    shared = plan.entries[0].calls[0].outputs[0].buffer
    assert plan.buffer(shared).memory == "dtcm"


def test_no_buffer_shares_memory_with_one_elsewhere(plan: Plan) -> None:
    memories = {b.name: b.memory for b in plan.buffers}
    assert all(b.inside is None or memories[b.inside] == b.memory for b in plan.buffers)


def test_the_header_has_a_size_and_init_a_pointer_for_each_memory(made: Artifact, plan: Plan) -> None:
    header = (made.folder / "src" / "model.h").read_text(encoding="utf-8")
    for arena in plan.arenas:
        assert f"#define EDGEC_NET_ARENA_{arena.memory.upper()}_BYTES {arena.bytes}\n" in header
    assert "edgec_net_init(edgec_net *m, void *arena_dtcm, void *arena_axi);" in header


def test_the_arena_maps_say_what_lies_where(made: Artifact) -> None:
    source = (made.folder / "src" / "model.c").read_text(encoding="utf-8")
    assert "/* Arena dtcm:" in source and "/* Arena axi:" in source
    assert "m->arena_dtcm + " in source and "m->arena_axi + " in source


@pytest.mark.parametrize("fill", [0, 0xA5])
def test_the_host_program_gives_the_interpreters_bytes(made: Artifact, fill: int) -> None:
    assert ran(made, PROGRAM, CALLS, fill=fill) == interpreted(PROGRAM, CALLS)


@qemu
@pytest.mark.parametrize("fill", [0, 0xA5])
def test_the_firmware_gives_the_interpreters_bytes(made: Artifact, fill: int) -> None:
    assert ran(made, PROGRAM, CALLS, "qemu", fill) == interpreted(PROGRAM, CALLS)


@qemu
def test_each_arena_has_a_section_of_its_size(made: Artifact, plan: Plan) -> None:
    assert device.sizes(made.built("qemu")).arenas == {a.memory: a.bytes for a in plan.arenas}
