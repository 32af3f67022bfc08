"""Wrong calls on a real GPU: each is refused with its text, and the model still runs afterwards."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

import cuda_harness
import numpy as np
import pytest

from edgec.cuda import build as cuda_build
from edgec.cuda.library import Instance, Library
from edgec.errors import EdgecError
from edgec.targets.load import load_target

CASE = next(
    c
    for c in cuda_harness.cases_of(Path(__file__).parent / "test_plain.py")
    if c.label == "plain f32 5x64x129 2"
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, target = tmp_path_factory.mktemp("cuda") / "a", load_target("h200")
    cuda_harness.write(folder, cuda_harness.lowered([CASE], target), target)
    cuda_build.build(folder, "cases", cuda_build.runnable(target))
    return folder


@pytest.fixture
def model(artifact: Path) -> Iterator[Instance]:
    """An instance that must still give the right numbers when the test is over."""
    library = Library(artifact)
    made = library.instance()
    yield made
    found = made.run("e0", {"x0": CASE.arrays[0]})["y0"]
    assert cuda_harness.difference(found, CASE.expected()[0], CASE) == ""
    made.close()
    library.close()


def refused(text: str, function: object, *arguments: object) -> None:
    """Hold that the call raises an error of exactly this text; # stands for any number."""
    assert callable(function)
    with pytest.raises(EdgecError) as caught:
        function(*arguments)
    assert re.sub(r"\d{7,}", "#", str(caught.value)) == text


def test_a_wrong_type_is_refused(model: Instance) -> None:
    refused(
        "EDGEC-E237: give float32[5, 64] for port x0: this array is float64[5, 64]",
        *(model.write, "e0", "x0", np.zeros((5, 64))),
    )


def test_a_wrong_shape_is_refused(model: Instance) -> None:
    refused(
        "EDGEC-E237: give float32[5, 64] for port x0: this array is float32[64, 5]",
        *(model.write, "e0", "x0", np.zeros((64, 5), np.float32)),
    )


def test_a_port_that_is_none_is_refused(model: Instance) -> None:
    refused(
        "EDGEC-E237: choose a port of the entry: x0, y0; there is no 'z'",
        *(model.write, "e0", "z", np.zeros((5, 64), np.float32)),
    )


def test_host_memory_is_not_bound(model: Instance) -> None:
    library = model.library
    array = np.zeros(5 * 64 + 4, np.float32)
    address = -(-array.ctypes.data // 16) * 16
    arguments = (model.handle, 0, 0, ctypes.c_uint64(address), ctypes.c_uint64(5 * 64 * 4))
    refused(
        "EDGEC-E238: give memory on the GPU, aligned to 16 bytes: the memory for port x0 is none that the GPU can "
        "reach",
        *(library.call, "bind", *arguments),
    )


def test_misaligned_memory_is_not_bound(model: Instance) -> None:
    arguments = (model.handle, 0, 0, ctypes.c_uint64(20), ctypes.c_uint64(5 * 64 * 4))
    refused(
        "EDGEC-E238: give memory on the GPU, aligned to 16 bytes: the memory for port x0 is not aligned to 16 bytes",
        *(model.library.call, "bind", *arguments),
    )


def test_a_wrong_size_is_not_bound(model: Instance) -> None:
    arguments = (model.handle, 0, 0, ctypes.c_uint64(256), ctypes.c_uint64(3))
    refused(
        "EDGEC-E237: correct the call: port x0 takes 1280 bytes, not 3",
        *(model.library.call, "bind", *arguments),
    )


def test_a_gpu_that_is_not_there_is_refused(artifact: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        Library(artifact, 99)
    assert re.sub(r"has \d+", "has #", str(caught.value)) == (
        "EDGEC-E814: choose a GPU that exists: there is no GPU 99: this computer has #"
    )


@pytest.mark.parametrize("change", ["flip", "cut"])
def test_damaged_weights_are_refused(artifact: Path, change: str) -> None:
    path = artifact / "weights.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] if change == "cut" else bytes([whole[0] ^ 1]) + whole[1:])
    try:
        with pytest.raises(EdgecError) as caught:
            Library(artifact)
    finally:
        path.write_bytes(whole)
    wrong = f"has not the {len(whole)} bytes of this model's weights"
    wrong = wrong if change == "cut" else "is damaged or belongs to another model"
    assert str(caught.value) == f"EDGEC-E816: compile the model again: {path} {wrong}"


def fill(library: Library, instances: list[Instance]) -> None:
    """Make instances until the GPU is full."""
    for _ in range(100_000):
        instances.append(library.instance())


def test_a_full_gpu_is_refused_and_the_next_instance_works(artifact: Path, model: Instance) -> None:
    import torch

    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(free - (64 << 20), dtype=torch.uint8, device="cuda")
    more = []
    try:
        while True:
            try:
                more.append(torch.empty(1 << 20, dtype=torch.uint8, device="cuda"))
            except torch.OutOfMemoryError:
                break
        instances: list[Instance] = []
        with pytest.raises(EdgecError) as caught:
            fill(model.library, instances)
        assert str(caught.value).startswith(
            "EDGEC-E817: free memory on the GPU, or compile a smaller model: "
        )
        for one in instances:
            one.close()
    finally:
        del hog, more
        torch.cuda.empty_cache()
    again = model.library.instance()
    again.close()


def test_tensors_are_bound_without_a_copy_and_instances_are_apart(model: Instance) -> None:
    import torch

    x = torch.from_numpy(CASE.arrays[0]).cuda()
    y = torch.full((5, 129), float("nan"), device="cuda")
    other = model.library.instance()
    other.bind("e0", "x0", x * 2)
    model.bind("e0", "x0", x)
    model.bind("e0", "y0", y)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        model.invoke("e0", stream.cuda_stream)
        other.invoke("e0", stream.cuda_stream)
    stream.synchronize()
    expected = CASE.expected()[0]
    assert cuda_harness.difference(y.cpu().numpy(), expected, CASE) == ""
    assert cuda_harness.difference(other.read("e0", "y0"), 2 * expected, CASE) == ""
    refused(
        "EDGEC-E237: give float32[5, 64] for port x0: this array is float16[5, 64]",
        *(model.bind, "e0", "x0", x.half()),
    )
    refused(
        "EDGEC-E237: give float32[5, 64] for port x0: this array is float32[5, 64] and not contiguous",
        *(model.bind, "e0", "x0", torch.zeros(64, 5, device="cuda").t()),
    )
    model.bind("e0", "x0", None)
    model.bind("e0", "y0", None)
    other.close()


def test_mapped_host_memory_is_used_in_place(model: Instance) -> None:
    other = model.library.instance()
    x, y = other.mapped("e0", "x0"), other.mapped("e0", "y0")
    x[:], y[:] = CASE.arrays[0], np.nan
    other.invoke("e0")
    model.library.call("wait", other.handle, None)
    assert cuda_harness.difference(np.array(y), CASE.expected()[0], CASE) == ""
    other.close()
