"""Targets: what comes with edgec is whole, and each mistake in a target file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import Exit, UserError
from edgec.targets.load import FOLDER, load_machines, load_target, load_targets, parse_size, target_names

BOARD = """\
title = "a board"
family = "c"
isa = "armv7e-m"
features = ["dsp"]
clock = 1
reserve_ram = "16K"
emulator = "mps2-an386"
source = "made up"

[toolchain]
cc = "arm-none-eabi-gcc"
cflags = []
ldflags = []

[[memory]]
name = "ram"
kind = "ram"
origin = 0x20000000
size = "64K"
align = 8
speed = 1
source = "made up"

[[memory]]
name = "flash"
kind = "flash"
origin = 0x0
size = "1M"
align = 4
speed = 1
source = "made up"
"""


def load_text(tmp_path: Path, text: str) -> str:
    """The message with which this target file is refused, its path replaced by FILE."""
    path = tmp_path / "board.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_target(str(path))
    assert caught.value.exit_code is Exit.USAGE
    return str(caught.value).replace(str(path), "FILE")


def test_the_named_targets_exist() -> None:
    cores = {"cortex-m0", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"}
    boards = {"host", "stm32f746-disco", "nucleo-h743", "rp2040-pico"}
    gpus = {"orin", "orin-nx", "orin-nano", "thor", "rtx-4090", "h100", "h200"}
    assert set(target_names()) == cores | boards | gpus


@pytest.mark.parametrize("name", target_names())
def test_a_target_has_memories_with_sources(name: str) -> None:
    target = load_target(name)
    assert target.rams and (target.flash_bytes > 0) == (target.family == "c")
    assert (target.gpu is not None) == (target.family == "cuda")
    assert all(m.source and m.align % 4 == 0 for m in target.memories)


@pytest.mark.parametrize("name", target_names())
def test_float_contraction_and_mve_are_never_on(name: str) -> None:
    flags = load_target(name).toolchain.cflags
    assert not any("mve" in f and "nomve" not in f for f in flags) and "-ffast-math" not in flags


def test_cortex_m0_runs_on_microbit_and_larger_networks_on_an385_with_trapping() -> None:
    target = load_target("cortex-m0")
    assert target.emulator is not None and target.emulator.machine == "microbit"
    assert target.emulator_large is not None and target.emulator_large.machine == "mps2-an385"
    assert target.emulator_large.trap_unaligned


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("cortex-m4", "mps2-an386"),
        ("cortex-m7", "mps2-an500"),
        ("cortex-m33", "mps2-an505"),
        ("cortex-m55", "mps3-an547"),
    ],
)
def test_each_core_has_its_emulated_machine(name: str, machine: str) -> None:
    target = load_target(name)
    assert target.emulator is not None and target.emulator.machine == machine


def test_h743_has_four_rams_fastest_first() -> None:
    rams = [(m.name, m.bytes >> 10) for m in load_target("nucleo-h743").rams]
    assert rams == [("dtcm", 128), ("axi", 512), ("sram1", 288), ("sram4", 64)]


def test_f746_has_320_kb_of_ram_and_1_mb_of_flash() -> None:
    target = load_target("stm32f746-disco")
    assert [m.bytes for m in target.rams] == [320 << 10] and target.flash_bytes == 1 << 20


def test_instructions_per_tick_is_a_multiple_of_a_quarter() -> None:
    assert all((4 * m.instructions_per_tick).is_integer() for m in load_machines().values())


def test_all_targets_load() -> None:
    assert [t.name for t in load_targets()] == list(target_names())


def test_a_target_file_of_the_users_own_loads_by_path(tmp_path: Path) -> None:
    path = tmp_path / "my-board.toml"
    path.write_text(BOARD)
    assert load_target(str(path)).name == "my-board"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("320K", 327680),
        ("1M", 1 << 20),
        ("1.5k", 1536),
        ("4096", 4096),
        (" 2 MiB ", 2 << 20),
        ("7B", 7),
        (9, 9),
    ],
)
def test_sizes_use_1024(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "-1K", "0", "1.3B", "12 apples", "1e6", "320 K B", "9" * 20, "٣K"])
def test_a_bad_size_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_size(text)
    assert str(caught.value) == (
        "EDGEC-E215: write a size as a whole number of bytes above 0, with K, M or G for 1024, 1024², 1024³ "
        f"(320K, 1.5M, 4096); {text!r} is not one"
    )


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        load_target("cortex_m4")
    assert str(caught.value) == (
        "EDGEC-E210: use --target cortex-m4: there is no target 'cortex_m4'. Targets: cortex-m0, cortex-m33, "
        "cortex-m4, cortex-m55, cortex-m7, h100, h200, host, nucleo-h743, orin, orin-nano, orin-nx, rp2040-pico, "
        "rtx-4090, stm32f746-disco, thor, or the path of a .toml file"
    )


def test_a_target_like_no_other_gets_the_list() -> None:
    with pytest.raises(UserError, match=r"choose a target that exists: there is no target '\.\./x'"):
        load_target("../x")


def test_the_machines_file_is_not_a_target() -> None:
    with pytest.raises(UserError, match="there is no target 'machines'"):
        load_target("machines")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError) as caught:
        load_target("no/such.toml")
    assert str(caught.value) == (
        "EDGEC-E211: give the path of a target file that can be read: no/such.toml: No such file or directory"
    )


def test_bad_toml_names_line_and_column(tmp_path: Path) -> None:
    assert load_text(tmp_path, "title = \n") == (
        "EDGEC-E211: correct the TOML of the target file FILE: Invalid value (at line 1, column 9)"
    )


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="correct the TOML of the target file"):
        load_target(str(path))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('isa = "armv7e-m"\n', "", "add the key isa (a text): it is missing"),
        ("clock = 1", "clok = 1", "add the key clock (a whole number): it is missing"),
        ("clock = 1", "clock = true", "make clock a whole number: it is True"),
        ("clock = 1", "clock = 0", "clock must be above 0: it is 0"),
        ('"16K"', '"1K"', "reserve_ram must lie between 2K and the 65536 bytes of all RAM: it is 1024"),
        ('"16K"', '"much"', "reserve_ram must be a size such as \"320K\": it is 'much'"),
        ('["dsp"]', '["DSP"]', "features may hold dsp, fpu, mve, simd, unaligned: it holds 'DSP'"),
        ('["dsp"]', '["mve"]', "[toolchain]: add the key mve_cflags (a list of texts): features hold mve"),
        ('["dsp"]', "3", "make features a list of texts: it is 3"),
        ('"c"', '"rocm"', "family must be one of c, cuda: it is 'rocm'"),
        ("align = 8", "align = 6", "[[memory]] ram: align must be 4, 8, 16, 32, 64 or 256: it is 6"),
        ("0x20000000", "-1", "[[memory]] ram: origin must be an address below 2^32: it is -1"),
        ('kind = "ram"', 'kind = "rom"', "[[memory]] ram: kind must be one of ram, flash: it is 'rom'"),
        ("0x20000000", "0x1000", "memories may not overlap: flash ends at 0x100000, ram begins at 0x1000"),
        ('name = "ram"', 'name = "flash"', "give each [[memory]] its own name: flash is used twice"),
        (
            'name = "ram"',
            'name = "a*/b"',
            "must be small letters, digits and _, a letter first: it is 'a*/b'",
        ),
        ("[toolchain]", "[tools]", "add the table [toolchain]: it is missing"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert problem in load_text(tmp_path, BOARD.replace(old, new, 1))


def test_all_problems_stand_in_one_report(tmp_path: Path) -> None:
    text = BOARD.replace("clock", "clok").replace("mps2-an386", "mps2-an3").replace("align = 4", "algn = 4")
    assert load_text(tmp_path, text) == (
        "EDGEC-E212: correct the target file FILE: 5 problems\n"
        "  add the key clock (a whole number): it is missing\n"
        "  [[memory]] flash: add the key align (a whole number): it is missing\n"
        "  [[memory]] flash: remove the unknown key algn; did you mean align?\n"
        "  emulator must be one of microbit, mps2-an385, mps2-an386, mps2-an500, mps2-an505, mps3-an547: "
        "it is 'mps2-an3'\n"
        "  remove the unknown key clok; did you mean clock?"
    )


def test_a_board_without_memory_is_refused(tmp_path: Path) -> None:
    assert "add at least one [[memory]] table" in load_text(tmp_path, BOARD.split("[[memory]]")[0])


def test_every_toml_file_here_is_a_target_or_the_machines() -> None:
    assert {p.stem for p in FOLDER.glob("*.toml")} == {*target_names(), "machines"}
