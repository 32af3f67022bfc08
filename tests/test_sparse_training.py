"""What benchmarks/sparse_training.py measures is PyTorch's step: parameters after it, in C, and what trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import text_task
import torch
from host_model import HostModel
from measured import high_water_bytes

from edgec.passes.train import train
from edgec.training.options import LEARNING_RATE, STEP, TRAIN_STEP, Scheme, TrainSpec, WeightSlice
from examples.models.bert import Bert, Sizes
from tests.training_networks import close, counterpart, network

RATE = 0.5  # large, so that a step changes every digit
SPARSE = Scheme(6, tuple(WeightSlice(f"body.layers.1.{part}", None, 1.0) for part in text_task.LINEARS))
SPECS = {"full": TrainSpec("full", rate=RATE), "sparse": TrainSpec("sparse", scheme=SPARSE, rate=RATE)}


@pytest.mark.parametrize("mode", SPECS)
def test_a_step_in_c_leaves_the_parameters_that_pytorch_leaves(mode: str, tmp_path: Path) -> None:
    net = network("bert")
    program = train(net.program, SPECS[mode])
    label = np.array([2, 0], np.int32)
    model = HostModel(program, tmp_path)
    loss = model.call(TRAIN_STEP, {**net.arrays(), "label": label})["loss"]

    parameters = dict(net.module.named_parameters())
    wanted = torch.nn.functional.cross_entropy(net.module(*net.inputs), torch.from_numpy(label).long())
    gradients = dict(
        zip(
            parameters, torch.autograd.grad(wanted, list(parameters.values()), allow_unused=True), strict=True
        )
    )
    assert close(loss, wanted.detach().numpy().reshape(1), 1e-5)
    compared = 0
    for name, state in program.state.items():
        if name in (LEARNING_RATE, STEP):
            continue
        found = counterpart(state.initial.data, parameters)
        assert found is not None, name
        gradient = gradients[found[0]]
        assert gradient is not None
        step = (RATE * gradient).numpy()
        after = model.bytes_at(f"state.{name}").view(np.float32)
        change = state.initial.data.ravel().astype(np.float64) - after
        # The difference of two floats: as exact as the parameter, not as the gradient.
        assert close(after, parameters[found[0]].detach().numpy() - step, 1e-5), name
        assert close(change, step, 1e-4, floor=float(np.abs(after).max())), name
        compared += 1
    # All but two embeddings that are added as constants; 6 biases, 6 weights and the head.
    assert compared == (len(parameters) - 2 if mode == "full" else 14), compared


def test_the_scheme_and_pytorchs_parameters_are_the_same() -> None:
    net = text_task.Classifier(Bert(text_task.SIZES), len(text_task.KINDS))
    chosen = {n for n, _ in net.named_parameters() if text_task.trains_sparsely(n)}
    scheme = text_task.sparse_scheme()
    layers = [
        n.removesuffix(".weight") for n, p in net.named_parameters() if n.endswith(".weight") and p.ndim == 2
    ]
    linears = [n for n in layers if n.startswith("body.layers.")]
    assert scheme.biases == 18 and {w.layer for w in scheme.weights} < set(linears)
    biases = {f"{n}.bias" for n in linears[-scheme.biases :]}
    weights = {f"{w.layer}.weight" for w in scheme.weights}
    assert chosen == biases | weights | {"head.weight", "head.bias"}


def test_the_high_water_mark_is_read_in_bytes() -> None:
    assert high_water_bytes("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n") == 2 << 20


def test_a_fresh_body_has_berts_weights() -> None:
    torch.manual_seed(0)
    weights = [p for n, p in text_task.fresh().layers.named_parameters() if p.ndim == 2]
    assert all(abs(float(w.detach().std()) - 0.02) < 0.002 for w in weights)
    assert Sizes(192, 4, 6, 2048, 64) == text_task.SIZES


def test_a_body_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_task, "BUILD", tmp_path)
    tokens = np.full((text_task.READ_AT_ONCE, text_task.TOKENS), 5, np.int32)
    passages = text_task.Passages(tokens, np.ones_like(tokens), np.zeros(len(tokens), np.int32))
    first = text_task.read(passages, 1, seed=0)
    (kept,) = tmp_path.iterdir()
    time = kept.stat().st_mtime_ns
    again = text_task.read(passages, 1, seed=0)
    assert kept.stat().st_mtime_ns == time
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other) and not other.requires_grad
    other_words = text_task.Passages(tokens + 1, passages.mask, passages.label)
    text_task.read(other_words, 1, seed=0)
    assert len(list(tmp_path.iterdir())) == 2
