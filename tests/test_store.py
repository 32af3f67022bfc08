"""The journal of runtime_c/store/: power cuts, failing flash, wrong calls, each in C under ASan and UBSan."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import store_programs as programs

SOURCES = sorted(programs.STORE.glob("*.c"))
PAGE = Path(__file__).parent.parent / "docs" / "store.md"


def checks(source: str) -> list[str]:
    """The names in the table of a test program."""
    text = (programs.TESTS_C / source).read_text(encoding="utf-8")
    return re.findall(r'^        \{"(\w+)",', text, re.M)


@pytest.mark.parametrize("name", checks("store_faults.c"))
def test_faults(name: str) -> None:
    done = programs.run(programs.build(programs.FAULTS), name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", checks("store_stm32.c"))
def test_stm32_sequence(name: str) -> None:
    done = programs.run(programs.build(programs.STM32), name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_cut_leaves_the_old_or_the_new_weights() -> None:
    assert programs.cuts("single", "64", "2048", "16") > 30_000


def test_two_cuts_leave_the_old_or_the_new_weights() -> None:
    assert programs.cuts("double", "1") > 100_000


def test_cut_after_cut_loses_nothing() -> None:
    assert programs.cuts("many", "100000", "1") >= 100_000


@pytest.mark.slow
@pytest.mark.parametrize("length", ["16", "100"])
def test_one_cut_at_each_operation_of_each_geometry(length: str) -> None:
    assert programs.cuts("single", "64", "131072", length) > 200_000


@pytest.mark.slow
def test_millions_of_cuts_after_cuts() -> None:
    assert programs.cuts("double", "6") + programs.cuts("many", "2000000", "2") > 2_500_000


# What each break is, the text it replaces and the text it puts there.
BREAKS = {
    "the commit mark is written before the payload": (
        "        status = write_header(store);\n",
        "        status = write_header(store);\n"
        "        (void)raise_mark(store, store->save_at + commit_offset(store), COMMIT_UNITS);\n",
    ),
    "the commit mark is one unit": ("#define COMMIT_UNITS 3u", "#define COMMIT_UNITS 1u"),
    "any commit unit counts": (
        "COMMIT_UNITS) >= 2u &&\n        payload",
        "COMMIT_UNITS) >= 1u &&\n        payload",
    ),
    "open leaves a torn commit mark": (
        "if (store->found == EC_STORE_OK && mark_level(store, commit",
        "if (false && mark_level(store, commit",
    ),
    "open does not raise level 1": ("if (committed == 1u && noted == 0u) {", "if (false) {"),
    "a torn unit is not programmed again": ("level > 0u ? level - 1u : 0u", "level"),
    "refusals are not noted": ("if (noted < NOTE_UNITS) {", "if (false) {"),
    "refusals are noted where the erase reaches them": (
        "bool in_base = store",
        "bool in_base = false && store",
    ),
    "there is no fence": ("program_mark(store, store->save_at, 0, 1)", "EC_STORE_OK"),
    "the CRC of the payload is not checked": ("get_u32(part) == crc;", "crc == crc + 0u * get_u32(part);"),
    "the CRC of the header is not checked": ("get_u32(bytes + 28) != header->crc", "false"),
    "the graph's hash is not checked": ("header->graph_hash != store->layout->graph_hash", "false"),
    "the layout's hash is not checked": ("header->layout_hash != mixed_layout_hash(store)", "false"),
    "the area of the newest record is erased": (
        "if (area == store->kept_area) {",
        "if (area != store->kept_area && store->kept_area < store->layout->areas) {",
    ),
    "given up saves reach the newest record": ("if (area == store->kept_area) {", "if (false) {"),
    "erases are not checked": (
        "        status = EC_STORE_NOT_ERASED;\n",
        "        status = synchronise(store);\n",
    ),
    "sequence numbers do not count up": ("    store->sequence++;\n", ""),
    "sequence numbers do not wrap around": ("a != b && a - b < 0x80000000u", "a > b"),
    "programs are not read back": ("memcmp(back, unit, bytes) == 0 ?", "bytes > 0u ?"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_store_is_found_out(name: str) -> None:
    old, new = BREAKS[name]
    text = (programs.STORE / "ec_store.c").read_text(encoding="utf-8")
    assert text.count(old) == 1
    flags = ("-O1",)
    faults = programs.build(programs.FAULTS, flags, text.replace(old, new))
    if any(programs.run(faults, check).returncode for check in checks("store_faults.c")):
        return
    program = programs.build(programs.CUTS, flags, text.replace(old, new))
    campaigns = (("single", "64", "256", "16"), ("double", "2"), ("many", "100000", "1"))
    assert any(programs.run(program, *words).returncode for words in campaigns)


def arm_bytes(folder: Path, core: str, source: Path) -> int:
    """Code and constants of a source, compiled for a core."""
    out = folder / f"{source.stem}-{core}.o"
    command = ["arm-none-eabi-gcc", f"-mcpu=cortex-{core}", "-mthumb", "-Os", *programs.WARNINGS]
    done = subprocess.run(
        [*command, "-c", str(source), "-o", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    size = subprocess.run(["arm-none-eabi-size", str(out)], capture_output=True, text=True, check=True)
    text, data, bss = map(int, size.stdout.splitlines()[1].split()[:3])
    assert (data, bss) == (0, 0)
    return text


@pytest.mark.qemu
@pytest.mark.parametrize("core", ["m0", "m4", "m7", "m33", "m55"])
def test_code_size_is_what_the_page_says(core: str, tmp_path: Path) -> None:
    sizes = {s.stem: arm_bytes(tmp_path, core, s) for s in SOURCES if s.stem != "ec_flash_file"}
    store = sizes["ec_store"] + sizes["ec_crc32"]
    row = re.search(
        rf"^\| Cortex-{core.upper()} \| ([\d,]+) \| ([\d,]+) \|", PAGE.read_text(encoding="utf-8"), re.M
    )
    assert row is not None
    said = [int(n.replace(",", "")) for n in row.groups()]
    for measured, written in zip((store, sizes["ec_flash_stm32"]), said, strict=True):
        assert abs(measured - written) <= 0.05 * written, (core, measured, written)


def test_the_store_allocates_and_remembers_nothing() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for word in ("malloc(", "free(", "printf(", "alloca(", "abort("):
            assert not re.search(rf"\b{re.escape(word)}", text), (path.name, word)
        assert not re.search(r"^static (?!const|inline)[^()]*;", text, re.M), path.name


def test_status_texts_are_as_many_as_statuses() -> None:
    header = (programs.STORE / "ec_store.h").read_text(encoding="utf-8")
    numbers = [int(n) for n in re.findall(r"EC_STORE_[A-Z_]+ = (\d+)", header)]
    texts = re.findall(r'^        "(.+)",$', (programs.STORE / "ec_store_status.c").read_text(), re.M)
    assert numbers == list(range(len(texts)))
