"""Words that cannot be meant: each is refused with exit code 2 and the word to use instead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli_command import Command

SIZES = "write a size as a whole number of bytes above 0, with K, M or G for 1024, 1024², 1024³ (320K, 1.5M, 4096)"
TARGETS = (
    "cortex-m0, cortex-m33, cortex-m4, cortex-m55, cortex-m7, h100, h200, host, nucleo-h743, orin, orin-nano, "
    "orin-nx, rp2040-pico, rtx-4090, stm32f746-disco, thor, or the path of a .toml file"
)
COMMANDS = (
    "compile, run, generate, finetune, bench, report, check, quantize, tune, targets, ops, bisect, control, doctor, "
    "completion"
)
M0 = "compile -q --no-build net.pt2 --calib calib.npz -o out --target cortex-m0"


@dataclass(frozen=True, slots=True)
class Slip:
    """What was typed, the answer, and what the answer says to type."""

    words: str
    text: str
    cure: str


SLIPS = (
    Slip(
        "compil net.pt2",
        f"EDGEC-E203: use compile: COMMAND may be {COMMANDS}; 'compil' is none of them",
        "compile --help",
    ),
    Slip(
        "compile net.pt2",
        "EDGEC-E201: see `edgec compile --help`: the following arguments are required: --target, -o/--out",
        "compile --help",
    ),
    Slip(
        f"{M0} --precision int4",
        "EDGEC-E203: use int8: --precision may be int8, fp32, fp16, bf16, w8a8, w4a16; 'int4' is none of them",
        f"{M0} --precision int8",
    ),
    Slip(
        "compile -q --no-build net.pt2 --calib calib.npz -o out --target cortex-m5",
        f"EDGEC-E210: use --target cortex-m55: there is no target 'cortex-m5'. Targets: {TARGETS}",
        "compile -q --no-build net.pt2 --calib calib.npz -o out --target cortex-m55",
    ),
    Slip(
        "compile -q --no-build net.pt2 --calib calib.npz -o out --target pdp11",
        f"EDGEC-E210: choose a target that exists: there is no target 'pdp11'. Targets: {TARGETS}",
        M0,
    ),
    Slip(f"{M0} --ram lots", f"EDGEC-E215: {SIZES}; 'lots' is not one", f"{M0} --ram 320K"),
    Slip(f"{M0} --ram 0", f"EDGEC-E215: {SIZES}; '0' is not one", f"{M0} --ram 1.5M"),
    Slip(f"{M0} --flash 1.3", f"EDGEC-E215: {SIZES}; '1.3' is not one", f"{M0} --flash 4096000"),
    Slip(
        f"{M0} --seed x",
        "EDGEC-E201: see `edgec compile --help`: argument --seed: invalid int value: 'x'",
        f"{M0} --seed 1",
    ),
    Slip(
        f"{M0} --name */",
        "EDGEC-E204: name the model with letters, digits and _, a letter first, at most 60 (such as t): '*/' cannot "
        "stand in C",
        f"{M0} --name t",
    ),
    Slip(
        f"{M0} --name 2nd-net",
        "EDGEC-E204: name the model with letters, digits and _, a letter first, at most 60 (such as t2nd_net): "
        "'2nd-net' cannot stand in C",
        f"{M0} --name t2nd_net",
    ),
    Slip(
        f"{M0} -v",
        "EDGEC-E207: give either --quiet or --verbose: together they contradict each other",
        M0,
    ),
    Slip(
        f"{M0} --precision fp32 --bias-correct",
        "EDGEC-E207: give either --bias-correct or --precision fp32: together they contradict each other",
        f"{M0} --bias-correct",
    ),
    Slip(
        "check -q net.pt2 --target host --all-targets",
        "EDGEC-E207: give either --target or --all-targets: together they contradict each other",
        "check -q net.pt2 --target host",
    ),
    Slip(
        "check -q net.pt2",
        "EDGEC-E202: say which targets: --target NAME or --all-targets",
        "check -q net.pt2 --all-targets",
    ),
    Slip(
        "bench out --runs 0",
        "EDGEC-E201: see `edgec bench --help`: argument --runs: give a whole number above 0, not '0'",
        "bench --help",
    ),
    Slip(
        "run out --input calib.npz --on board",
        "EDGEC-E203: see `edgec run --help`: --on may be host, qemu, cuda; 'board' is none of them",
        "run --help",
    ),
    Slip(
        "ops --target cortex-m",
        f"EDGEC-E210: use --target cortex-m7: there is no target 'cortex-m'. Targets: {TARGETS}",
        "ops --target cortex-m7",
    ),
    Slip(
        "completion tcsh",
        "EDGEC-E203: use zsh: shell may be bash, zsh, fish; 'tcsh' is none of them",
        "completion zsh",
    ),
)


@pytest.mark.parametrize("slip", SLIPS, ids=lambda s: s.words)
def test_a_slip_is_refused_and_the_named_word_works(edgec: Command, slip: Slip) -> None:
    edgec.refused(2, slip.text, *slip.words.split())
    edgec.works(*slip.cure.split())


def test_no_command_prints_the_help_to_stderr_and_fails(edgec: Command) -> None:
    answer = edgec()
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("usage: edgec ")


BOARD = Path(__file__).parents[2] / "targets" / "cortex-m0.toml"


def compile_for(target: str) -> tuple[str, ...]:
    return ("compile", "-q", "--no-build", "net.pt2", "--calib", "calib.npz", "-o", "out", "--target", target)


def test_a_target_file_that_does_not_exist_is_named(edgec: Command) -> None:
    text = "EDGEC-E211: give the path of a target file that can be read: my.toml: No such file or directory"
    edgec.refused(2, text, *compile_for("my.toml"))


def test_a_target_file_that_is_no_toml_is_named_with_its_line(edgec: Command) -> None:
    (edgec.here / "my.toml").write_text('title = "My board"\nisa armv6-m\n')
    answer = edgec(*compile_for("my.toml"))
    assert answer.code == 2
    assert answer.err.startswith("EDGEC-E211: correct the TOML of the target file my.toml: ")
    assert "line 2" in answer.err


def test_all_problems_of_a_target_file_are_told_at_once_and_the_corrected_file_works(edgec: Command) -> None:
    whole = BOARD.read_text(encoding="utf-8")
    wrong = whole.replace('reserve_ram = "', 'reserve_rom = "').replace('family = "c"', 'family = "d"')
    (edgec.here / "my.toml").write_text(wrong, encoding="utf-8")
    text = (
        "EDGEC-E212: correct the target file my.toml: 3 problems\n"
        "  family must be one of c, cuda: it is 'd'\n"
        "  add the key reserve_ram (a text): it is missing\n"
        "  remove the unknown key reserve_rom; did you mean reserve_ram?"
    )
    edgec.refused(2, text, *compile_for("my.toml"))
    (edgec.here / "my.toml").write_text(whole, encoding="utf-8")
    edgec.works(*compile_for("my.toml"))


def test_a_target_file_whose_name_could_not_stand_in_c_is_refused(edgec: Command) -> None:
    (edgec.here / "a\nb.toml").write_text(BOARD.read_text(encoding="utf-8"), encoding="utf-8")
    text = (
        "EDGEC-E212: correct the target file a\nb.toml: 1 problems\n"
        "  rename the file with letters, digits, dot, _ and - alone: it names the target"
    )
    edgec.refused(2, text, *compile_for("a\nb.toml"))


def test_an_artifact_of_a_users_target_file_needs_that_file_no_more(edgec: Command) -> None:
    (edgec.here / "my.toml").write_text(BOARD.read_text(encoding="utf-8"), encoding="utf-8")
    edgec.works(*compile_for("my.toml"))
    (edgec.here / "my.toml").unlink()
    assert edgec.works("report", "out").out.startswith("net for my: ")
