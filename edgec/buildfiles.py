"""Makefile, CMakeLists.txt, linker scripts and start-up code of an artifact: text only, nothing runs here.

An artifact builds on a machine without Python: `make host` gives build/host/<name>, which runs the model on
files (ports/main.c), and build/host/lib<name>.so; `make firmware` gives build/<machine>/firmware.elf for the
emulated board; `make check` compares the host's outputs on golden/in.bin with golden/out.bin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edgec.plan import Arena, Emulator, Memory, Target, Toolchain
from edgec.training.ram import DATA_BYTES, kept_bytes

PORT_FOLDER: Final = "src/port"
PORT_RAM_BYTES: Final = 1024  # data of the test firmware; the rest of reserve_ram is its stack
CODE_ALLOWANCE_BYTES: Final = 64 * 1024  # kernels, C library and port, when an emulator is chosen
MODEL_FLAGS: Final = ("-std=c99", "-O2", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections")
WARNING_FLAGS: Final = ("-Wall", "-Wextra", "-Werror")
_COMMON: Final = ("main.c", "status.c")


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """What the build files depend on besides the target.

    `name`: of the model, an identifier. `sources`: its C files below the artifact, model_desc.c (which only
    the test programs link) last. `includes`: folders for -I. `golden_steps`: (entry, samples) pairs of
    golden/in.bin, empty where there is no golden file. `ram_bytes`: what the linker script gives a firmware that
    learns; None: what the machine has.
    """

    name: str
    sources: tuple[str, ...]
    includes: tuple[str, ...]
    arenas: tuple[Arena, ...]
    constant_bytes: int
    golden_steps: tuple[tuple[int, int], ...]
    ram_bytes: int | None = None


def build_files(target: Target, spec: BuildSpec, runtime: Path) -> dict[str, str]:
    """{path below the artifact: text} of build files and port sources. `runtime`: the runtime_c folder."""
    ports = ["host/port.c"]
    files = {"Makefile": makefile(target, spec), "CMakeLists.txt": cmake(target, spec)}
    for emulator in emulators(target):
        files[link_script_path(emulator)] = link_script(target, emulator, spec.arenas, spec.ram_bytes)
        folder = runtime / "ports" / emulator.port
        ports += [
            f"{emulator.port}/{path.name}" for path in sorted(folder.iterdir()) if path.suffix in (".c", ".h")
        ]
    for name in sorted({*_COMMON, *ports}):
        files[f"{PORT_FOLDER}/{name}"] = (runtime / "ports" / name).read_text(encoding="utf-8")
    return files


def emulators(target: Target) -> tuple[Emulator, ...]:
    """The machines that can stand for the target, the preferred one first."""
    return tuple(e for e in (target.emulator, target.emulator_large) if e is not None)


def choose_emulator(target: Target, spec: BuildSpec) -> Emulator | None:
    """The first machine whose memories hold arenas, reserve, constants and an allowance for code; the last
    where none does (the linker then says by how much it fails); None for targets without emulation."""
    machines = emulators(target)
    arenas = sum(a.bytes for a in spec.arenas)
    for machine in machines:
        ram = max(m.bytes for m in machine.memories if m.kind == "ram")
        flash = max(m.bytes for m in machine.memories if m.kind == "flash")
        kept = kept_bytes(target) if spec.ram_bytes is not None else target.reserve_ram_bytes
        if arenas + kept <= ram and spec.constant_bytes + CODE_ALLOWANCE_BYTES <= flash:
            return machine
    return machines[-1] if machines else None


def link_script_path(emulator: Emulator) -> str:
    """Where the linker script of a machine stands in the artifact."""
    return f"{PORT_FOLDER}/{emulator.machine}.ld"


def stack_bytes(target: Target, learns: bool = False) -> int:
    """Stack of the test firmware; of one that learns in RAM of a size that was given, with the link's buffers."""
    if learns:
        return kept_bytes(target) - DATA_BYTES
    return target.reserve_ram_bytes - PORT_RAM_BYTES


