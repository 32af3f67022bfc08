"""Vision networks at batch 1 and 224x224 in fp16 on this machine's GPU, against the best of PyTorch in the same run.

    python benchmarks/cuda_vision.py [--networks a,b] [--no-compile] [--profile 12] [--int8] [--json] [--jobs 16]
                                     [--keep DIR [--build]]

Peers: a CUDA graph of eager in NCHW and in channels_last, and torch.compile(mode="reduce-overhead"). Every figure is
the median of device times after warm-up, inputs and weights random. `--profile N` prints our N slowest kernels, each
alone. `--int8` times the CNNs in int8 too. Start-up is what a new process takes from loading the library to the first
output, the CUDA context and the graph's capture included.
With `--build` makes what takes processor time, our artifacts in DIR and torch.compile's cache, and times nothing; a
later run with the same DIR then only times. With `--json` writes results/cuda_vision.json.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import math
import multiprocessing
import shutil
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

from edgec import compiler
from edgec.cuda import artifact as cuda_artifact
from edgec.cuda.library import Library
from edgec.pipeline import Options
from examples.networks import CNNS, NETWORKS

TIMED = (
    *("resnet50", "mobilenet_v2", "vit_b16", "swin_t"),
    *("efficientvit_b1", "convnext_t", "efficientnet_b0"),
)
WARM_UP, RUNS, STARTS = 30, 200, 3


def median_ms(run: Callable[[], Any]) -> float:
    """Median milliseconds of device time of one call."""
    for _ in range(WARM_UP):
        run()
    torch.cuda.synchronize()
    begins, ends = ([torch.cuda.Event(enable_timing=True) for _ in range(RUNS)] for _ in range(2))
    for begin, end in zip(begins, ends, strict=True):
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return float(np.median([b.elapsed_time(e) for b, e in zip(begins, ends, strict=True)]))


def captured(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """A replay of the module's CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            module(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(x)
    return graph.replay


