"""State and several entries through the whole way: what the interpreter does, the built program does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from artifacts import artifact, compiled, drawn, interpreted, ran
from entry_programs import PROMPT, Decoder, counter, moving_average, rotation, tokens

from edgec import pipeline
from edgec.errors import TargetError
from edgec.ir import Program
from edgec.passes.quantize import float_islands
from edgec.passes.schedule import schedule
from edgec.plan import Use

qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None,
    reason="needs qemu-system-arm and arm-none-eabi-gcc",
)
MIXED = ("prefill", "decode", "decode", "prefill", "decode", "decode", "prefill", "decode")
DIALOGUE = [(entry, tokens(PROMPT if entry == "prefill" else 1, i)) for i, entry in enumerate(MIXED)]
CASES: dict[str, Program] = {
    "counter": counter(),
    "counter by copy": counter(late=True),
    "float moving average": moving_average(quantised=False),
    "int8 moving average": moving_average(quantised=True),
    "rotation": rotation(),
}


def words(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, np.float32)


@pytest.mark.parametrize("fill", [0, 0xA5])
@pytest.mark.parametrize("name", CASES)
def test_state_follows_the_interpreter(tmp_path: Path, name: str, fill: int) -> None:
    program = CASES[name]
    entries = [program.graphs[i * 5 % 3 % len(program.graphs)].name for i in range(7)]
    calls = drawn(program, entries, 1)
    made = artifact(program, "cortex-m4", tmp_path / "a")
    assert ran(made, program, calls, fill=fill) == interpreted(program, calls)


@pytest.mark.parametrize("fill", [0, 0xA5])
def test_an_int8_decoder_gives_the_interpreters_bytes_over_mixed_entries(tmp_path: Path, fill: int) -> None:
    program = Decoder(quantised=True).program()
    made = artifact(program, "cortex-m4", tmp_path / "a")
    assert ran(made, program, DIALOGUE, fill=fill) == interpreted(program, DIALOGUE)


def test_a_float_decoder_gives_the_interpreters_logits_over_mixed_entries(tmp_path: Path) -> None:
    program = Decoder(quantised=False).program()
    made = artifact(program, "cortex-m4", tmp_path / "a")
    found, expected = words(ran(made, program, DIALOGUE)), words(interpreted(program, DIALOGUE))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@qemu
@pytest.mark.parametrize("fill", [0, 0xA5])
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0"])
def test_firmware_of_an_int8_decoder_gives_the_interpreters_bytes(
    tmp_path: Path, target: str, fill: int
) -> None:
    program = Decoder(quantised=True).program()
    made = artifact(program, target, tmp_path / "a")
    assert ran(made, program, DIALOGUE, "qemu", fill) == interpreted(program, DIALOGUE)


@qemu
def test_firmware_updates_by_copy_and_from_constants(tmp_path: Path) -> None:
    program = rotation()
    calls = drawn(program, ["infer", "infer", "clear", "infer", "infer"], 3)
    made = artifact(program, "cortex-m0", tmp_path / "a")
    assert ran(made, program, calls, "qemu") == interpreted(program, calls)


def test_decoding_one_by_one_gives_the_logits_of_a_prefill(tmp_path: Path) -> None:
    program = Decoder(quantised=True).program()
    prompt = tokens(PROMPT, 0)["tokens"]
    single = [("decode", {"tokens": prompt[i : i + 1]}) for i in range(PROMPT)]
    made = artifact(program, "cortex-m4", tmp_path / "a")
    assert ran(made, program, single) == ran(made, program, [("prefill", {"tokens": prompt})])


def test_caches_and_position_are_updated_in_place() -> None:
    plan = compiled(Decoder(quantised=True).program(), "cortex-m4").plan
    assert [entry.updates for entry in plan.entries] == [(), ()]


def test_an_update_whose_old_content_is_read_later_is_a_copy() -> None:
    (entry,) = compiled(counter(late=True), "cortex-m4").plan.entries
    assert [to for to, _, _ in entry.updates] == ["state.count"]


def test_entries_share_one_arena_after_the_persistent_section() -> None:
    plan = compiled(Decoder(quantised=True).program(), "cortex-m4").plan
    (arena,) = plan.arenas
    tops = {
        name: max(b.offset + b.bytes for b in plan.buffers if b.entry == name)
        for name in ("prefill", "decode")
    }
    outside = [b for b in plan.buffers if b.use is not Use.STATE and b.inside is None]
    assert arena.bytes < sum(tops.values()) - arena.persistent_bytes
    assert min(b.offset for b in outside) == arena.persistent_bytes


def test_entries_share_their_weights() -> None:
    plan = compiled(Decoder(quantised=True).program(), "cortex-m4").plan
    constants = [{a.constant for c in e.calls for a in c.constants} for e in plan.entries]
    assert constants[0] == constants[1]


def test_golden_vectors_hold_every_entry(tmp_path: Path) -> None:
    made = artifact(Decoder(quantised=True).program(), "cortex-m4", tmp_path / "a")
    made.check("host", sanitize=True)
    assert made.golden_steps() == ((0, 4), (1, 4))


def test_golden_vectors_of_floats_are_compared_with_a_tolerance(tmp_path: Path) -> None:
    made = artifact(Decoder(quantised=False).program(), "cortex-m4", tmp_path / "a")
    made.check("host")


def test_a_golden_output_that_differs_is_named(tmp_path: Path) -> None:
    made = artifact(Decoder(quantised=True).program(), "cortex-m4", tmp_path / "a")
    expected = made.folder / "golden" / "out.bin"
    data = bytearray(expected.read_bytes())
    data[-1] ^= 1
    expected.write_bytes(bytes(data))
    with pytest.raises(TargetError, match="output logits of decode, sample 3, on host differs"):
        made.check("host")


def test_an_artifact_runs_the_entry_that_it_is_asked_for(tmp_path: Path) -> None:
    made = artifact(Decoder(quantised=True).program(), "cortex-m4", tmp_path / "a")
    assert made.run(tokens(1, 0), entry="decode")["logits"].shape == (1, 11)


def test_a_sequence_of_an_artifact_keeps_its_state(tmp_path: Path) -> None:
    program = Decoder(quantised=True).program()
    made = artifact(program, "cortex-m4", tmp_path / "a")
    found = made.sequence([("prefill", tokens(PROMPT, 0)), ("decode", tokens(1, 1))], raw=True)
    expected = interpreted(program, [("prefill", tokens(PROMPT, 0)), ("decode", tokens(1, 1))])
    assert b"".join(one["logits"].tobytes() for one in found) == expected


FLOATS = {
    "decoder": Decoder(quantised=False).program(),
    "counter by copy": counter(late=True),
    "moving average": moving_average(quantised=False),
    "rotation": rotation(),
}


@pytest.mark.parametrize("name", FLOATS)
def test_the_passes_keep_state_and_entries(name: str) -> None:
    program = FLOATS[name]
    steps = (*pipeline.float_steps(), pipeline.Step("schedule", schedule))
    passed = pipeline.run(program, steps, pipeline.Options(precision="fp32"), {}).program
    entries = [g.name for g in program.graphs] * 3
    calls = DIALOGUE if name == "decoder" else drawn(program, entries, 2)
    before, after = (words(interpreted(p, calls)) for p in (program, passed))
    assert np.abs(before - after).max() <= 1e-6 * np.abs(before).max()


def test_an_int8_moving_average_keeps_its_state_in_float() -> None:
    """The state has no quantisation of its own: what is stored is dequantised, what is read quantised."""
    program = moving_average(quantised=False)
    arrays = {"x": np.random.default_rng(0).normal(size=(64, 1, 6)).astype(np.float32)}
    options = pipeline.Options()
    passed = pipeline.run(program, pipeline.graph_steps(options, arrays), options, arrays).program
    assert passed.state["mean"].type.dtype.is_float
    assert [n.op for n in passed.graphs[0].nodes].count("quantize") == 1


def test_the_report_names_the_float_nodes_of_an_entry_that_was_not_calibrated() -> None:
    program = FLOATS["decoder"]
    arrays = {"tokens": np.zeros((2, PROMPT), np.int32)}
    options = pipeline.Options()
    passed = pipeline.run(program, pipeline.graph_steps(options, arrays), options, arrays).program
    named = [i for i in float_islands(passed, every=True) if i.graph == "decode"]
    assert [i.op for i in named].count("linear") == 4
    assert all("the calibration covers the first entry alone" in i.why for i in named if i.op == "linear")
