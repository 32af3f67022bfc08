"""Decoding with a Llama-3 shape at batch 1 on this machine's GPU: tokens a second, next to PyTorch in the same run.

    python benchmarks/cuda_decode.py [--shape 8b|1b] [--layers N] [--precision fp16,w4a16] [--prompt 1024]
                                     [--profile 12] [--no-peers] [--no-compile] [--json] [--keep DIR] [--build]

Weights are random. A step is one CUDA graph: token, position, caches and sampling (greedy) stay on the device. Ours is
timed in two ways: device time of the graph, launched back to back (`step_ms`), and with the token read by the host
after each step (`read_ms`), as `edgec generate` does. Peers are LlamaForCausalLM of transformers in fp16 with its
StaticCache, eager and under torch.compile(mode="reduce-overhead"). The bound is weights and cache of a token over the
bandwidth that a plain read reaches here, measured in the same run. Compiling takes minutes: `--build --keep DIR` does
only that, and a later run with `--keep DIR` measures what stands there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import environment
import numpy as np
import torch

from edgec import compiler
from edgec.artifact import Artifact
from edgec.cuda import artifact as cuda_artifact
from edgec.cuda.library import Instance, Library
from edgec.frontends import DecoderOptions
from edgec.generate import bytes_per_token, chunks
from edgec.ops.token_choice import settings_of
from edgec.pipeline import Options
from examples.models.llama import config, llama

STEPS, WARM_UP, ROOM = 100, 20, 256  # ROOM: tokens of the cache beyond the prompt
PREFILL = (128,)


def read_bandwidth() -> float:
    """Bytes a second of a sum over 4 GB."""
    x = torch.ones(1 << 30, dtype=torch.float32, device="cuda")
    for _ in range(3):
        x.sum()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(10):
        x.sum()
    end.record()
    torch.cuda.synchronize()
    return 10 * 4.0 * (1 << 30) / (begin.elapsed_time(end) * 1e-3)


def prompted(instance: Instance, prompt: int) -> None:
    """Start a text and put `prompt` random tokens into the caches."""
    ids = np.random.default_rng(0).integers(0, 1000, prompt).astype(np.int32)
    instance.run("begin", {"settings": settings_of(0.0, 0, 1.0, 0)})
    for begin, length in chunks(prompt, (*PREFILL, 1)):
        instance.run(f"prefill_{length}", {"tokens": ids[begin : begin + length]})


def built(arguments: argparse.Namespace, precision: str, place: Path) -> tuple[Library, float | None]:
    """The model's library, and the seconds that compiling it took; None where it stood there."""
    folder = place / "-".join((arguments.shape, str(arguments.layers), str(arguments.prompt), precision))
    if (folder / "manifest.json").exists():
        return Library(folder), None
    began = time.perf_counter()
    options = DecoderOptions(arguments.prompt + ROOM, PREFILL)
    program = llama(arguments.shape, options, arguments.layers)
    request = compiler.Request(program, "h200", Options(precision=precision), name="llama")  # type: ignore[arg-type]
    compiler.write(compiler.plan(request), folder)
    return Library(folder), round(time.perf_counter() - began, 1)


def ours(arguments: argparse.Namespace, precision: str, place: Path, bandwidth: float) -> dict[str, Any]:
    """Compile, run, time; prints the slowest kernels."""
    library, compile_s = built(arguments, precision, place)
    instance = library.instance()
    prompted(instance, arguments.prompt)
    step = float(np.median(instance.times_ms("decode", WARM_UP + STEPS)[WARM_UP:]))
    prompted(instance, arguments.prompt)
    reads = []
    for _ in range(WARM_UP + STEPS):
        begin = time.perf_counter()
        instance.invoke("decode")
        instance.read("decode", "token")
        reads.append(time.perf_counter() - begin)
    read = 1000.0 * float(np.median(reads[WARM_UP:]))
    prefill = float(np.median(instance.times_ms("prefill_128", 20)[5:]))
    if arguments.profile:
        show(library, instance, arguments.profile)
    needed = bytes_per_token(Artifact(library.folder), arguments.prompt + ROOM, arguments.prompt + STEPS / 2)
    instance.close()
    library.close()
    bound = bandwidth / needed
    return {
        "precision": precision,
        "compile_s": compile_s,
        "step_ms": round(step, 4),
        "tokens_per_s": round(1000.0 / step, 1),
        "read_ms": round(read, 4),
        "tokens_per_s_read": round(1000.0 / read, 1),
        "bytes_per_token": needed,
        "bound_tokens_per_s": round(bound, 1),
        "bound_share": round(1000.0 / step / bound, 3),
        "prefill_128_ms": round(prefill, 3),
    }


