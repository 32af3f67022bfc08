"""Building and running: a model of four lines (tests/c/device) on the host and on every emulated board."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec import buildfiles, device
from edgec.errors import Exit, InternalError, TargetError, UserError
from edgec.plan import Arena
from edgec.runtime_c import ROOT
from edgec.targets.load import load_target

SOURCES = Path(__file__).parent / "c" / "device"
INFER, FAIL, UNALIGNED, OVERFLOW, LOOP, DEEP, REAL = range(7)
SAMPLE_BYTES, OUTPUT_BYTES = 8, 9
MACHINES = (
    ("cortex-m0", "microbit"),
    ("cortex-m0", "mps2-an385"),
    ("cortex-m4", "mps2-an386"),
    ("cortex-m7", "mps2-an500"),
    ("cortex-m33", "mps2-an505"),
    ("cortex-m55", "mps3-an547"),
)
KEEP = device.RunOptions(timeout_s=60)
Make = Callable[[str, str], device.Built]

on_every_machine = pytest.mark.parametrize(("target", "machine"), MACHINES)
qemu = pytest.mark.qemu


def spec(constant_bytes: int = 4, arena_bytes: int = 24) -> buildfiles.BuildSpec:
    return buildfiles.BuildSpec(
        "tiny",
        ("src/model.c", "src/model_desc.c"),
        ("src", "src/include"),
        (Arena("ram", arena_bytes, 4),),
        constant_bytes,
        ((INFER, 2),),
    )


def write_artifact(folder: Path, target: str) -> None:
    files = buildfiles.build_files(load_target(target), spec(), ROOT)
    files |= {f"src/{p.name}": p.read_text() for p in SOURCES.iterdir()}
    files |= {f"src/include/{p}": (ROOT / "include" / p).read_text() for p in ("edgec.h", "ec_port.h")}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "golden").mkdir()
    (folder / "golden" / "in.bin").write_bytes(inputs(2).tobytes())
    (folder / "golden" / "out.bin").write_bytes(expected(inputs(2)))


def inputs(samples: int) -> np.ndarray:
    return np.random.default_rng(7).integers(-128, 128, (samples, SAMPLE_BYTES)).astype(np.int8)


def expected(x: np.ndarray, reset: bool = False) -> bytes:
    """y = x + 1, then the sum of x[0] over the samples so far."""
    total = x[:, :1] if reset else np.cumsum(x[:, :1], axis=0, dtype=np.int8)
    return np.concatenate([x + np.int8(1), total], axis=1).tobytes()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """(target, machine or "") -> the built program; each is built once. The folder's name is a hard one."""
    folders: dict[str, Path] = {}
    built: dict[tuple[str, str], device.Built] = {}

    def program(target: str, machine: str) -> device.Built:
        if target not in folders:
            folders[target] = tmp_path_factory.mktemp("device") / "-my model, v1"
            write_artifact(folders[target], target)
        if (target, machine) not in built:
            options = device.BuildOptions("tiny", machine)
            built[target, machine] = device.build(folders[target], load_target(target), options)
        return built[target, machine]

    return program


def words(*values: int) -> bytes:
    """One sample each, its first four bytes a number."""
    return b"".join(v.to_bytes(4, "little") + bytes(SAMPLE_BYTES - 4) for v in values)


def test_the_host_program_runs_samples_in_order_and_keeps_state(make: Make) -> None:
    x = inputs(5)
    result = device.run(make("cortex-m4", ""), x.tobytes(), ((INFER, 5),), KEEP)
    assert result == device.RunResult(expected(x), (), None, {})


def test_reset_starts_each_sample_from_the_initial_state(make: Make) -> None:
    x = inputs(3)
    options = replace(KEEP, reset=True)
    result = device.run(make("cortex-m4", ""), x.tobytes(), ((INFER, 3),), options)
    assert result.output == expected(x, reset=True)


def test_the_fill_of_dead_memory_changes_nothing(make: Make) -> None:
    outputs = {
        device.run(make("cortex-m4", ""), inputs(2).tobytes(), ((INFER, 2),), replace(KEEP, fill=fill)).output
        for fill in (0, 0xA5)
    }
    assert outputs == {expected(inputs(2))}


