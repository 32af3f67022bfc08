"""Libraries for GPUs where there is none: what they say without a driver, and with drivers that they refuse.

A driver that is too old, has no GPU or another chip cannot be had here: a libcuda.so.1 of a few lines stands for it,
with every function that the host side looks up. Nothing of the product is replaced.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cuda_harness
import pytest

from edgec.cuda import build as cuda_build
from edgec.runtime_c import ROOT
from edgec.targets.load import load_target

pytestmark = pytest.mark.skipif(
    not cuda_harness.nvcc_is_here() or platform.machine() != "x86_64",
    reason="LEFT OUT, no GPU library: nvcc is not installed",
)
CASES = cuda_harness.cases_of(Path(__file__).parent / "cuda" / "test_plain.py")[:1]
DRIVER = (ROOT / "cuda" / "host" / "ec_cuda_driver.h").read_text(encoding="utf-8")
SYMBOLS = re.findall(r'X\(\w+, "(\w+)"', DRIVER)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built artifact of one linear layer for h200."""
    folder, target = tmp_path_factory.mktemp("cuda") / "a", load_target("h200")
    cuda_harness.write(folder, cuda_harness.lowered(CASES, target), target)
    cuda_build.build(folder, "cases", cuda_build.runnable(target))
    return folder


def fake_driver(folder: Path, version: int, devices: int, major: int, minor: int) -> Path:
    """A folder with a libcuda.so.1 that answers these numbers and refuses everything else."""
    special = {
        "cuInit": "int cuInit(unsigned f) { (void)f; return 0; }",
        "cuDriverGetVersion": f"int cuDriverGetVersion(int *v) {{ *v = {version}; return 0; }}",
        "cuDeviceGetCount": f"int cuDeviceGetCount(int *n) {{ *n = {devices}; return 0; }}",
        "cuDeviceGet": "int cuDeviceGet(int *d, int i) { *d = i; return 0; }",
        "cuDeviceGetName": "int cuDeviceGetName(char *n, int s, int d) { (void)s; (void)d; n[0] = 0; return 0; }",
        "cuDeviceGetAttribute": (
            "int cuDeviceGetAttribute(int *v, int a, int d) "
            f"{{ (void)d; *v = a == 75 ? {major} : {minor}; return 0; }}"
        ),
    }
    text = "\n".join(special.get(s, f"int {s}(void) {{ return 999; }}") for s in SYMBOLS)
    (folder / "cuda.c").write_text(text)
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(folder / "cuda.c")]
    subprocess.run(command, check=True)
    return folder


def refusal(artifact: Path, folder: Path | None) -> str:
    """What loading the artifact says in a process that finds the driver of `folder`."""
    code = (
        "import sys\nfrom edgec.cuda.library import Library\nfrom edgec.errors import EdgecError\n"
        "try:\n    Library(sys.argv[1])\nexcept EdgecError as error:\n    print(error)\n"
    )
    environment = os.environ | ({} if folder is None else {"LD_LIBRARY_PATH": str(folder)})
    done = subprocess.run(
        [sys.executable, "-c", code, str(artifact)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(cuda_harness.gpu_is_here(), reason="this computer has a driver")
def test_without_a_driver_it_says_so(artifact: Path) -> None:
    assert refusal(artifact, None) == (
        "EDGEC-E812: install NVIDIA's driver, or run it on a machine with a CUDA GPU: the CUDA driver cannot be "
        "opened: libcuda.so.1 is missing"
    )


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        (
            (11040, 1, 9, 0),
            "EDGEC-E813: update NVIDIA's driver: the driver is for CUDA 11.4, at least 12.2 is needed",
        ),
        ((12060, 0, 9, 0), "EDGEC-E814: choose a GPU that exists: there is no GPU 0: this computer has 0"),
        (
            (12060, 1, 8, 9),
            "EDGEC-E815: compile for this chip (edgec targets lists them): the kernels are for compute capability "
            "9.0, GPU 0 () has 8.9",
        ),
        (
            (12060, 1, 9, 0),
            "EDGEC-E818: report this with the artifact: the GPU's context does not open: unknown (CUDA error 999)",
        ),
    ],
)
def test_a_driver_that_cannot_serve_is_refused(
    artifact: Path, tmp_path: Path, numbers: tuple[int, int, int, int], text: str
) -> None:
    assert refusal(artifact, fake_driver(tmp_path, *numbers)) == text


def test_a_driver_without_a_function_is_refused(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "cuda.c").write_text("int cuInit(unsigned f) { (void)f; return 0; }")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "libcuda.so.1"), str(tmp_path / "cuda.c")],
        check=True,
    )
    assert refusal(artifact, tmp_path) == (
        "EDGEC-E812: install NVIDIA's driver, or run it on a machine with a CUDA GPU: the CUDA driver cannot be "
        "opened: cuDriverGetVersion is missing"
    )


def test_the_library_needs_only_the_c_library(artifact: Path) -> None:
    (library,) = (artifact / "build").glob("*/libedgec_cases.so")
    done = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True)
    needed = set(re.findall(r"Shared library: \[([\w.-]+)\]", done.stdout))
    assert needed <= {"libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"}