def show(library: Library, instance: Instance, count: int) -> None:
    """Kernels of a decode step, each timed alone, by kernel and by time."""
    index = list(library.entries).index("decode")
    launches = library.manifest["entries"][index]["launches"]
    us = [1000.0 * float(ms) for ms in instance.profile_ms("decode")]
    kinds: dict[str, list[float]] = {}
    for launch, t in zip(launches, us, strict=True):
        kinds.setdefault(str(launch.get("kernel", launch.get("op"))), []).append(t)
    print(f"    {sum(us):.0f} us in {len(us)} launches, each alone; by kernel:")
    for kind, ts in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        print(f"      {sum(ts):8.1f} us {len(ts):4}x {kind}")
    for t, launch in sorted(zip(us, launches, strict=True), key=lambda pair: -pair[0])[:count]:
        print(f"      {t:8.2f} us {launch}")


def peer(arguments: argparse.Namespace, compiled: bool) -> float:
    """Milliseconds of a decode step of transformers."""
    from transformers import LlamaForCausalLM, StaticCache

    chosen = config(arguments.shape, arguments.layers)
    with torch.device("cuda"):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float16)
        model = LlamaForCausalLM(chosen).eval()
        torch.set_default_dtype(before)
    cache = StaticCache(config=chosen, max_cache_len=arguments.prompt + ROOM)
    ids = torch.randint(0, 1000, (1, arguments.prompt), device="cuda")
    run = torch.compile(model, mode="reduce-overhead") if compiled else model
    times = []
    with torch.no_grad():
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        for _ in range(WARM_UP + STEPS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            out = run(input_ids=token, past_key_values=cache, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True).clone()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
    return float(np.median(times[WARM_UP:]))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=("8b", "1b"), default="8b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--precision", default="fp16,w4a16")
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--profile", type=int, default=0)
    for flag in ("--no-peers", "--no-compile", "--json", "--build"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cuda_artifact.MOST_GOLDEN_MACS = -1  # type: ignore[misc]  # golden vectors take longer than the benchmark
    if arguments.build:
        for precision in arguments.precision.split(","):
            print(precision, built(arguments, precision, arguments.keep)[1], "s", flush=True)
        return 0
    bandwidth = read_bandwidth()
    torch.cuda.empty_cache()
    print(f"plain read {bandwidth / 1e9:.0f} GB/s", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for precision in arguments.precision.split(","):
            rows.append(ours(arguments, precision, arguments.keep or Path(place), bandwidth))
            print(rows[-1], flush=True)
            for folder in Path(place).iterdir():
                shutil.rmtree(folder)
    for label, compiled in (("eager", False), ("compile", True)):
        if arguments.no_peers or (compiled and arguments.no_compile):
            continue
        ms = peer(arguments, compiled)
        rows.append({"peer": label, "step_ms": round(ms, 4), "tokens_per_s": round(1000.0 / ms, 1)})
        print(rows[-1], flush=True)
        torch.cuda.empty_cache()
    if arguments.json:
        gpu = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}
        head = {"shape": arguments.shape, "layers": arguments.layers, "prompt": arguments.prompt}
        print(f"wrote {environment.write('cuda_decode', [head, *rows], **gpu)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