def test_steps_of_several_entries_share_the_instance(make: Make) -> None:
    x = inputs(3)
    result = device.run(make("cortex-m4", ""), x.tobytes(), ((INFER, 1), (LOOP, 1), (INFER, 1)), KEEP)
    assert result.output[2 * OUTPUT_BYTES :] == expected(x[[0, 2]])[OUTPUT_BYTES:]


def test_the_sanitized_host_program_gives_the_same(tmp_path: Path) -> None:
    write_artifact(tmp_path, "host")
    built = device.build(tmp_path, load_target("host"), device.BuildOptions("tiny", sanitize=True))
    result = device.run(built, inputs(2).tobytes(), ((INFER, 2),), KEEP)
    assert built.program.parent.name == "host-sanitize" and result.output == expected(inputs(2))


def test_make_check_compares_with_the_golden_outputs(tmp_path: Path) -> None:
    write_artifact(tmp_path, "host")
    assert subprocess.run(["make", "-s", "check"], cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "golden" / "out.bin").write_bytes(bytes(2 * OUTPUT_BYTES))
    assert subprocess.run(["make", "-s", "check"], cwd=tmp_path, capture_output=True).returncode != 0


@qemu
def test_make_check_qemu_needs_no_python(tmp_path: Path) -> None:
    write_artifact(tmp_path, "cortex-m0")
    assert subprocess.run(["make", "-s", "check-qemu"], cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "golden" / "out.bin").write_bytes(bytes(2 * OUTPUT_BYTES))
    assert subprocess.run(["make", "-s", "check-qemu"], cwd=tmp_path, capture_output=True).returncode != 0


def test_cmake_builds_the_library_and_the_host_program(tmp_path: Path) -> None:
    write_artifact(tmp_path, "host")
    subprocess.run(["cmake", "-S", ".", "-B", "out"], cwd=tmp_path, capture_output=True, check=True)
    subprocess.run(["cmake", "--build", "out"], cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "out" / "tiny").is_file() and (tmp_path / "out" / "libedgec_tiny.a").is_file()


@qemu
@on_every_machine
def test_the_firmware_gives_the_hosts_bytes(make: Make, target: str, machine: str) -> None:
    x = inputs(4)
    result = device.run(make(target, machine), x.tobytes(), ((INFER, 4),), KEEP)
    assert result.output == expected(x) and len(result.instructions) == 4


@qemu
@on_every_machine
def test_a_loop_of_known_length_counts_to_within_12_instructions(
    make: Make, target: str, machine: str
) -> None:
    """Differences cancel the code round the loop; each count is exact to one round of the timer's loop (5)."""
    rounds = (1, 11, 102, 1003, 10004, 300005, 3000006)
    result = device.run(make(target, machine), words(*rounds), ((LOOP, len(rounds)),), KEEP)
    errors = [
        counted - result.instructions[0] - 3 * (n - 1)
        for counted, n in zip(result.instructions, rounds, strict=True)
    ]
    assert max(abs(e) for e in errors) <= 12


@pytest.mark.slow
@qemu
@pytest.mark.parametrize(("target", "machine"), MACHINES[4:])
def test_counts_stay_true_over_wraps_of_systick(make: Make, target: str, machine: str) -> None:
    """2^24 ticks are 839 M instructions on the an505 and 524 M on the an547."""
    rounds = 400_000_000
    result = device.run(make(target, machine), words(1, rounds), ((LOOP, 2),), KEEP)
    counted = result.instructions[1] - result.instructions[0]
    assert abs(counted - 3 * (rounds - 1)) <= 100


@qemu
@on_every_machine
def test_float_arithmetic_equals_ieee_single(make: Make, target: str, machine: str) -> None:
    """The product is rounded before the sum: a fused multiply-add would differ in 3 samples."""
    x = np.random.default_rng(3).uniform(0.1, 9, (16, 2)).astype(np.float32)
    result = device.run(make(target, machine), x.tobytes(), ((REAL, 16),), KEEP)
    y = np.frombuffer(result.output, np.uint8).reshape(16, OUTPUT_BYTES)[:, :8].copy().view(np.float32)
    assert np.array_equal(y, np.stack([x[:, 0] * x[:, 1] + np.float32(1), np.sqrt(x[:, 0])], axis=1))


