"""What a CUDA library says of wrong calls, damaged weights and a full GPU, without a GPU.

tests/cuda/test_errors.py holds the same on a real one; here tests/cuda_driver_stand_in.c stands for the driver.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import cuda_harness
import pytest

from edgec.cuda import build as cuda_build
from edgec.targets.load import load_target

pytestmark = pytest.mark.skipif(
    not cuda_harness.nvcc_is_here() or platform.machine() != "x86_64",
    reason="LEFT OUT, no GPU library: nvcc is not installed, or this is no x86-64 computer",
)
HERE = Path(__file__).parent
CASE = next(
    c for c in cuda_harness.cases_of(HERE / "cuda" / "test_plain.py") if c.label == "plain f32 5x64x129 2"
)
# Prints {name: text of the error} of wrong calls.
WRONG = """
import ctypes, json, sys
from pathlib import Path
import numpy as np
from edgec.cuda.library import Library
from edgec.errors import EdgecError

folder = Path(sys.argv[1])
weights = folder / "weights.bin"
whole = weights.read_bytes()
texts = {}


def hold(name, call, *arguments):
    try:
        call(*arguments)
    except EdgecError as error:
        texts[name] = f"{type(error).__name__} {error}"


def damaged(name, content):
    weights.unlink()
    if content is not None:
        weights.write_bytes(content)
    hold(name, Library, folder)
    weights.write_bytes(whole)


def bind(name, address, size):
    call = (library.call, "bind", model.handle, 0, 0, ctypes.c_uint64(address), ctypes.c_uint64(size))
    hold(name, *call)


damaged("flipped", bytes([whole[0] ^ 1]) + whole[1:])
damaged("cut", whole[:-8])
damaged("gone", None)
hold("gpu 99", Library, folder, 99)
library = Library(folder)
model = library.instance()
hold("type", model.write, "e0", "x0", np.zeros((5, 64)))
hold("shape", model.write, "e0", "x0", np.zeros((64, 5), np.float32))
hold("port", model.write, "e0", "z", np.zeros((5, 64), np.float32))
bind("size", 256, 3)
bind("aligned", 20, 5 * 64 * 4)
driver = ctypes.CDLL("libcuda.so.1")
driver.stand_in_fail(0)
bind("reach", 256, 5 * 64 * 4)
driver.stand_in_fail(-1)
model.close()
library.close()
print(json.dumps(texts))
"""
# The same where each call of the driver in turn finds the memory used up.
FULL = """
import ctypes, json, sys
from edgec.cuda.library import Library
from edgec.errors import EdgecError

driver = ctypes.CDLL("libcuda.so.1")
texts, at = [], 0
while True:
    driver.stand_in_fail(at)
    try:
        library = Library(sys.argv[1])
        library.instance().close()
        library.close()
    except EdgecError as error:
        texts.append(f"{type(error).__name__} {error}")
    if not driver.stand_in_failed():
        break
    at += 1
print(json.dumps(texts))
"""
BAD_WEIGHTS = "TargetError EDGEC-E816: compile the model again: FOLDER/weights.bin "
TEXTS = {
    "flipped": BAD_WEIGHTS + "is damaged or belongs to another model",
    "cut": BAD_WEIGHTS + "has not the SIZE bytes of this model's weights",
    "gone": "UserError EDGEC-E364: compile the model again. Missing or changed since: FOLDER/weights.bin",
    "gpu 99": "TargetError EDGEC-E814: choose a GPU that exists: there is no GPU 99: this computer has 1",
    "type": "UserError EDGEC-E237: give float32[5, 64] for port x0: this array is float64[5, 64]",
    "shape": "UserError EDGEC-E237: give float32[5, 64] for port x0: this array is float32[64, 5]",
    "port": "UserError EDGEC-E237: choose a port of the entry: x0, y0; there is no 'z'",
    "size": "UserError EDGEC-E237: correct the call: port x0 takes 1280 bytes, not 3",
    "aligned": "UserError EDGEC-E238: give memory on the GPU, aligned to 16 bytes: the memory for port x0 is not "
    "aligned to 16 bytes",
    "reach": "UserError EDGEC-E238: give memory on the GPU, aligned to 16 bytes: the memory for port x0 is none that "
    "the GPU can reach",
}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built artifact of one linear layer for h200."""
    folder, target = tmp_path_factory.mktemp("cuda") / "a", load_target("h200")
    cuda_harness.write(folder, cuda_harness.lowered([CASE], target), target)
    cuda_build.build(folder, "cases", cuda_build.runnable(target))
    return folder


def told(artifact: Path, folder: Path, code: str, error: int) -> str:
    """What `code` prints with a driver whose calls fail with `error`."""
    text = (HERE / "cuda_driver_stand_in.c").read_text(encoding="utf-8").replace("700", str(error))
    (folder / "driver.c").write_text(text, encoding="utf-8")
    library = ["-o", str(folder / "libcuda.so.1"), str(folder / "driver.c")]
    subprocess.run(["gcc", "-std=c99", "-shared", "-fPIC", *library], check=True)
    done = subprocess.run(
        [sys.executable, "-c", code, str(artifact)],
        capture_output=True,
        text=True,
        env=os.environ | {"LD_LIBRARY_PATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.replace(str(artifact), "FOLDER")


def test_wrong_calls_and_damaged_weights_are_told(artifact: Path, tmp_path: Path) -> None:
    size = (artifact / "weights.bin").stat().st_size
    expected = {name: text.replace("SIZE", str(size)) for name, text in TEXTS.items()}
    assert json.loads(told(artifact, tmp_path, WRONG, 700)) == expected


def test_a_full_gpu_is_told_with_what_was_needed(artifact: Path, tmp_path: Path) -> None:
    texts = json.loads(told(artifact, tmp_path, FULL, 2))
    head = "TargetError EDGEC-E817: free memory on the GPU, or compile a smaller model: "
    assert all(text.startswith(head) for text in texts)
    found = {text.removeprefix(head) for text in texts}
    needed = {text for text in found if "device memory" in text}
    size = (artifact / "weights.bin").stat().st_size
    assert f"the weights: {size} bytes of device memory are needed, 0 of 0 are free" in needed
    assert len(needed) == 2  # weights and arena
