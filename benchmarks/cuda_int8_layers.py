"""CNNs in int8 at batch 1 on this machine's GPU, layer by layer, next to our own fp16 in the same run.

    python benchmarks/cuda_int8_layers.py [--networks a,b] [--layers 12] [--json]

For each network: the median device time of the whole graph in both precisions and their ratio; then the slowest int8
launches, each timed alone (repeated in one graph, so that weights and activations are in L2): microseconds, what the
choice of tiles had estimated, the bound by bytes and by operations at the GPU's data-sheet rates, and the share of it
that is reached. With `--json` writes results/cuda_int8_layers.json.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import environment
import numpy as np

from edgec import compiler
from edgec.backends.cuda_tiles_s8 import TILES, Choice, Work, estimate
from edgec.backends.kernels_cuda_int8_conv import ROWS_WINDOWS
from edgec.cuda import artifact as cuda_artifact
from edgec.cuda.library import Library
from edgec.pipeline import Options
from edgec.plan import Call, Gpu
from edgec.targets.load import load_target
from examples.networks import CNNS, NETWORKS

WARM_UP, RUNS = 30, 300
TARGET = "h200"


def made(name: str, precision: str, place: Path) -> tuple[compiler.Compiled, Path]:
    """A network compiled for the H200, and its artifact."""
    module, inputs = NETWORKS[name].make()
    calib = "random" if precision == "int8" else None
    request = compiler.Request(module, TARGET, Options(precision=precision), calib, inputs, name=name)  # type: ignore[arg-type]
    done = compiler.plan(request)
    folder = place / f"{name}-{precision}"
    compiler.write(done, folder)
    return done, folder


def timed(folder: Path, alone: bool) -> tuple[float, Any]:
    """Median milliseconds of the whole graph, and of each launch where asked for."""
    library = Library(folder)
    instance = library.instance()
    name = next(iter(library.entries))
    rng = np.random.default_rng(0)
    for port in library.entries[name].inputs:
        dtype = port.type.dtype.numpy
        drawn = (
            rng.integers(-128, 128, port.type.dims) if dtype.kind == "i" else rng.normal(size=port.type.dims)
        )
        instance.write(name, port.port.label, drawn.astype(dtype))
    whole = float(np.median(instance.times_ms(name, WARM_UP + RUNS)[WARM_UP:]))
    each = instance.profile_ms(name, 50) if alone else None
    instance.close()
    library.close()
    return whole, each


def bound_us(call: Call, gpu: Gpu) -> float:
    """Microseconds that bytes and operations take at the GPU's peaks."""
    moved = sum(t.bytes for t in (*call.in_types[: len(call.inputs)], *call.out_types))
    weights = call.in_types[1].bytes if call.op in ("conv2d", "linear") else 0
    return 1e6 * max((moved + weights) / gpu.bandwidth, 2 * call.macs / gpu.int8_ops)


def predicted_us(call: Call, gpu: Gpu) -> float | None:
    """What the choice of tiles estimated for a product on tensor cores."""
    grid, fields = call.grids[0], dict(call.params)
    if grid.body != "ec_conv2d_s8_body":
        return None
    sizes = tuple(int(n) for n in grid.template[:7])
    tile = next(t for t in TILES if (t.bm, t.bn, t.bk, t.warps_m, t.warps_n, t.warps_k, t.stages) == sizes)
    groups = int(fields["out_c"]) // int(fields["group_out"])
    windows = int(grid.template[8]) >= ROWS_WINDOWS
    work = Work(int(fields["rows"]), int(fields["group_out"]), groups, int(fields["k"]), windows)
    choice = Choice(tile, int(fields["splits"]), int(fields["steps"]), grid.cluster > 1)
    return estimate(choice, work, gpu)


def layers(done: compiler.Compiled, each: Any) -> list[dict[str, Any]]:
    """One row a launch. Every call of these networks is one launch."""
    target = load_target(TARGET)
    assert target.gpu is not None
    calls = done.plan.entries[0].calls
    assert len(calls) == len(each)
    rows = []
    for call, ms in zip(calls, each, strict=True):
        us, bound = 1000.0 * float(ms), bound_us(call, target.gpu)
        predicted = predicted_us(call, target.gpu)
        rows.append(
            {
                "layer": call.loc.layer,
                "op": call.title,
                "in": call.in_types[0].dims,
                "out": call.out_types[0].dims,
                "kernel": call.grids[0].body if call.grids else call.kernel.symbol,
                "template": ",".join(call.grids[0].template[:12]) if call.grids else "",
                "splits": dict(call.params).get("splits", 1),
                "us": round(us, 2),
                "predicted_us": None if predicted is None else round(predicted, 2),
                "bound_us": round(bound, 3),
                "share": round(bound / us, 3),
            }
        )
    return rows


def measure(name: str, count: int, place: Path) -> dict[str, Any]:
    """One network's row; prints its slowest launches."""
    _, folder = made(name, "fp16", place)
    half, _ = timed(folder, False)
    shutil.rmtree(folder)
    done, folder = made(name, "int8", place)
    whole, each = timed(folder, True)
    shutil.rmtree(folder)
    rows = layers(done, each)
    alone, bound = sum(r["us"] for r in rows), sum(r["bound_us"] for r in rows)
    print(
        f"{name}: int8 {1000 * whole:.1f} us, fp16 {1000 * half:.1f} us, ratio {whole / half:.3f}; "
        f"{len(rows)} launches, {alone:.0f} us each alone, bound {bound:.1f} us"
    )
    for r in sorted(rows, key=lambda r: -r["us"])[:count]:
        print(
            f"  {r['us']:6.2f} us predicted {r['predicted_us'] or 0:5.2f} bound {r['bound_us']:6.3f} "
            f"{r['op'][:28]:28s} {r['in']} -> {r['out']} {r['kernel']}<{r['template']}> splits {r['splits']}"
        )
    return {
        "network": name,
        "int8_us": 1000 * whole,
        "fp16_us": 1000 * half,
        "ratio": whole / half,
        "layers": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default=",".join(CNNS))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cuda_artifact.MOST_GOLDEN_MACS = -1  # type: ignore[misc]  # golden vectors take longer than the benchmark
    with tempfile.TemporaryDirectory() as place:
        rows = [measure(name, arguments.layers, Path(place)) for name in arguments.networks.split(",")]
    if arguments.json:
        print(f"wrote {environment.write('cuda_int8_layers', rows)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
