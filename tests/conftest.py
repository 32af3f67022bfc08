"""Options of the test run, and what is left out where a tool is missing."""

from __future__ import annotations

import importlib.util
import shutil

import cuda_harness
import pytest

ARM_TOOLS = ("arm-none-eabi-gcc", "qemu-system-arm")


def pytest_addoption(parser: pytest.Parser) -> None:
    what = "write the golden files under tests/golden and docs/operators.md anew"
    parser.addoption("--update", action="store_true", help=what)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [tool for tool in ARM_TOOLS if shutil.which(tool) is None]
    if missing:
        skip = pytest.mark.skip(reason=f"LEFT OUT, no emulated board: {', '.join(missing)} not installed")
        for item in items:
            if item.get_closest_marker("qemu") is not None:
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing = [tool for tool in ARM_TOOLS if shutil.which(tool) is None]
    if missing:
        terminalreporter.write_line(
            f"LEFT OUT: everything on emulated boards, for want of {', '.join(missing)}"
        )
    if importlib.util.find_spec("ray") is None:
        terminalreporter.write_line("LEFT OUT: the search for a scheme on a Ray cluster, for want of Ray")
    if shutil.which("spin") is None:
        terminalreporter.write_line("LEFT OUT: the model of the control loop's slots, for want of spin")
    if not cuda_harness.gpu_is_here():
        terminalreporter.write_line(
            "LEFT OUT: tests/cuda, every kernel and network on a CUDA GPU, for want of one"
        )
    if not cuda_harness.nvcc_is_here():
        terminalreporter.write_line("LEFT OUT: compiling kernels for GPUs, for want of nvcc")
