"""The learning benchmark: its images, and that what it runs is the product's training step."""

from __future__ import annotations

import functools
from pathlib import Path

import mcunet
import numpy as np
import pytest
import schemes
import shape_learning
import shapes
from host_model import HostModel

from edgec import interp
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle
from edgec.ir import Array, Program
from edgec.passes.straight_through import integers
from edgec.passes.train import train

STEPS = 2


@functools.cache
def program() -> Program:
    return train(import_mcu_pickle(mcunet.FILE, Head(10)), schemes.spec_of("99"), integers())


@functools.cache
def task() -> shape_learning.Task:
    """STEPS images with what the frozen front makes of them, by the interpreter."""
    images, labels = shapes.dataset(STEPS, 4)
    front = shape_learning.split(program()).front
    made = [interp.run(front, front.graphs[0], {"image": image[None]})[0] for image in images]
    return shape_learning.Task(made, labels, made, labels)


def stepped(model: HostModel | shape_learning.Interpreted, steps: int = STEPS) -> None:
    for features, label in zip(task().train[:steps], task().train_labels[:steps], strict=True):
        model.call(shape_learning.STEP, {**features, "label": np.array([label], np.int32)})


def after_whole_steps(steps: int = STEPS) -> dict[str, Array]:
    images, labels = (a[:steps] for a in shapes.dataset(STEPS, 4))
    state: dict[str, Array] | None = None
    for image, label in zip(images, labels, strict=True):
        inputs = {"image": image[None], "label": np.array([label], np.int32)}
        _, state = interp.run(program(), program().graph("train_step"), inputs, state)
    assert state is not None
    return state


def test_images_follow_from_the_seed_and_labels_are_even() -> None:
    images, labels = shapes.dataset(30, 5, 32)
    again, _ = shapes.dataset(30, 5, 32)
    other, _ = shapes.dataset(30, 6, 32)
    np.testing.assert_array_equal(images, again)
    assert (images != other).any()
    assert np.bincount(labels).tolist() == [3] * 10


def test_shapes_differ_from_each_other() -> None:
    at = np.linspace(-1.2, 1.2, 48)
    y, x = np.meshgrid(at, at, indexing="ij")
    maps = [shape(x, y) for shape in shapes.SHAPES]
    for index, one in enumerate(maps):
        assert 0.1 < one.mean() < 0.6
        assert all((one != other).mean() > 0.03 for other in maps[:index])


@mcunet.needed
def test_the_split_network_learns_as_the_whole_one(tmp_path: Path) -> None:
    rest = shape_learning.split(program()).rest
    interpreted, compiled = shape_learning.Interpreted(rest), HostModel(rest, tmp_path)
    wanted = after_whole_steps()
    stepped(interpreted)
    stepped(compiled)
    for name, content in wanted.items():
        np.testing.assert_array_equal(interpreted.state[name], content, err_msg=name)
        size = np.ascontiguousarray(content).nbytes
        assert compiled.bytes_at(f"state.{name}")[:size].tobytes() == content.tobytes(), name


@mcunet.needed
def test_without_skips_weights_below_the_last_residual_block_differ() -> None:
    rest = shape_learning.split(program()).rest
    model = shape_learning.Interpreted(shape_learning.without_skips(rest))
    stepped(model, 1)
    wanted = after_whole_steps(1)
    assert (model.state["blocks.13.pointwise1.w.slice"] == wanted["blocks.13.pointwise1.w.slice"]).all()
    assert (model.state["blocks.7.pointwise1.w.trained"] != wanted["blocks.7.pointwise1.w.trained"]).any()


@mcunet.needed
def test_truncation_shrinks_weights_and_ends_with_its_context() -> None:
    rest = shape_learning.split(program()).rest
    model = shape_learning.Interpreted(rest)
    with shape_learning.truncation():
        stepped(model)
    name = "blocks.9.pointwise1.w.trained"
    old, new = (s.astype(np.int64) for s in (program().state[name].initial.data, model.state[name]))
    assert np.abs(new).sum() < np.abs(old).sum() - old.size // 2
    again = shape_learning.Interpreted(rest)
    stepped(again)
    np.testing.assert_array_equal(again.state[name], after_whole_steps()[name])


@mcunet.needed
@pytest.mark.slow
@pytest.mark.parametrize(("ablation", "least", "most"), [("none", 90.0, 100.0), ("truncate", 0.0, 20.0)])
def test_the_shapes_are_learnt_unless_updates_are_truncated(
    ablation: shape_learning.Ablation, least: float, most: float
) -> None:
    """The whole schedule: some minutes each."""
    assert least <= shape_learning.learn(program(), 0, schemes.RATE, ablation) <= most


def test_the_rate_warms_up_and_falls_to_0() -> None:
    rates = [shape_learning.rate_at(step, 4000, 0.5) for step in range(4000)]
    assert rates[0] == 0.005
    assert max(rates) == rates[100] == 0.5
    assert 0 < rates[-1] < 1e-6