def _region(memories: tuple[Memory, ...], kind: str, largest: bool) -> Memory:
    chosen = [m for m in memories if m.kind == kind]
    return max(chosen, key=lambda m: m.bytes) if largest else chosen[0]


def link_script(
    target: Target, emulator: Emulator, arenas: tuple[Arena, ...], ram_bytes: int | None = None
) -> str:
    """GNU ld script: code in the machine's first flash, weights in its largest, stack and data in its first
    RAM, all arenas in its largest RAM. The stack is lowest, so that an overflow leaves the RAM. A firmware that
    learns has `ram_bytes` of RAM for everything; what it saves stands beside the weights."""
    memories = emulator.memories
    if ram_bytes is not None:
        memories = tuple(
            replace(m, bytes=min(m.bytes, ram_bytes)) if m.kind == "ram" else m for m in memories
        )
    code, weights = _region(memories, "flash", False), _region(memories, "flash", True)
    data, arena_ram = _region(memories, "ram", False), _region(memories, "ram", True)
    regions = "\n".join(f"    {m.name} : ORIGIN = 0x{m.origin:08x}, LENGTH = {m.bytes}" for m in memories)
    arena_sections = "\n".join(
        f"    .arena.{a.memory} (NOLOAD) : {{ *(.bss.arena.{a.memory}) }} > {arena_ram.name}" for a in arenas
    )
    return f"""/* {target.name} on QEMU's {emulator.machine}. */
MEMORY
{{
{regions}
}}

ENTRY(ec_reset)

SECTIONS
{{
    .vectors : {{ KEEP(*(.vectors)) }} > {code.name}
    .text : {{ *(.text .text.*) }} > {code.name}
    .rodata : {{ *(.rodata .rodata.*) }} > {code.name}
    .ARM.extab : {{ *(.ARM.extab*) }} > {code.name}
    .ARM.exidx : {{ *(.ARM.exidx*) }} > {code.name}
    .weights : {{ *(.weights .weights.*) }} > {weights.name}
    .journal (NOLOAD) : {{ *(.journal) }} > {weights.name}
    .stack (NOLOAD) :
    {{
        . = ALIGN(8);
        ec_stack_bottom = .;
        . += {stack_bytes(target, ram_bytes is not None) // 8 * 8};
        ec_stack_top = .;
    }} > {data.name}
    .data :
    {{
        . = ALIGN(4);
        ec_data_start = .;
        *(.data .data.*)
        . = ALIGN(4);
        ec_data_end = .;
    }} > {data.name} AT> {code.name}
    ec_data_load = LOADADDR(.data);
{arena_sections}
    .bss (NOLOAD) :
    {{
        . = ALIGN(4);
        ec_bss_start = .;
        *(.bss .bss.* COMMON)
        . = ALIGN(4);
        ec_bss_end = .;
    }} > {data.name}
    end = .;
    /DISCARD/ : {{ *(.comment .note.*) }}
}}
"""


def port_defines(emulator: Emulator) -> tuple[str, ...]:
    """-D flags by which ports/qemu knows its machine."""
    return (
        f"-DEC_TIMER_{emulator.timer.upper()}=1",
        f"-DEC_TIMER_BASE=0x{emulator.timer_base:08x}u",
        f"-DEC_QUARTERS={int(4 * emulator.instructions_per_tick)}u",
        f"-DEC_TRAP_UNALIGNED={int(emulator.trap_unaligned)}",
    )