def compiled_peer(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    """The module under torch.compile(mode="reduce-overhead")."""
    torch._dynamo.reset()
    net = torch.compile(module.half().cuda().to(memory_format=torch.channels_last), mode="reduce-overhead")
    given = x.half().cuda().contiguous(memory_format=torch.channels_last)
    return lambda: net(given)


def peers(module: torch.nn.Module, x: torch.Tensor, compiled: bool) -> dict[str, float]:
    """Milliseconds of each way to run the module in PyTorch."""
    found: dict[str, float] = {}
    with torch.no_grad():
        for label, order in (("graph", torch.contiguous_format), ("graph_last", torch.channels_last)):
            net = module.half().cuda().to(memory_format=order)
            found[label] = median_ms(captured(net, x.half().cuda().contiguous(memory_format=order)))
        if compiled:
            found["compile"] = median_ms(compiled_peer(module, x))
    return found


def artifact(name: str, precision: str, place: Path) -> tuple[Path, float]:
    """Our artifact for the H200 and the seconds that it took to make, kernels included."""
    folder = place / f"{name}-{precision}"
    seconds = place / f"{name}-{precision}.seconds"
    if not seconds.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        cuda_artifact.MOST_GOLDEN_MACS = -1  # type: ignore[misc]  # golden vectors take longer than the benchmark
        module, inputs = NETWORKS[name].make()
        begin = time.perf_counter()
        calib = "random" if precision == "int8" else None
        options = Options(precision=precision)  # type: ignore[arg-type]
        compiler.write(
            compiler.plan(compiler.Request(module, "h200", options, calib, inputs, name=name)), folder
        )
        Library(folder).close()
        seconds.write_text(str(time.perf_counter() - begin), encoding="utf-8")
    return folder, float(seconds.read_text(encoding="utf-8"))


def prepare(task: tuple[str, str, str]) -> None:
    """In a process of its own: make an artifact, or let torch.compile fill its cache; what fails fails again later."""
    name, what, place = task
    warnings.simplefilter("ignore")
    with contextlib.suppress(Exception):
        if what != "peer":
            artifact(name, what, Path(place))
            return
        module, (x,) = NETWORKS[name].make()
        with torch.no_grad():
            compiled_peer(module, x)()


def prepare_all(arguments: argparse.Namespace, place: str) -> None:
    """Everything that takes processor time, side by side, so that the GPU is timed alone afterwards."""
    names = arguments.networks.split(",")
    tasks = [] if arguments.no_peers or arguments.no_compile else [(n, "peer", place) for n in names]
    tasks += [(n, "fp16", place) for n in names]
    tasks += [(n, "int8", place) for n in names if arguments.int8 and n in CNNS]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        list(pool.map(prepare, tasks))


START = """
import sys, time
from edgec.cuda.library import Library
begin = time.perf_counter()
library = Library(sys.argv[1])
instance = library.instance()
name = next(iter(library.entries))
instance.invoke(name)
for port in library.entries[name].outputs:
    instance.read(name, port.port.label)
print(time.perf_counter() - begin)
"""


def start_up_s(folder: Path) -> float:
    """Median seconds, in a new process, from loading the library to the first output: the CUDA context included."""
    taken = []
    for _ in range(STARTS):
        done = subprocess.run(
            [sys.executable, "-c", START, str(folder)], capture_output=True, text=True, check=True
        )
        taken.append(float(done.stdout))
    return float(np.median(taken))


def ours(folder: Path, profile: int) -> dict[str, Any]:
    """Median milliseconds, launches, start-up and sizes of an artifact; prints its slowest kernels."""
    library = Library(folder)
    instance = library.instance()
    name = next(iter(library.entries))
    rng = np.random.default_rng(0)
    for port in library.entries[name].inputs:
        dtype = port.type.dtype.numpy
        given = (
            rng.integers(-128, 128, port.type.dims) if dtype.kind == "i" else rng.normal(size=port.type.dims)
        )
        instance.write(name, port.port.label, given.astype(dtype))
    stream = torch.cuda.current_stream().cuda_stream
    milliseconds = median_ms(lambda: instance.invoke(name, stream))  # as the peers are timed
    launches = library.manifest["entries"][0]["launches"]
    if profile:
        show(launches, instance.profile_ms(name), profile)
    built = next((folder / "build").rglob("*.so"))
    row = {
        "ms": round(milliseconds, 4),
        "launches": len(launches),
        "start_s": round(start_up_s(folder), 3) if folder.name.startswith("resnet50") else None,
        "library_bytes": built.stat().st_size,
        "weight_bytes": (folder / "weights.bin").stat().st_size,
    }
    instance.close()
    library.close()
    return row


def show(launches: list[dict[str, Any]], alone: Any, count: int) -> None:
    """The slowest kernels, each timed alone, and the totals by kind."""
    us = [1000.0 * float(ms) for ms in alone]
    kinds: dict[str, list[float]] = {}
    for launch, t in zip(launches, us, strict=True):
        kinds.setdefault(str(launch.get("kernel", launch.get("op"))), []).append(t)
    print(f"    {sum(us):.0f} us in {len(us)} launches, each alone; by kernel:")
    for kind, ts in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        print(f"      {sum(ts):7.1f} us {len(ts):4}x {kind}")
    for t, launch in sorted(zip(us, launches, strict=True), key=lambda pair: -pair[0])[:count]:
        print(f"      {t:7.2f} us {launch}")


def measure(name: str, arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    """One network's row."""
    folder, seconds = artifact(name, "fp16", place)
    row: dict[str, Any] = {
        "network": name,
        "compile_s": round(seconds, 1),
        "fp16": ours(folder, arguments.profile),
    }
    if arguments.int8 and name in CNNS:
        folder, _ = artifact(name, "int8", place)
        row["int8"] = ours(folder, arguments.profile)
        row["int8_ratio"] = round(row["int8"]["ms"] / row["fp16"]["ms"], 3)
    if not arguments.no_peers:
        module, (x,) = NETWORKS[name].make()
        row["pytorch"] = {k: round(v, 4) for k, v in peers(module, x, not arguments.no_compile).items()}
        row["ratio"] = round(row["fp16"]["ms"] / min(row["pytorch"].values()), 3)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default=",".join(TIMED))
    parser.add_argument("--profile", type=int, default=0, metavar="N")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="processes that prepare side by side"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR")
    for flag in ("--no-compile", "--no-peers", "--int8", "--json", "--build"):
        parser.add_argument(flag, action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.build:
        prepare_all(arguments, str(arguments.keep))
        return 0
    torch.zeros(1, device="cuda")
    rows = []
    with tempfile.TemporaryDirectory() as own:
        place = arguments.keep or Path(own)
        if arguments.jobs > 1:
            prepare_all(arguments, str(place))
        for name in arguments.networks.split(","):
            try:
                rows.append(measure(name, arguments, place))
                print(rows[-1], flush=True)
            except Exception as error:
                print(f"{name} failed: {type(error).__name__} {str(error)[:1500]}", flush=True)
    ratios = [row["ratio"] for row in rows if "ratio" in row]
    if ratios:
        mean = math.exp(sum(math.log(r) for r in ratios) / len(ratios))
        print(f"geometric mean of {len(ratios)}: {mean:.3f}, worst {max(ratios):.3f}")
    if arguments.json:
        gpu = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}
        print(f"wrote {environment.write('cuda_vision', rows, **gpu)}")
    return int(len(rows) < len(arguments.networks.split(",")))


if __name__ == "__main__":
    sys.exit(main())
