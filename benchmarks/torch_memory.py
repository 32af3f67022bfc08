"""What a training step takes in PyTorch: bytes of its live tensors and of its process, CPU seconds on one thread.

    python benchmarks/torch_memory.py bert full|sparse
    python benchmarks/torch_memory.py mcunet full|99

prints them as JSON (mcunet: the network of training.py and one of its schemes).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measured import high_water_bytes
from torch import Tensor, nn

STEPS = 5  # timed


def peak_growth(step: Callable[[], object]) -> int:
    """The most bytes that PyTorch's allocator has handed out at a time during `step`, beyond those before it."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: int(e.start_ns())):
        now += event.nbytes()
        most = max(most, now)
    return most


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of their storages, each once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def measure(net: nn.Module, inputs: tuple[Tensor, ...], label: Tensor, rate: float) -> dict[str, Any]:
    """Steps of SGD on what requires gradients: live bytes at the peak of a step, seconds, bytes of the process."""
    torch.set_num_threads(1)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, rate)

    def step() -> float:
        loss = nn.functional.cross_entropy(net(*inputs), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()  # sets them to None
        return float(loss.detach())

    step()
    seconds = []
    for _ in range(STEPS):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # before the profiler adds to it
    held = tensor_bytes([*net.parameters(), *net.buffers(), *inputs, label])
    return {
        "live_bytes": held + peak_growth(step),
        "process_bytes": high_water_bytes(status),
        "cpu_s": float(np.median(seconds)),
    }


def bert(mode: str) -> dict[str, Any]:
    """A step of the encoder of sparse_training.py, its body as it starts."""
    import text_task

    net = text_task.Classifier(text_task.Bert(text_task.SIZES), len(text_task.KINDS))
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(mode == "full" or text_task.trains_sparsely(name))
    shape = text_task.BATCH, text_task.TOKENS
    tokens = torch.randint(0, text_task.WORDS, shape)
    return measure(net, (tokens, torch.ones(shape, dtype=torch.int64)), torch.arange(shape[0]) % 8, 0.05)


def mcunet(mode: str) -> dict[str, Any]:
    """A step of the int8 network of training.py, one image, the head of 10 classes in float."""
    import schemes
    import torch_mcunet
    import training

    torch.manual_seed(0)
    net = torch_mcunet.Network(training.FOLDER / training.MODELS["mcunet-5fps"], training.CLASSES)
    net.train_only(schemes.spec_of(mode).scheme)
    image = torch.randint(-128, 128, (1, 3, 128, 128)).to(torch.float32)
    return measure(net, (image,), torch.zeros(1, dtype=torch.int64), schemes.RATE)


def in_process(what: str, mode: str) -> dict[str, Any]:
    """The figures of a process of its own."""
    command = [sys.executable, str(Path(__file__)), what, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps({"bert": bert, "mcunet": mcunet}[sys.argv[1]](sys.argv[2])))
