"""The networks for CUDA on the interpreter: float32 equals PyTorch, fp16 stays near, no needless nodes are left."""

from __future__ import annotations

import pytest

from edgec.ir import DType
from edgec.passes.half import half
from examples.networks import NETWORKS
from tests.network_programs import counts, distance, float_program, gpu_program, made

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

MOVING = ("transpose", "reshape", "slice", "split", "select", "concat", "pad", "roll", "expand", "cast")


@pytest.mark.parametrize("name", NETWORKS)
def test_network_in_float_equals_pytorch(name: str) -> None:
    assert distance(float_program(name), made(name)) <= 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_network_in_fp16_is_within_2_percent_of_pytorch(name: str) -> None:
    assert distance(half(float_program(name), DType.F16), made(name)) <= 2e-2


@pytest.mark.parametrize("name", NETWORKS)
def test_network_with_recognised_attention_equals_pytorch(name: str) -> None:
    """What the passes of GPU targets make of it; the one transpose that is left merges Swin's patches."""
    program = gpu_program(name)
    assert counts(program)["transpose"] == (1 if name == "swin_t" else 0)
    assert distance(program, made(name)) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_whole_network_equals_pytorch(name: str) -> None:
    assert distance(float_program(name, small=False), made(name, small=False)) <= 1e-4


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "convnext_t"])
def test_no_transpose_is_left(name: str) -> None:
    """Batch norms and layer scales are in the weights, permutations cancel."""
    found = counts(float_program(name))
    assert not set(found) & {"transpose", "batch_norm", "mul", "relu", "relu6", "clamp"}
    assert sum(found[op] for op in MOVING) <= 1  # the flattening before the head


def test_squeeze_and_excite_is_six_nodes_a_block() -> None:
    found = counts(float_program("efficientnet_b0"))
    assert (found["mul"], found["sigmoid"], found["adaptive_avg_pool2d"]) == (16, 16, 17)
    assert sum(found[op] for op in MOVING) <= 1


def test_detector_moves_data_only_where_it_splits_and_joins() -> None:
    found = counts(float_program("yolo_like"))
    assert found["transpose"] == 0
    assert found["reshape"] <= 4


@pytest.mark.parametrize(
    ("name", "op", "count"),
    [
        *(("vit_b16", "strided_attention", 2), ("swin_t", "window_attention", 4)),
        *(("efficientvit_b1", "linear_attention", 7), ("segformer_b0", "strided_attention", 8)),
        *(("minilm", "strided_attention", 2), ("whisper_tiny", "strided_attention", 2)),
    ],
)
def test_attention_is_one_node(name: str, op: str, count: int) -> None:
    found = counts(gpu_program(name))
    assert found[op] == count
    assert not set(found) & {"matmul", "softmax", "roll"}