@qemu
@on_every_machine
def test_the_stacks_high_water_is_measured(make: Make, target: str, machine: str) -> None:
    deep = device.run(make(target, machine), words(0), ((DEEP, 1),), KEEP).stack_bytes
    shallow = device.run(make(target, machine), words(0), ((INFER, 1),), KEEP).stack_bytes
    assert deep is not None and shallow is not None
    assert 500 <= deep <= 640 and shallow <= 128


@qemu
@on_every_machine
def test_a_stack_overflow_is_reported_as_one(make: Make, target: str, machine: str) -> None:
    with pytest.raises(TargetError) as caught:
        device.run(make(target, machine), words(0), ((OVERFLOW, 1),), KEEP)
    assert str(caught.value).startswith(
        f"EDGEC-E801: raise reserve_ram of the target: the firmware on QEMU's {machine} took a fault: "
        "stack overflow"
    )
    assert caught.value.exit_code is Exit.DEVICE


@qemu
@pytest.mark.parametrize("machine", ["microbit", "mps2-an385"])
def test_code_for_the_m0_faults_at_an_unaligned_access(make: Make, machine: str) -> None:
    with pytest.raises(TargetError) as caught:
        device.run(make("cortex-m0", machine), words(0), ((UNALIGNED, 1),), KEEP)
    assert "unaligned access" in str(caught.value) and "in unaligned (model_desc.c:" in str(caught.value)


@qemu
def test_the_m4_reads_unaligned_words(make: Make) -> None:
    result = device.run(make("cortex-m4", "mps2-an386"), words(0), ((UNALIGNED, 1),), KEEP)
    assert len(result.output) == OUTPUT_BYTES


@qemu
@pytest.mark.parametrize("machine", ["", "mps2-an386"])
def test_the_models_status_comes_through(make: Make, machine: str) -> None:
    where = f"the firmware on QEMU's {machine}" if machine else "the host program"
    with pytest.raises(TargetError) as caught:
        device.run(make("cortex-m4", machine), words(0), ((FAIL, 1),), KEEP)
    assert str(caught.value) == (
        f"EDGEC-E804: check the inputs: {where} returned status 5 (an argument is outside of its range)"
    )


@qemu
@pytest.mark.parametrize("machine", ["", "mps2-an386"])
def test_too_few_input_bytes_are_reported(make: Make, machine: str) -> None:
    with pytest.raises(TargetError, match=r"ended with exit code 1\nin\.bin ends before the last sample"):
        device.run(make("cortex-m4", machine), words(0), ((INFER, 2),), KEEP)


@qemu
def test_a_run_that_takes_too_long_is_ended(make: Make) -> None:
    with pytest.raises(TargetError) as caught:
        device.run(
            make("cortex-m4", "mps2-an386"), words(2**31), ((LOOP, 1),), device.RunOptions(timeout_s=0.5)
        )
    assert str(caught.value) == (
        "EDGEC-E802: give more time or fewer samples: the firmware on QEMU's mps2-an386 ran longer than 0.5 s"
    )


@qemu
def test_a_profile_build_counts_the_items(tmp_path: Path) -> None:
    write_artifact(tmp_path, "cortex-m4")
    options = device.BuildOptions("tiny", "mps2-an386", profile=True)
    built = device.build(tmp_path, load_target("cortex-m4"), options)
    items = device.run(built, inputs(3).tobytes(), ((INFER, 3),), KEEP).items
    assert sorted(items) == [0, 1] and items[0] < items[1] < 1000


@qemu
def test_sizes_add_up_by_section(make: Make) -> None:
    sizes = device.sizes(make("cortex-m4", "mps2-an386"))
    assert sizes.weights == 4 and sizes.arenas == {"ram": 24}
    assert sizes.flash_bytes == sizes.text + sizes.rodata + 4 + sizes.data < 8192
    assert sizes.ram_bytes == 24 + sizes.data + sizes.bss
    assert sizes.stack == load_target("cortex-m4").reserve_ram_bytes - 1024


@qemu
def test_the_firmware_on_the_microbit_needs_less_than_1500_bytes_of_ram_besides_the_model(make: Make) -> None:
    built = make("cortex-m0", "microbit")
    stack = device.run(built, inputs(1).tobytes(), ((INFER, 1),), KEEP).stack_bytes
    sizes = device.sizes(built)
    assert stack is not None and stack + sizes.data + sizes.bss < 1500


