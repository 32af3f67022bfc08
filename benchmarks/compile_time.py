"""Seconds that edgec takes: to start, to compile digits, MobileNetV2-1.0 at 224x224, and ResNet-50 for a GPU.

    python benchmarks/compile_time.py

Prints a table and writes results/compile_time.json. Compiling is timed in this process after torch is imported: from
the module to the written artifact, code generated but not built. For the GPU every kernel is built by nvcc, none of it
in the cache before; without nvcc that is left out, and said. Fails with exit code 1 where a budget is exceeded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environment
import numpy as np
import torch

import edgec
from edgec.cuda import build as cuda_build
from examples.models import digits_cnn, mobilenet_v2
from examples.models.seeded import Made
from examples.networks import NETWORKS

TARGET = "host"  # has room for every network; what is generated for a Cortex-M costs the same
STARTS = 5


def start() -> float:
    """Median seconds of `edgec --version` in a process of its own."""
    seconds = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "edgec", "--version"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def compile_seconds(factory: Callable[[], Made], images: int) -> float:
    """Seconds to compile a network, calibrated on `images` inputs."""
    net, (example,) = factory()
    rng = np.random.default_rng(0)
    calib = {"x": rng.normal(size=(images, *example.shape)).astype(np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        edgec.compile(net, (example,), target=TARGET, out=Path(folder) / "art", calib=calib, name="net")
        return time.perf_counter() - begin


def library_seconds() -> float:
    """Seconds from ResNet-50 to its library for an H200, with an empty cache of kernels."""
    net, inputs = NETWORKS["resnet50"].make()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEC_CACHE"] = str(Path(folder) / "cache")
        begin = time.perf_counter()
        made = edgec.compile(
            net, inputs, target="h200", out=Path(folder) / "art", precision="fp16", name="net"
        )
        cuda_build.build_all(made.folder, "net", made.target)
        return time.perf_counter() - begin


def main() -> int:
    warnings.simplefilter("ignore", FutureWarning)  # torch.export uses a class that torch deprecates
    torch.export.export(torch.nn.ReLU(), (torch.zeros(1),))  # imports what torch.export imports lazily
    # (what, how, budget in seconds)
    measured: list[tuple[str, Callable[[], float], float]] = [
        ("edgec --version", start, 0.5),
        ("digits, 8 images", lambda: compile_seconds(digits_cnn.factory, 8), 5.0),
        ("MobileNetV2-1.0 at 224, 8 images", lambda: compile_seconds(mobilenet_v2.width_100, 8), 60.0),
    ]
    if cuda_build.find("nvcc") is not None:
        measured.append(("ResNet-50 for an H200, library built, empty cache", library_seconds, 90.0))
    else:
        print("LEFT OUT: the library for a GPU, for want of nvcc")
    rows: list[dict[str, Any]] = []
    for what, how, budget in measured:
        seconds = how()
        rows.append({"what": what, "seconds": round(seconds, 2), "budget_s": budget})
        print(f"{what:<50}{seconds:7.2f} s   budget {budget:4g} s", flush=True)
    print(f"wrote {environment.write('compile_time', rows, threads=torch.get_num_threads())}")
    return int(any(row["seconds"] > row["budget_s"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
