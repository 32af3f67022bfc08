"""The training firmware of an artifact that was compiled with --train: its sources and learner.mk, and the program
that fine-tuning talks to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgec import buildfiles, device
from edgec.errors import UserError
from edgec.link import places as link_places
from edgec.link.host import Transport
from edgec.plan import Target

if TYPE_CHECKING:
    from edgec.artifact import Artifact

_LINK: Final = ("ec_link.c", "ec_link_frame.c", "ec_link.h", "ec_learner.h")
_STORE: Final = (
    "ec_crc32.c", "ec_crc32.h", "ec_flash.h", "ec_flash_file.c", "ec_flash_file.h", "ec_flash_ram.c", "ec_flash_ram.h",
    "ec_store.c", "ec_store.h", "ec_store_status.c",
)  # fmt: skip
_PORTS: Final = ("ec_link_port.h", "stdio.c", "uart_cmsdk.c", "flash_file.c", "flash_ram.c")


def files(target: Target, runtime: Path) -> dict[str, str]:
    """{path below the artifact: text} of what the training firmware has beside model_train.c. `runtime`: runtime_c."""
    sources = {f"src/link/{name}": runtime / "link" / name for name in _LINK}
    sources |= {f"src/store/{name}": runtime / "store" / name for name in _STORE}
    sources |= {f"src/port/link/{name}": runtime / "ports" / "link" / name for name in _PORTS}
    sources["src/port/train_main.c"] = runtime / "ports" / "train_main.c"
    texts = {name: path.read_text(encoding="utf-8") for name, path in sources.items()}
    return {**texts, "learner.mk": makefile(target)}


def makefile(target: Target) -> str:
    """learner.mk: the training program for the host and, where a machine has a UART, for the emulated board."""
    machines = [e for e in buildfiles.emulators(target) if e.uart_base]
    text = """# The firmware that learns. `make -f learner.mk learner` builds the host's program, which speaks the
# link's protocol on standard input and output; `make -f learner.mk learner-firmware` the emulated
# board's, on its UART.
#   REPLAY=n  room for n samples in the replay buffer
include Makefile

REPLAY ?= 0
LEARN := $(MODEL) src/model_desc.c src/model_train.c src/model_store.c src/link/ec_link.c src/link/ec_link_frame.c \\
  src/store/ec_crc32.c src/store/ec_store.c src/store/ec_store_status.c
LEARN_FLAGS := -Isrc/link -Isrc/store -Isrc/port/link -DEC_REPLAY_SAMPLES=$(REPLAY)
LEARN_HOST := $(LEARN) src/port/link/stdio.c src/port/link/flash_file.c src/store/ec_flash_file.c
HOST_FLAGS += $(LEARN_FLAGS)
HOST_LEARNER := $(HOST)/$(NAME)-learner-$(REPLAY)

.PHONY: learner
learner: $(HOST_LEARNER)

$(HOST_LEARNER): $(LEARN_HOST:%.c=$(HOST)/%.o) src/port/train_main.c
\t$(HOST_CC) $(HOST_FLAGS) -DEC_TRAIN_HOSTED=1 -o $@ $^ -lm
"""
    if not machines:
        return text
    tool = target.toolchain
    bases = "\n".join(
        f"{'else ' if i else ''}ifeq ($(MACHINE),{m.machine})\nUART := 0x{m.uart_base:08x}u"
        for i, m in enumerate(machines)
    )
    port = machines[0].port
    ports = " ".join(f"src/port/{port}/{name}.c" for name in ("semihost", "startup", "timer"))
    return f"""{text}
{bases}
endif
LEARN_BOARD := $(LEARN) {ports} \\
  src/port/link/uart_cmsdk.c src/port/link/flash_ram.c src/store/ec_flash_ram.c
BOARD_FLAGS += $(LEARN_FLAGS) -DEC_UART_BASE=$(UART)
BOARD_LEARNER := $(BOARD)/learner-$(REPLAY).elf

.PHONY: learner-firmware
learner-firmware: $(BOARD_LEARNER)

$(BOARD_LEARNER): $(LEARN_BOARD:%.c=$(BOARD)/%.o) src/port/train_main.c src/port/$(MACHINE).ld
\t$(CROSS_CC) $(BOARD_FLAGS) {" ".join(tool.ldflags)} -Wl,--gc-sections -T src/port/$(MACHINE).ld \\
\t  -o $@ $(filter %.c %.o,$^) -lm
"""


def opened(made: Artifact, on: str, replay: int) -> Transport:
    """The artifact's training firmware: built and started on the host or on QEMU, or behind a serial port."""
    if on == "host":
        built = device.build(
            made.folder, made.target, device.BuildOptions(made.manifest["name"], learn=replay)
        )
        return link_places.on_host(built.program, made.folder / "build" / "host" / "edgec.flash")
    if on != "qemu":
        return link_places.at_port(on)
    machines = [e.machine for e in buildfiles.emulators(made.target) if e.uart_base]
    if not machines:
        raise UserError(
            "EDGEC-E268",
            f"use --on host or a device: no emulated board of {made.target.name} has a UART to train over",
        )
    machine = made.manifest["machine"] if made.manifest["machine"] in machines else machines[-1]
    options = device.BuildOptions(made.manifest["name"], machine=machine, learn=replay)
    return link_places.on_qemu(machine, device.build(made.folder, made.target, options).program)
