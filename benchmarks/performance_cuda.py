"""Sections of docs/performance.md on CUDA targets, from benchmarks/results/cuda_*.json and cuda_history.toml."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

Result = dict[str, Any]
Row = dict[str, Any]

VISION_GOAL: Final = 0.85  # of PyTorch's best, geometric mean
INT8_GOAL: Final = 0.8  # of our fp16
START_GOAL_S: Final = 0.5
W4_GOALS_US: Final = {1: 34, 4: 36, 16: 42, 128: 142}  # four layers summed; of 128: what cuBLAS had taken
DECODE_GOAL: Final = 600  # tokens a second
HEAD_US: Final = 236.4  # of an 8B shape in fp16
SHEET_BANDWIDTH: Final = 4.8e12  # bytes a second of an H200, data sheet
SHEET_FP16: Final = 989e12  # operations a second, dense
W4_BITS: Final = 4 + 16 / 128  # a weight and its share of the scale
TORCH_WAYS: Final = {
    "graph": "CUDA graph",
    "graph_last": "CUDA graph, channels last",
    "compile": "torch.compile",
}


def table(head: str, rows: list[str]) -> list[str]:
    """Lines of a Markdown table; `head` and the rows without the outer bars."""
    return [f"| {head} |", "|" + "---|" * (head.count("|") + 1), *(f"| {row} |" for row in rows)]


def where(result: Result, how: str) -> str:
    """One line of provenance."""
    return (
        f"Measured {result['date']} on one {result['gpu']} with PyTorch {result['torch']}; edgec "
        f"{result['edgec']}. {how}\n"
    )


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(math.log(v) for v in values) / len(values))


def best(row: Row) -> str:
    """The fastest way of PyTorch: its name and milliseconds."""
    label = min(row["pytorch"], key=row["pytorch"].get)
    return f"{row['pytorch'][label]:.3f} ({TORCH_WAYS[label]})"


def vision(result: Result, history: Result) -> str:
    """Section of the vision networks."""
    from examples.networks import NETWORKS

    rows = result["rows"]
    shown = []
    for row in rows:
        int8 = f"{row['int8']['ms']:.3f} | {row['int8_ratio']:.2f}" if "int8" in row else " | "
        shown.append(
            f"{NETWORKS[row['network']].title} | {row['fp16']['ms']:.3f} | {row['fp16']['launches']} | "
            f"{best(row)} | {row['ratio']:.2f} | {int8}"
        )
    ratios, int8s = [r["ratio"] for r in rows], [r["int8_ratio"] for r in rows if "int8" in r]
    met = all(r <= INT8_GOAL for r in int8s)
    lines = [
        "## Vision networks on CUDA\n",
        where(
            result,
            "Batch 1, 224x224, random weights and inputs; medians of device time after warm-up, both sides "
            "in one run.",
        ),
        *table("network | fp16 ms | launches | best of PyTorch, ms | ratio | int8 ms | int8 / fp16", shown),
        "\n![Latency of vision networks](cuda_vision.svg)\n",
        f"Goal: a geometric mean of the ratios of at most {VISION_GOAL}, none above 1. Reached: "
        f"{geometric_mean(ratios):.2f}, none above {max(ratios):.2f}.",
        f"Goal for int8: at most {INT8_GOAL} of our fp16. {'Reached' if met else '**Missed**'}: "
        f"{', '.join(f'{r:.2f}' for r in int8s)}. At batch 1 launches take 1 to 3 us alone in either type, "
        "where their bytes and operations would allow 0.02 to 0.5: what int8 gains comes from fewer launches, "
        "an inverted residual in one, not from halved bytes. What is left is latency.",
        "On this GPU, fp16 is within 4e-3 of PyTorch in float32 on each of these, whole; int8 equals the "
        "interpreter in every integer ([networks](networks.md)).\n",
        *starts(rows),
    ]
    return "\n".join(lines) + "\n"


def starts(rows: list[Row]) -> list[str]:
    """Start-up and size, of the network whose start was timed."""
    from examples.networks import NETWORKS

    lines = []
    for row in (r for r in rows if r["fp16"]["start_s"] is not None):
        found = row["fp16"]
        lines.append(
            f"From loading the library to the first output of {NETWORKS[row['network']].title}, in a new "
            f"process, CUDA context included: {found['start_s']:.3f} s (goal {START_GOAL_S}). Library "
            f"{found['library_bytes']:,} B, weights {found['weight_bytes']:,} B."
        )
    return lines


def summed(rows: list[Row], batch: int, key: str) -> float:
    """Microseconds of the four layers."""
    return float(sum(r[key] for r in rows if r["batch"] == batch))


def w4_sums(rows: list[Row]) -> list[str]:
    """Lines of the table of four layers by batch."""
    batches = sorted({r["batch"] for r in rows})
    int8_bound = [summed(rows, b, "bound") * 8 / W4_BITS for b in batches]
    return [
        f"{b} | {summed(rows, b, 'w4'):.1f} | {W4_GOALS_US.get(b, '')} | {w4_bound_us(b):.1f} | "
        f"{summed(rows, b, 'torch_fp16'):.1f} | {summed(rows, b, 'torch_int4'):.1f} | "
        f"{summed(rows, b, 'w8a8'):.1f} | {summed(rows, b, 'rows'):.1f} | {limit:.1f}"
        for b, limit in zip(batches, int8_bound, strict=True)
    ]


def linears(result: Result, history: Result) -> str:
    """Section of the 4-bit and 8-bit linear layers."""
    rows = result["rows"]
    over = {b: summed(rows, b, "w4") / goal - 1 for b, goal in W4_GOALS_US.items()}
    missed = ", ".join(f"by {share:.1%} at batch {b}" for b, share in over.items() if share > 0)
    reached = ", ".join(f"at batch {b}" for b, share in over.items() if share <= 0)
    single = [
        f"{r['layer']} | {r['w4']:.2f} | {r['bound']:.2f} | {r['bound'] / r['w4']:.0%} | "
        f"{r['torch_fp16']:.2f} | {r['torch_int4']:.2f} | {r['w8a8']:.2f}"
        for r in rows
        if r["batch"] == 1
    ]
    return "\n".join(
        [
            "## Linear layers of Llama-3-8B with 4-bit and 8-bit weights\n",
            where(
                result,
                "q, k, v (6144x4096), output (4096x4096), gate and up (28672x4096), down (4096x14336); "
                "each figure is what one more launch adds to a CUDA graph, with weights that come from "
                "memory. W4A16: symmetric groups of 128, fp16. W8A8: the product, and beside it the "
                "rounding of its rows. PyTorch in the same run: linear in fp16 (cuBLAS) and "
                "`torch._weight_int4pack_mm`. Bound: weights at 4.8 TB/s, or products at 989 Tflop/s where "
                "that is longer (data sheet).",
            ),
            "Four layers summed, us:\n",
            *table(
                "batch | W4A16 | goal | bound | cuBLAS fp16 | torch int4 | W8A8 product | its rows | bound of W8A8",
                w4_sums(rows),
            ),
            "\n![Four linear layers by batch](cuda_w4.svg)\n",
            f"{f'The goals are **missed** {missed}; reached' if missed else 'All goals are reached:'} {reached}. "
            "Each layer at batch 1, us:\n",
            *table("layer | W4A16 | bound | share of it | cuBLAS fp16 | torch int4 | W8A8 product", single),
            "\n" + w4_shape(rows),
        ]
    )


def w4_bound_us(batch: int) -> float:
    """The longer of weights and products of the four layers."""
    weights = 6144 * 4096 + 4096 * 4096 + 28672 * 4096 + 4096 * 14336
    return 1e6 * max(weights * W4_BITS / 8 / SHEET_BANDWIDTH, 2 * weights * batch / SHEET_FP16)


def w4_shape(rows: list[Row]) -> str:
    """A launch as a constant and a rate, fitted to the four layers at batch 1."""
    chosen = [r for r in rows if r["batch"] == 1]
    read = np.array([r["bound"] * SHEET_BANDWIDTH / 1e6 for r in chosen])
    slope, start = np.polyfit(read, np.array([r["w4"] for r in chosen]), 1)
    return (
        f"A straight line through the four is {start:.1f} us a launch plus the weights at "
        f"{1e-6 / slope:.1f} TB/s; a plain read reaches 4.4. Starts are {4 * start:.0f} us of the sum.\n"
    )


def decode(result: Result, history: Result) -> str:
    """Section of the decoder."""
    head, *rows = result["rows"]
    lines = [
        "## Decoding with Llama-3-8B's shape\n",
        where(
            result,
            f"Batch 1, {head['prompt']} tokens of context, all layers, random weights, 4-bit layers and an "
            "fp16 head, greedy. A step is one CUDA graph.",
        ),
    ]
    ours = [r for r in rows if "precision" in r]
    shown = [
        f"edgec, {r['precision']} | {r['step_ms']:.3f} | {r['tokens_per_s']:.1f} | "
        f"{r['bound_tokens_per_s']:.0f} | {r['bound_share']:.0%}"
        for r in ours
    ]
    names = {"eager": "transformers, fp16, eager", "compile": "transformers, fp16, torch.compile"}
    shown += [
        f"{names[r['peer']]} | {r['step_ms']:.3f} | {r['tokens_per_s']:.1f} | | " for r in rows if "peer" in r
    ]
    reached = ours[-1]
    lines += [
        *table("what | ms a step | tokens/s | bound, tokens/s | share", shown),
        f"\nGoal: {DECODE_GOAL} tokens/s. "
        f"{'Reached' if reached['tokens_per_s'] >= DECODE_GOAL else '**Missed**'}: "
        f"{reached['tokens_per_s']:.1f}. With the token read by the host after each step "
        f"{reached['tokens_per_s_read']:.1f}; a prefill of 128 tokens takes {reached['prefill_128_ms']:.2f} "
        f"ms. The bound is {reached['bytes_per_token'] / 1e9:.2f} GB of weights and cache at "
        f"{reached['bound_tokens_per_s'] * reached['bytes_per_token'] / 1e12:.2f} TB/s, which a plain read "
        "reached in the same run.\n",
        *profile(history["profile"], reached["step_ms"]),
    ]
    return "\n".join(lines) + "\n"


def profile(given: Result, step_ms: float) -> list[str]:
    """Where a step's time goes."""
    shown = [f"{what} | {count} | {us:.1f} | {us / count:.2f}" for what, count, us in given["rows"]]
    return [
        "Kernels of a step, each repeated alone in the same run, so that weights below the L2's 60 MB come "
        "from it (which product is which follows from the times; only gate and up, and the head, were "
        "named):\n",
        *table("kernel | launches | us | us each", shown),
        f"\nAll {given['launches']} launches so: {given['total_us'] / 1000:.3f} ms; the graph, where every "
        f"weight comes from memory, {step_ms:.3f} ms.",
    ]


