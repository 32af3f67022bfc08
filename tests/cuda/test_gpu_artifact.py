"""Artifacts on a GPU as users have them: run and bench, golden vectors, tensors without a copy, threads, policies."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import edgec
from edgec import cli
from edgec.artifact import Artifact
from edgec.control.loop import Question
from edgec.control.policies import artifact_policy
from edgec.control.realtime import RealtimeLoop
from edgec.control.realtime_types import Observation, Options, Payload
from edgec.control.settings import Axis, Settings
from edgec.cuda.library import Instance, Library
from edgec.errors import TargetError
from edgec.ir import Array

FAR = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 8e-2}  # from PyTorch, of the largest output


class Small(torch.nn.Module):
    """An image in PyTorch's layout and a vector; a map and a vector come out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = torch.nn.Conv2d(3, 24, 3, 2, 1), torch.nn.Conv2d(24, 40, 3, padding=1)
        self.mix, self.last = torch.nn.Linear(5, 40), torch.nn.Linear(40, 7)

    def forward(self, image: torch.Tensor, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = torch.relu(self.second(torch.relu(self.first(image))))
        return found, self.last(found.mean((2, 3)) + self.mix(vector))


def example(seed: int, count: int = 1) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {"image": (count, 3, 18, 22), "vector": (count, 5)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def wanted(inputs: dict[str, Array]) -> list[Array]:
    """PyTorch's outputs in float32."""
    with torch.no_grad():
        return [y.numpy() for y in Small()(*(torch.from_numpy(x) for x in inputs.values()))]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """By precision."""
    folder = tmp_path_factory.mktemp("artifacts")
    inputs = tuple(torch.from_numpy(x) for x in example(0).values())
    given: dict[str, Any] = {"example_inputs": inputs, "target": "h200", "calib": example(1, 8)}
    made = {p: edgec.compile(Small(), precision=p, out=folder / p, **given) for p in (*FAR, "int8")}  # type: ignore[arg-type]
    made["in C"] = edgec.compile(Small(), out=folder / "c", **(given | {"target": "host"}))
    return made


def far(found: Array, expected: Array) -> float:
    """Of the largest number that is expected."""
    return float(np.abs(found.astype(np.float32) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("precision", FAR)
def test_an_artifact_equals_its_golden_vectors_and_runs_on_users_arrays(
    artifacts: dict[str, Artifact], precision: str
) -> None:
    made = artifacts[precision]
    made.check("cuda")
    inputs = example(2, 4)
    found = made.run(inputs)
    for y, expected in zip(found.values(), wanted(inputs), strict=True):
        assert y.shape == expected.shape
        assert far(y, expected) < FAR[precision]


def test_the_integers_are_those_of_the_network_in_c(artifacts: dict[str, Artifact]) -> None:
    artifacts["int8"].check("cuda")
    inputs = example(2, 4)
    found, expected = (artifacts[name].run(inputs, raw=True) for name in ("int8", "in C"))
    for label, y in expected.items():
        assert y.dtype == np.int8
        assert np.array_equal(found[label], y)


def test_golden_vectors_that_differ_are_told(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    folder = tmp_path / "a"
    shutil.copytree(artifacts["int8"].folder, folder)
    path = folder / "golden" / "out.bin"
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["golden/out.bin"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(TargetError) as caught:
        Artifact(folder).check("cuda")
    assert str(caught.value) == (
        f"EDGEC-E901: report this with the artifact {folder}: output output_0 of infer, sample 0, on cuda differs from "
        "the interpreter's (golden/out.bin)"
    )


def test_the_commands_run_and_bench(
    artifacts: dict[str, Artifact], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, inputs = artifacts["int8"].folder, example(3)
    np.savez(tmp_path / "x.npz", **inputs)  # type: ignore[arg-type]
    out = tmp_path / "y.npz"
    command = ["run", str(folder), "--on", "cuda", "--input", str(tmp_path / "x.npz"), "--output", str(out)]
    assert cli.main(command) == 0
    again = artifacts["int8"].run(inputs)
    with np.load(out) as found:
        assert {name: found[name].tobytes() for name in found} == {n: y.tobytes() for n, y in again.items()}
    capsys.readouterr()
    assert cli.main(["bench", str(folder), "--on", "cuda", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert 0.0 < row["milliseconds"] < 10.0
    assert 0.0 < row["share_of_bandwidth"] < 1.0
    assert row["copy_bytes_per_s"] > 1e11
    assert all(layer["microseconds"] > 0.0 for layer in row["layers"])


def test_compile_checks_the_golden_vectors_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported = torch.export.export(torch.nn.Linear(32, 8), (torch.zeros(1, 32),))
    torch.export.save(exported, tmp_path / "net.pt2")
    assert (
        cli.main(["compile", str(tmp_path / "net.pt2"), "--target", "h200", "-o", str(tmp_path / "a")]) == 0
    )
    assert "check cuda" in capsys.readouterr().err


class Lent:
    """Nothing but the DLPack protocol of a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **given: Any) -> Any:
        return self.tensor.__dlpack__(**given)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


class Seen:
    """Nothing but the CUDA array interface of a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.__cuda_array_interface__ = tensor.__cuda_array_interface__
        self.tensor = tensor


@pytest.mark.parametrize("form", [Lent, Seen, lambda tensor: tensor], ids=["dlpack", "interface", "torch"])
def test_arrays_of_three_kinds_are_used_in_place(artifacts: dict[str, Artifact], form: Any) -> None:
    library = Library(artifacts["fp16"].folder)
    model = library.instance()
    info = model.entry("infer")
    given = {p.port.label: torch.randn(p.type.dims, device="cuda").half() for p in info.inputs}
    taken = {p.port.label: torch.full(p.type.dims, float("nan"), device="cuda").half() for p in info.outputs}
    for label, tensor in (given | taken).items():
        model.bind("infer", label, form(tensor))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    for turn in range(2):  # the second time with other numbers in the same memory
        if turn:
            with torch.cuda.stream(stream):
                for tensor in given.values():
                    tensor.mul_(-0.5)
        model.invoke("infer", stream.cuda_stream)
        stream.synchronize()
        other = library.instance()
        expected = other.run("infer", {label: x.cpu().numpy() for label, x in given.items()})
        other.close()
        for label, tensor in taken.items():
            assert tensor.cpu().numpy().tobytes() == expected[label].tobytes()
    model.close()
    library.close()


class Twice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2.0


def test_an_array_in_pinned_memory_is_the_callers_again_after_write(tmp_path: Path) -> None:
    size = 1 << 24  # whose copy takes milliseconds
    made = edgec.compile(
        Twice(), (torch.zeros(1, size),), target="h200", precision="fp32", out=tmp_path / "a"
    )
    library = Library(made.folder)
    holder, model = library.instance(), library.instance()
    array = holder.mapped("infer", "x")
    array[...] = 3.0
    model.write("infer", "x", array)
    array[...] = 7.0
    model.invoke("infer")
    found = next(iter(model.entry("infer").outputs))
    assert np.all(model.read("infer", found.port.label) == 6.0)
    library.close()


def test_instances_in_threads_do_not_disturb_each_other(artifacts: dict[str, Artifact]) -> None:
    library = Library(artifacts["fp16"].folder)
    instances = [library.instance() for _ in range(6)]
    info = instances[0].entry("infer")
    rng = np.random.default_rng(5)
    sets = [
        {p.port.label: rng.normal(size=p.type.dims).astype(np.float16) for p in info.inputs}
        for _ in instances
    ]
    alone = [one.run("infer", given) for one, given in zip(instances, sets, strict=True)]
    wrong: list[int] = []

    def use(index: int, model: Instance) -> None:
        stream = torch.cuda.Stream().cuda_stream
        for _ in range(100):
            model.fill(0xFF)
            for label, array in sets[index].items():
                model.write("infer", label, array, stream)
            model.invoke("infer", stream)
            for label, array in alone[index].items():
                if model.read("infer", label, stream).tobytes() != array.tobytes():
                    wrong.append(index)

    threads = [threading.Thread(target=use, args=pair) for pair in enumerate(instances)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for model in instances:
        model.close()
    library.close()


AXES = tuple(Axis("delta", (-10.0, 10.0), position=i) for i in range(2))
SETTINGS = Settings("vlash", 100.0, horizon=4, execute=2, states=2, axes=AXES, stop_after=1000)
QUESTION = Question(7, 0, 2, 1, np.array([1, 2], np.float32), np.array([[5, 6]], np.float32))


class Steering(torch.nn.Module):
    """Four equal steps to (3, 3), and to where the picture is bright; the picture is in PyTorch's layout."""

    def forward(self, state: torch.Tensor, payload: torch.Tensor) -> torch.Tensor:
        bright = torch.nn.functional.avg_pool2d(payload, (4, 6)).flatten(1)
        return ((3.0 - state) * 0.25 + bright).repeat(1, 4)


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16", "int8"])
def steering(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    rng = np.random.default_rng(0)
    calib = {"state": rng.uniform(-4, 4, (16, 2)), "payload": rng.uniform(-4, 4, (16, 2, 4, 6))}
    return edgec.compile(
        Steering(),
        (torch.zeros(1, 2), torch.zeros(1, 2, 4, 6)),
        target="h200",
        precision=request.param,
        calib={name: array.astype(np.float32) for name, array in calib.items()},
        out=tmp_path_factory.mktemp("policy") / "a",
    )


class Body:
    def __init__(self) -> None:
        self.place = np.zeros(2, np.float32)

    def sense(self) -> Observation:
        return Observation(self.place.copy(), np.zeros((2, 4, 6), np.float32))

    def act(self, action: Array) -> None:
        self.place += action


def test_an_artifact_steers_a_robot_from_the_gpu(steering: Artifact) -> None:
    payload = Payload((2, 4, 6), "float32")
    with artifact_policy(steering, SETTINGS, payload) as policy:
        picture = np.zeros((2, 4, 6), np.float32)
        picture[1] = 1.0
        chunk = policy(QUESTION, picture)
        assert np.abs(chunk - [[0.5, 1.25]] * 4).max() < 0.06
        found = RealtimeLoop(SETTINGS, Body(), policy, Options(periods=100, payload=payload)).run()
    assert found.counts["taken"] > 0 and found.end == "periods" and found.infer_errors == 0