def test_the_emulator_follows_from_what_the_model_needs() -> None:
    target = load_target("cortex-m0")
    small, large_arena, large_weights = spec(), spec(arena_bytes=13 << 10), spec(constant_bytes=200 << 10)
    chosen = [buildfiles.choose_emulator(target, s) for s in (small, large_arena, large_weights)]
    assert [e and e.machine for e in chosen] == ["microbit", "mps2-an385", "mps2-an385"]


def test_each_arena_has_its_section_before_the_cleared_memory() -> None:
    target = load_target("nucleo-h743")
    assert target.emulator is not None
    script = buildfiles.link_script(target, target.emulator, (Arena("dtcm", 8, 0), Arena("axi", 8, 0)))
    places = [script.index(s) for s in ("*(.bss.arena.dtcm)", "*(.bss.arena.axi)", "*(.bss .bss.* COMMON)")]
    assert places == sorted(places)


def test_a_missing_qemu_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    built = device.Built("qemu", tmp_path / "firmware.elf", "mps2-an386")
    with pytest.raises(TargetError) as caught:
        device.run(built, b"", ((0, 1),), KEEP)
    assert str(caught.value) == (
        "EDGEC-EA01: install it: apt install qemu-system-arm (Debian, Ubuntu): qemu-system-arm is not on the PATH"
    )
    assert caught.value.exit_code is Exit.TOOL_MISSING


@pytest.mark.parametrize(
    ("tool", "package"),
    [("make", "make"), ("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")],
)
def test_a_missing_toolchain_names_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: str, package: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError) as caught:
        device.require_tool(tool)
    assert str(caught.value) == (
        f"EDGEC-EA02: install it: apt install {package} (Debian, Ubuntu): {tool} is not on the PATH"
    )


@qemu
def test_an_image_that_does_not_fit_says_by_how_much(tmp_path: Path) -> None:
    write_artifact(tmp_path, "cortex-m0")
    script = tmp_path / "src" / "port" / "microbit.ld"
    script.write_text(script.read_text().replace("LENGTH = 262144", "LENGTH = 2048"))
    with pytest.raises(TargetError) as caught:
        device.build(tmp_path, load_target("cortex-m0"), device.BuildOptions("tiny", "microbit"))
    assert caught.value.code == "EDGEC-E510" and caught.value.exit_code is Exit.DOES_NOT_FIT
    assert "the firmware for cortex-m0 on microbit exceeds flash by " in str(caught.value)


def test_a_build_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    write_artifact(tmp_path, "host")
    (tmp_path / "build").write_text("a file in the way")
    with pytest.raises(UserError) as caught:
        device.build(tmp_path, load_target("host"), device.BuildOptions("tiny"))
    assert caught.value.exit_code is Exit.CANNOT_WRITE
    assert str(caught.value).startswith(
        "EDGEC-EB05: free space or copy the artifact elsewhere: make could not write"
    )


def test_a_run_without_room_for_its_files_is_told_apart(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    built = make("cortex-m4", "")
    monkeypatch.setattr("tempfile.tempdir", "/proc/no/such/folder")
    with pytest.raises(UserError) as caught:
        device.run(built, words(0), ((INFER, 1),), KEEP)
    assert caught.value.exit_code is Exit.CANNOT_WRITE and "set TMPDIR" in str(caught.value)


@qemu
def test_a_qemu_without_the_machine_is_too_old(make: Make) -> None:
    built = replace(make("cortex-m4", "mps2-an386"), machine="mps9-an999")
    with pytest.raises(TargetError) as caught:
        device.run(built, words(0), ((INFER, 1),), KEEP)
    assert str(caught.value) == (
        "EDGEC-EA01: install QEMU 7.2 or later: this qemu-system-arm has no machine mps9-an999"
    )


def test_c_that_does_not_compile_is_our_bug(tmp_path: Path) -> None:
    write_artifact(tmp_path, "host")
    (tmp_path / "src" / "model.c").write_text("int unfinished(\n")
    with pytest.raises(InternalError, match="the artifact does not build"):
        device.build(tmp_path, load_target("host"), device.BuildOptions("tiny"))


def test_build_files_are_the_same_every_time() -> None:
    first, second = (buildfiles.build_files(load_target("cortex-m0"), spec(), ROOT) for _ in range(2))
    assert first == second