def attention(result: Result, history: Result) -> str:
    """Section of attention."""
    shown = []
    for row in result["rows"]:
        peer = row["torch_us"]
        theirs = f"{peer:.2f} | {row['us'] / peer:.2f}" if peer else " | "
        rate = f"{row['bytes'] / row['us'] / 1e6:.2f}" if row["bytes"] else ""
        shown.append(f"{row['shape']} | {row['us']:.2f} | {theirs} | {rate}")
    slower = [r["shape"] for r in result["rows"] if r["torch_us"] and r["us"] > r["torch_us"]]
    return (
        "\n".join(
            [
                "## Attention on CUDA\n",
                where(
                    result,
                    "fp16, us a launch in a graph; PyTorch is `scaled_dot_product_attention` in a graph of "
                    "the same run, on q, k and v that are cut apart already (and, for decoding, without "
                    "rotation and update of the cache). Bound of decoding: the cache at 4.4 TB/s.",
                ),
                *table("shape | edgec, us | PyTorch, us | ratio | TB/s of the cache", shown),
                f"\nSlower than PyTorch's: {', '.join(slower) or 'none'}.",
            ]
        )
        + "\n"
    )


def layers(result: Result, history: Result) -> str:
    """Section of convolutions and linear layers, network by network."""
    from examples.networks import NETWORKS

    shown = []
    for network in dict.fromkeys(r["network"] for r in result["rows"]):
        rows = [r for r in result["rows"] if r["network"] == network]
        ours, theirs, bound = (sum(r["count"] * r[k] for r in rows) for k in ("us", "torch", "bound"))
        worst = max(rows, key=lambda r: r["us"] / r["torch"])
        shown.append(
            f"{NETWORKS[network].title} | {sum(r['count'] for r in rows)} | {ours:.0f} | {theirs:.0f} | "
            f"{bound:.0f} | {worst['layer']}: {worst['us']:.1f} to {worst['torch']:.1f}"
        )
    return (
        "\n".join(
            [
                "## Convolutions and linear layers alone\n",
                where(
                    result,
                    "fp16, batch 1, dense layers of four networks, each repeated in a graph with weights "
                    "from memory; the sum over the network, us. Bound: products at 989 Tflop/s or weights "
                    "at 4.8 TB/s, layer by layer.",
                ),
                *table(
                    "network | layers | edgec | cuDNN, cuBLAS | bound | worst against them, rows x outputs x k, us",
                    shown,
                ),
            ]
        )
        + "\n"
    )