def qemu_arguments(machine: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """Options of qemu-system-arm for one run: semihosting is its only device, an instruction takes 1 ns.

    `words`: the command line of ports/main.c.
    """
    config = ",".join(["enable=on", "target=native", *(f"arg={w}" for w in ("firmware", *words))])
    quiet = ("-display", "none", "-monitor", "none", "-serial", "none", "-parallel", "none")
    return ("-M", machine, *quiet, "-icount", "shift=0", "-semihosting-config", config)


def step_words(steps: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """Steps as ports/main.c reads them."""
    return tuple(f"{entry}:{samples}" for entry, samples in steps)


def makefile(target: Target, spec: BuildSpec) -> str:
    """The artifact's Makefile (GNU make)."""
    return "\n".join(
        [*_make_head(spec), *_make_host(spec), *_make_firmware(target, spec), *_make_check(target, spec)]
    )


def _make_head(spec: BuildSpec) -> Iterator[str]:
    flags = " ".join((*MODEL_FLAGS, *WARNING_FLAGS, *(f"-I{i}" for i in (*spec.includes, PORT_FOLDER))))
    yield f"# Builds {spec.name}. `make help` lists what can be made."
    yield "#   SANITIZE=1  host programs with address and undefined-behaviour sanitizers"
    yield "#   PROFILE=1   firmware that notes the instructions of each item"
    yield "#   BUILD=dir   where results go"
    yield ""
    yield f"NAME := {spec.name}"
    yield "BUILD ?= build"
    yield "HOST_CC ?= gcc"
    yield f"FLAGS := {flags}"
    yield "MODEL := \\"
    yield " \\\n".join(f"  {s}" for s in spec.sources[:-1]) + f" \\\n  {PORT_FOLDER}/status.c"
    yield f"PROGRAM := $(MODEL) {spec.sources[-1]} {PORT_FOLDER}/main.c"
    yield ""
    yield ".DELETE_ON_ERROR:"
    yield ".PHONY: all host firmware check clean help"


def _make_host(spec: BuildSpec) -> Iterator[str]:
    yield f"""
ifeq ($(SANITIZE),1)
HOST := $(BUILD)/host-sanitize
HOST_FLAGS := $(FLAGS) -fPIC -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else
HOST := $(BUILD)/host
HOST_FLAGS := $(FLAGS) -fPIC -g
endif

host: $(HOST)/$(NAME) $(HOST)/lib$(NAME).so

$(HOST)/$(NAME): $(PROGRAM:%.c=$(HOST)/%.o) $(HOST)/{PORT_FOLDER}/host/port.o
\t$(HOST_CC) $(HOST_FLAGS) -o $@ $^ -lm

$(HOST)/lib$(NAME).so: $(MODEL:%.c=$(HOST)/%.o)
\t$(HOST_CC) $(HOST_FLAGS) -shared -o $@ $^ -lm

$(HOST)/%.o: %.c
\t@mkdir -p $(@D)
\t$(HOST_CC) $(HOST_FLAGS) -MMD -MP -c -o $@ $<

-include $(PROGRAM:%.c=$(HOST)/%.d)"""


def _make_firmware(target: Target, spec: BuildSpec) -> Iterator[str]:
    machines = emulators(target)
    chosen = choose_emulator(target, spec)
    if chosen is None:
        yield "\nall: host\n\nfirmware:\n\t@echo '" + target.name + " has no firmware' && false"
        return
    ports = {f"{e.port}/{name}" for e in machines for name in ("semihost.c", "startup.c", "timer.c")}
    tool = target.toolchain
    yield f"\nMACHINE ?= {chosen.machine}"
    yield f"CROSS_CC ?= {tool.cc}"
    for i, machine in enumerate(machines):
        yield f"{'else ' if i else ''}ifeq ($(MACHINE),{machine.machine})"
        yield f"DEFINES := {' '.join(port_defines(machine))}"
    yield "else"
    yield f"$(error MACHINE is one of {' '.join(e.machine for e in machines)})"
    yield "endif"
    yield f"""
ifeq ($(PROFILE),1)
BOARD := $(BUILD)/$(MACHINE)-profile
DEFINES += -DEC_PROFILE_ITEMS=1
else
BOARD := $(BUILD)/$(MACHINE)
endif
BOARD_FLAGS := {" ".join(tool.cflags)} $(FLAGS) -fno-math-errno -g $(DEFINES)
BOARD_PROGRAM := $(PROGRAM) {" ".join(f"{PORT_FOLDER}/{p}" for p in sorted(ports))}

all: host firmware

firmware: $(BOARD)/firmware.elf

$(BOARD)/firmware.elf: $(BOARD_PROGRAM:%.c=$(BOARD)/%.o) {PORT_FOLDER}/$(MACHINE).ld
\t$(CROSS_CC) $(BOARD_FLAGS) {" ".join(tool.ldflags)} -Wl,--gc-sections -T {PORT_FOLDER}/$(MACHINE).ld \\
\t  -o $@ $(BOARD_PROGRAM:%.c=$(BOARD)/%.o) -lm

$(BOARD)/%.o: %.c
\t@mkdir -p $(@D)
\t$(CROSS_CC) $(BOARD_FLAGS) -MMD -MP -c -o $@ $<
{_mve_rule(tool)}
-include $(BOARD_PROGRAM:%.c=$(BOARD)/%.d)"""


def _mve_rule(tool: Toolchain) -> str:
    """More flags for the sources that alone are compiled with MVE; they come last and so prevail."""
    if not tool.mve_cflags:
        return ""
    objects = " ".join(f"$(BOARD)/src/{folder}/mve/%.o" for folder in ("kernels", "train"))
    return f"\n{objects}: BOARD_FLAGS += {' '.join(tool.mve_cflags)}\n"


def _make_check(target: Target, spec: BuildSpec) -> Iterator[str]:
    words = ("keep", "0", *step_words(spec.golden_steps))
    chosen = choose_emulator(target, spec)
    if spec.golden_steps:
        yield f"""
check: host
\t@mkdir -p $(HOST)/check && cp golden/in.bin $(HOST)/check/in.bin
\tcd $(HOST)/check && ../$(NAME) {" ".join(words)}
\tcmp $(HOST)/check/out.bin golden/out.bin
\t@echo 'the host program equals the golden vectors'"""
    if spec.golden_steps and chosen is not None:
        arguments = " ".join(qemu_arguments("$(MACHINE)", words))
        yield f"""
.PHONY: check-qemu
check-qemu: firmware
\t@mkdir -p $(BOARD)/check && cp golden/in.bin $(BOARD)/check/in.bin
\tcd $(BOARD)/check && qemu-system-arm {arguments} -kernel ../firmware.elf
\tcmp $(BOARD)/check/out.bin golden/out.bin
\t@echo 'the firmware equals the golden vectors'"""
    goals = "host" + (", firmware" if chosen else "") + (", check" if spec.golden_steps else "")
    goals += ", check-qemu" if spec.golden_steps and chosen is not None else ""
    yield f"""
clean:
\trm -rf $(BUILD)

help:
\t@echo "goals: {goals}, clean; options: SANITIZE=1 PROFILE=1 BUILD=dir"
"""


def cmake(target: Target, spec: BuildSpec) -> str:
    """CMakeLists.txt: the model as a static library for a project of the user's, and its host program."""
    model = "\n".join(f"  {s}" for s in (*spec.sources[:-1], f"{PORT_FOLDER}/status.c"))
    flags = " ".join(f for f in MODEL_FLAGS if not f.startswith(("-std", "-O")))
    return f"""# {spec.name} for {target.name}: add_subdirectory() this folder and link edgec_{spec.name}.
# Compile it with the flags of your chip; edgec used: {" ".join(target.toolchain.cflags) or "none"}
cmake_minimum_required(VERSION 3.13)
project({spec.name} C)

add_library(edgec_{spec.name} STATIC
{model})
target_include_directories(edgec_{spec.name} PUBLIC {" ".join(spec.includes)})
target_compile_options(edgec_{spec.name} PRIVATE -O2 {flags})
set_target_properties(edgec_{spec.name} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON)

if(NOT CMAKE_CROSSCOMPILING)
  target_link_libraries(edgec_{spec.name} PUBLIC m)
  add_executable({spec.name} {spec.sources[-1]} {PORT_FOLDER}/main.c {PORT_FOLDER}/host/port.c)
  target_link_libraries({spec.name} PRIVATE edgec_{spec.name})
endif()
"""