STAND_IN = Path(__file__).parent / "cuda_driver_stand_in.c"
USE = """
import ctypes, sys
import numpy as np
from edgec.cuda.library import Library
from edgec.errors import EdgecError

driver = ctypes.CDLL("libcuda.so.1")


def use():
    library = Library(sys.argv[1])
    try:
        model = library.instance()
        try:
            place = lambda: model.library.function("port_address")(model.handle, 0, 0)
            before = place()
            try:
                model.mapped("e0", "x0")
            except EdgecError:
                assert place() == before, "a bind that failed stays"
                raise
            model.bind("e0", "x0", None)
            model.run("e0", {"x0": np.zeros(model.entry("e0").inputs[0].type.dims, np.float32)})
            model.reset()
            model.fill(255)
            model.times_ms("e0", 2)
            model.profile_ms("e0", 2)
            library.copy_rate(1 << 10)
        finally:
            model.close()
    finally:
        library.close()


at = -1
while True:
    driver.stand_in_fail(at)
    try:
        use()
        assert not driver.stand_in_failed(), f"call {at} failed and nothing was said"
    except EdgecError as error:
        assert "made to fail (CUDA error 700)" in str(error) or "none that the GPU can reach" in str(error), error
    assert driver.stand_in_alive() == 0, f"call {at} fails: {driver.stand_in_alive()} things stay behind"
    if at >= 0 and not driver.stand_in_failed():
        break
    at += 1
print(at)

driver.stand_in_fail(-1)
driver.stand_in_push(-1)
use()
needed = driver.stand_in_pushes()
assert needed > 10
for count in range(needed - 3):  # the last three only give back: nobody is told
    driver.stand_in_push(count)
    try:
        use()
        raise AssertionError(f"push {count} failed and nothing was said")
    except EdgecError as error:
        assert "entering the GPU's context: made to fail" in str(error), error
    assert driver.stand_in_stolen() == 0, "the caller's context is gone"
"""


def with_stand_in(code: str, artifact: Path, folder: Path) -> str:
    """What a program prints for which the stand-in is the driver."""
    library = folder / "libcuda.so.1"
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
    command = ["gcc", *warnings, "-shared", "-fPIC", "-o", str(library), str(STAND_IN)]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [sys.executable, "-c", code, str(artifact)],
        capture_output=True,
        text=True,
        env=os.environ | {"LD_LIBRARY_PATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_whatever_call_of_the_driver_fails_it_is_said_and_nothing_stays_behind(
    artifact: Path, tmp_path: Path
) -> None:
    assert int(with_stand_in(USE, artifact, tmp_path)) > 50  # calls that have failed, one a turn


CLOSE = """
import ctypes, sys
import numpy as np
from edgec.cuda.library import Library
from edgec.errors import EdgecError

driver = ctypes.CDLL("libcuda.so.1")
library = Library(sys.argv[1])
models = [library.instance() for _ in range(3)]
models[0].mapped("e0", "x0")
models[1].close()
library.close()
print(driver.stand_in_alive())
for call in (lambda: models[0].invoke("e0"), lambda: models[0].read("e0", "y0"), library.instance):
    try:
        call()
        print("worked")
    except EdgecError as error:
        print(error)
for model in models:
    model.close()
library.close()
print(driver.stand_in_alive())
"""


def test_a_library_that_is_closed_closes_its_instances(artifact: Path, tmp_path: Path) -> None:
    assert with_stand_in(CLOSE, artifact, tmp_path).splitlines() == [
        "0",
        "EDGEC-E237: correct the call: there is no entry 0",
        "EDGEC-E237: correct the call: there is no port 1 of entry 0",
        "EDGEC-E237: correct the call: a pointer is NULL",
        "0",
    ]


BIND = """
import ctypes, sys
from edgec.cuda.library import Library
from edgec.errors import EdgecError

driver = ctypes.CDLL("libcuda.so.1")
library = Library(sys.argv[1])
model = library.instance()
size = model.entry("e0").inputs[0].type.bytes
for device in (1, 0):
    driver.stand_in_memory(device)
    try:
        library.call("bind", model.handle, 0, 0, ctypes.c_uint64(4096), ctypes.c_uint64(size))
        print("bound")
    except EdgecError as error:
        print(error)
model.close()
library.close()
"""


def test_memory_of_another_gpu_is_refused(artifact: Path, tmp_path: Path) -> None:
    assert with_stand_in(BIND, artifact, tmp_path).splitlines() == [
        "EDGEC-E238: give memory on the GPU, aligned to 16 bytes: the memory for port x0 lies on GPU 1, the model on "
        "GPU 0",
        "bound",
    ]


@pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-gcc") is None, reason="LEFT OUT: no cross compiler for aarch64"
)
def test_orin_gets_an_aarch64_library_with_its_own_kernels_and_a_twin(tmp_path: Path) -> None:
    target = load_target("orin")
    cuda_harness.write(tmp_path / "a", cuda_harness.lowered(CASES, target), target)
    assert cuda_build.build_all(tmp_path / "a", "cases", target) == ["aarch64-sm_87", "x86_64-sm_90"]
    library = tmp_path / "a" / "build" / "aarch64-sm_87" / "libedgec_cases.so"
    done = subprocess.run(["readelf", "-h", str(library)], capture_output=True, text=True, check=True)
    assert "Machine:                           AArch64" in done.stdout
