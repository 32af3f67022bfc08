"""Policies of a control loop that are ONNX files or artifacts: what they are told and what they answer."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import edgec
from edgec.artifact import Artifact
from edgec.control.loop import Question
from edgec.control.policies import artifact_policy, onnx_policy
from edgec.control.realtime import RealtimeLoop
from edgec.control.realtime_types import Observation, Options, Payload
from edgec.control.settings import Axis, Settings
from edgec.errors import TargetError, UserError
from edgec.ir import Array

AXES = tuple(Axis("delta", (-10.0, 10.0), position=i) for i in range(2))
SETTINGS = Settings("vlash", 100.0, horizon=4, execute=2, states=2, axes=AXES, stop_after=1000)
PAYLOAD = Payload((2, 3))
QUESTION = Question(
    7, 0, 2, 1, np.array([1, 2], np.float32), np.array([[5, 6]], np.float32)
)  # state, one committed action


def onnx_file(path: Path, outputs: int = 8) -> Path:
    """chunk[i] = sum(state) + sum(prefix) + delay + sum(payload), `outputs` times."""
    h, kinds = onnx.helper, onnx.TensorProto
    inputs = [
        h.make_tensor_value_info("state", kinds.FLOAT, ["batch", 2]),
        h.make_tensor_value_info("prefix", kinds.FLOAT, [1, 4, 2]),
        h.make_tensor_value_info("delay", kinds.INT64, [1]),
        h.make_tensor_value_info("payload", kinds.UINT8, [6]),
    ]
    nodes = []
    for value in ("prefix", "delay", "payload", "state"):
        nodes.append(h.make_node("Cast", [value], [f"{value}_f"], to=kinds.FLOAT))
        nodes.append(h.make_node("ReduceSum", [f"{value}_f"], [f"{value}_s"], keepdims=0))
    nodes.append(h.make_node("Sum", [f"{v}_s" for v in ("prefix", "delay", "payload", "state")], ["total"]))
    nodes.append(h.make_node("Expand", ["total", "shape"], ["chunk"]))
    shape = onnx.numpy_helper.from_array(np.array([outputs], np.int64), "shape")
    result = [h.make_tensor_value_info("chunk", kinds.FLOAT, [outputs])]
    graph = h.make_graph(nodes, "policy", inputs, result, [shape])
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, str(path))
    return path


def test_an_onnx_policy_is_told_all_that_it_reads(tmp_path: Path) -> None:
    policy = onnx_policy(onnx_file(tmp_path / "p.onnx"), SETTINGS, PAYLOAD)
    chunk = policy(QUESTION, np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert chunk.shape == (4, 2) and chunk.dtype == np.float32
    assert set(chunk.flat) == {3 + 11 + 1 + 15}


def test_inputs_of_other_names_or_sizes_are_refused(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "p.onnx")
    wanted = (
        r"^EDGEC-E293: give the policy inputs of these names and numbers of elements: state of 2, prefix of 8, delay "
        rf"of 1; {path} has payload of 6$"
    )
    with pytest.raises(UserError, match=wanted):
        onnx_policy(path, SETTINGS)
    with pytest.raises(UserError, match=r"^EDGEC-E293: .* has state of 2$"):
        onnx_policy(path, replace(SETTINGS, states=3), PAYLOAD)


def test_an_output_of_another_size_is_refused(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "p.onnx", outputs=6)
    wanted = (
        r"^EDGEC-E294: let the policy's first output be the chunk, 4 x 2 numbers \(horizon, axes\): that of "
        rf"{path} has the shape \[6\]$"
    )
    with pytest.raises(UserError, match=wanted):
        onnx_policy(path, SETTINGS, PAYLOAD)(QUESTION, np.zeros((2, 3), np.uint8))


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match=rf"^EDGEC-E295: check the policy {path}: ONNX Runtime refuses it: "):
        onnx_policy(path, SETTINGS)


def test_without_onnx_runtime_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    wanted = "^EDGEC-EA09: run pip install onnxruntime: policies in ONNX need it, and it is not installed$"
    with pytest.raises(TargetError, match=wanted):
        onnx_policy(Path("p.onnx"), SETTINGS)


class Steering(torch.nn.Module):
    """Four equal steps to (3, 3)."""

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return ((3.0 - state) * 0.25).repeat(1, 4)


@pytest.fixture(scope="module")
def steering(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("policy") / "a"
    return edgec.compile(Steering(), (torch.zeros(1, 2),), target="host", precision="fp32", out=folder)


def test_an_artifact_is_a_policy(steering: Artifact) -> None:
    with artifact_policy(steering, SETTINGS) as policy:
        chunk = policy(QUESTION, None)
    assert chunk.tolist() == [[0.5, 0.25]] * 4


class Body:
    def __init__(self) -> None:
        self.place = np.zeros(2, np.float32)

    def sense(self) -> Observation:
        return Observation(self.place.copy())

    def act(self, action: Array) -> None:
        self.place += action


def test_an_artifact_steers_a_robot_in_real_time(steering: Artifact) -> None:
    with artifact_policy(steering, SETTINGS) as policy:
        found = RealtimeLoop(SETTINGS, Body(), policy, Options(periods=60)).run()
    assert found.counts["taken"] > 0 and found.end == "periods" and found.infer_errors == 0