def far(results: dict[str, Result], history: Result) -> str:
    """Section of the kernels that are far from their bound."""
    all_w4 = results["cuda_linears"]["rows"]
    w4 = [r for r in all_w4 if r["batch"] == 1]
    gate_up = next(r for r in all_w4 if r["batch"] == 128 and r["layer"] == "gate_up")
    largest = 2 * 28672 * 4096 * 128 / gate_up["w4"] / 1e6
    prefill = next(r for r in results["cuda_attention"]["rows"] if r["shape"] == "llama prefill 2048")
    tflops = 4 * 2048**2 / 2 * 128 * 32 / prefill["us"] / 1e6
    theirs = tflops * prefill["us"] / prefill["torch_us"]
    cached = next(r for r in results["cuda_attention"]["rows"] if r["shape"] == "llama decode 1024")
    linear, step = sum(r["w4"] for r in w4), results["cuda_decode"]["rows"][1]["step_ms"]
    alone = (32 * (linear + cached["us"]) + HEAD_US) / 1000
    dense = results["cuda_layers"]["rows"]
    share = [r["bound"] / r["us"] for r in dense]
    shown = [f"{what} | {us:.2f} | {rate:,} | {why}" for what, us, rate, why in history["far"]["rows"]]
    return (
        "\n".join(
            [
                "## Which kernels are far from their bound, and why\n",
                f"- **4-bit layers, one row**: {min(r['bound'] / r['w4'] for r in w4):.0%} to "
                f"{max(r['bound'] / r['w4'] for r in w4):.0%} of the data sheet's bandwidth. A launch "
                "starts before it streams: x, the first weights, the join of the warps; the small layers are "
                "over by then. Launches that only copy the weights into shared memory take 25 us for the four. "
                "Deeper rings and prefetches into L2 stand in the way of x; two blocks of one kernel on an SM "
                "leave others without. Four blocks share the channels of the last layer; their warps join what they "
                "have of the same outputs in memory, each without waiting for the rest of its block.",
                f"- **Decoding**: 32 blocks of these layers ({32 * linear / 1000:.2f} ms), attention "
                f"({32 * cached['us'] / 1000:.2f}) and the head ({HEAD_US / 1000:.2f}) make {alone:.2f} ms "
                f"of a step of {step:.2f} ms. What remains is handing over between 165 launches, sampling and norms. "
                "Five launches a block are not joined, and a block of a 4-bit layer leaves no room on its SM for the "
                "next kernel's, attention's neither: with the kernels before, that took half an SM, the layers alone "
                "took 34.5 us and the step 1.51 ms.",
                f"- **4-bit layers, many rows**: {summed(all_w4, 128, 'w4'):.0f} us at batch 128, bound "
                f"{w4_bound_us(128):.0f}; the largest layer does {largest:.0f} Tflop/s of 989 by instructions of warp "
                f"groups, with weights taken apart in registers. {summed(all_w4, 16, 'w4'):.0f} us at batch 16, bound "
                f"{w4_bound_us(16):.0f}: x, 128 KB for each SM, arrives 2.5 us after the wait for the kernel before, "
                "and little of the weights may be asked for earlier, or x waits behind them. Two blocks that share the "
                "channels fetch half of x but exchange sums: slower. At 16 rows the instructions of warp groups, with "
                "weights in registers, take 13 cycles of a scheduler where two of `mma.sync` take 12.",
                f"- **Attention of long sequences**: {tflops:.0f} Tflop/s at 2,048 causal tokens (PyTorch "
                f"{theirs:.0f}, peak 989), by instructions of warp groups; 186 by `mma.sync`. Exponentials and "
                "products take turns on an SM. q in registers, tiles of 160 keys and a softmax beside the "
                "product of its own rows gained nothing. Without the causal rule, 2,048 tokens of 16 heads of "
                "128 channels took 59.3 us, PyTorch 57.6.",
                f"- **Attention of a decode step**: {cached['us']:.1f} us at 1,024 tokens, where reading "
                "the cache takes 1; 2.6 at 128. Launch and wait take 1.1, the new rows 0.4, products 1.1, the join "
                "of warps and blocks 0.8.",
                f"- **Convolutions and linear layers at batch 1**: {min(share):.1%} to {max(share):.0%} of "
                "their bound. A map of 7x7 or 14x14 gives 49 or 196 rows: a launch is its start and a "
                "chain of steps of k. Products of 197 rows are held by how fast an SM takes slices from "
                "the L2 (about 55 bytes a clock).",
                "- **int8 of small networks**: inverted residuals are a launch of 2.5 to 5 us each; its phases "
                "wait for each other (MobileNetV2, 21 launches, each repeated alone: 76 us, bound 3.5).",
                "- **Memory-bound kernels** (`benchmarks/cuda_memory.py`; a plain copy reaches 4,200 GB/s there):\n",
                *table("kernel | us | GB/s | why", shown),
                "\nAt their bound or near it: the fp16 head (4.48 TB/s), sums over rows (104 % of a copy's "
                "rate), large additions (104 %), layer norm, RMS norm and softmax of large inputs (80 %).",
            ]
        )
        + "\n"
    )


def history_log(history: Result) -> str:
    """Section of the versions."""
    lines = [
        "## Versions and what each was worth\n",
        f"One {history['gpu']}, {history['date']}, PyTorch {history['torch']}. Every prediction was written "
        "down before its measurement (`benchmarks/results/cuda_history.toml`; empty where there was none).",
    ]
    for log in history["log"]:
        rows = [
            f"{what} | {version} | {predicted} | {measured}"
            for what, version, predicted, measured in log["rows"]
        ]
        text = " ".join(log["text"].split())
        lines += [
            f"\n### {log['title']}\n",
            f"{text}\n",
            *table("what | version | predicted | measured", rows),
        ]
    return "\n".join(lines) + "\n"
