"""Section of docs/performance.md on training: MCUNet on a board, its kernels, memory, sparse beside full training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Result = dict[str, Any]
Row = dict[str, Any]
# What an update of a layer takes, by the beginning of its kernels' names.
_PARTS: Final = {
    "bias": ("ec_train_conv2d_bias",),
    "dX": ("ec_gradient_sum", "input_grad"),
    "dW": ("train_weight",),
}
MEMORY: Final = (
    ("edgec, scheme 99: all SRAM of the board", "own"),
    ("edgec, full update: planned bytes", "own_full"),
    ("conventional full update: arithmetic", "conventional"),
    ("PyTorch, scheme 99: live tensors", "torch_live"),
    ("PyTorch, scheme 99: its process", "torch_process"),
)


def memory_bytes(result: Result) -> dict[str, int]:
    """The figures of MEMORY."""
    found = result["rows"]
    return {
        "own": found["int8"]["sram_bytes"],
        "own_full": found["int8"]["full_bytes"],
        "conventional": found["conventional"],
        "torch_live": found["torch"]["live_bytes"],
        "torch_process": found["torch"]["process_bytes"],
    }


def training(results: Mapping[str, Result]) -> str:
    """The whole section, of those results that there are."""
    parts = [
        "## Training on the device\n",
        "[What a training step is](training.md); what it learns is measured there, too.\n",
    ]
    if "training" in results:
        parts.append(_board(results["training"]))
    if "train_kernels" in results and "train_kernels_fp32" in results:
        parts.append(_kernels(results["train_kernels"], results["train_kernels_fp32"]))
    if "training_memory" in results:
        parts.append(_memory(results["training_memory"]))
    if "sparse_training" in results:
        parts.append(_sparse(results["sparse_training"]))
    return "\n".join(parts)


def _board(result: Result) -> str:
    lines = [
        "### MCUNet-5FPS on an emulated STM32F746\n",
        f"Measured {result['date']}: {result['arm_gcc']}; {result['qemu']}; edgec {result['edgec']}. One step, "
        "128², batch 1, int8 network with a float head of 10 classes; instructions, not cycles. SRAM is all of it: "
        "arena with trained parameters and scratch, other variables, painted stack.\n",
        "| scheme | gradients | SRAM B | arena B | trained B | stack B | flash B | forward | backward |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        figures = " | ".join(
            f"{row[k]:,}"
            for k in ("sram_bytes", "arena_bytes", "trainable_bytes", "stack_bytes", "flash_bytes")
        )
        steps = " | ".join(f"{row[f'instructions_{k}'] / 1e6:.1f} M" for k in ("forward", "backward"))
        lines.append(f"| {row['scheme']} | {row['gradients']} | {figures} | {steps} |")
    return "\n".join(lines) + "\n"


def _part(kernel: str) -> str:
    """Which column a backward kernel belongs to."""
    return next(part for part, names in _PARTS.items() if any(name in kernel for name in names))


def layers(rows: list[Row]) -> dict[str, dict[str, int]]:
    """Instructions and MACs by layer; an addition belongs to the convolution before it."""
    found: dict[str, dict[str, int]] = {}
    titles: dict[str, str] = {}
    for row in rows:
        number, _, rest = row["layer"].partition(" ")
        if rest != "add":
            titles[number] = row["layer"]
        layer = found.setdefault(titles[number], dict.fromkeys(("macs", "forward", "backward", *_PARTS), 0))
        layer[row["phase"]] += row["instructions"]
        if row["phase"] == "backward":
            layer[_part(row["kernel"])] += row["instructions"]
        else:
            layer["macs"] += row["macs"]
    return found


def _kernels(int8: Result, fp32: Result) -> str:
    own, floats = layers(int8["rows"]), layers(fp32["rows"])
    front = [layer for layer in own.values() if layer["backward"] == 0]
    lines = [
        "### Kernels of that step, layer by layer\n",
        f"Measured {int8['date']}, scheme {int8['scheme']}, each kernel alone on whole maps of random values, emulated "
        "Cortex-M7, thousands of instructions; every output was compared with what its op says. dX: gradient of the "
        "input, sums of branches included; dW and bias: gradient and update in one.\n",
        "| layer | MACs | forward | dX | dW | bias | backward, int8 gradients | backward, fp32 gradients |",
        "|---|---|---|---|---|---|---|---|",
        f"| the {len(front)} frozen ones in front | {sum(x['macs'] for x in front):,} | "
        f"{sum(x['forward'] for x in front) / 1000:,.0f} |  |  |  |  |  |",
    ]
    for name, layer in own.items():
        if layer["backward"]:
            columns = (
                *(layer[k] for k in ("forward", "dX", "dW", "bias", "backward")),
                floats[name]["backward"],
            )
            shown = " | ".join(f"{n / 1000:,.0f}" if n else "" for n in columns)
            lines.append(f"| {name} | {layer['macs']:,} | {shown} |")
    sums = [sum(x[k] for x in own.values()) for k in ("macs", "forward", "dX", "dW", "bias", "backward")]
    sums.append(sum(x["backward"] for x in floats.values()))
    lines.append(f"| **all** | {sums[0]:,} | {' | '.join(f'{n / 1000:,.0f}' for n in sums[1:])} |")
    return "\n".join(lines) + "\n"


def _memory(result: Result) -> str:
    bytes_, limits = memory_bytes(result), result["limits"]
    lines = [
        "### Memory beside others\n",
        f"Measured {result['date']} with PyTorch {result['torch_version']}: one step of MCUNet-5FPS, batch 1. Ours "
        "with int8 gradients; PyTorch holds the same integers in float32, trains the same slices and has the same "
        "gradients (`tests/test_torch_mcunet.py`). Live tensors: parameters, inputs, the peak of PyTorch's allocator "
        "during a step. Conventional: weights, activations, gradients and masks of a byte kept to the end.\n",
        "| what | bytes | times ours | at least |",
        "|---|---|---|---|",
    ]
    for title, key in MEMORY:
        ratio = f"{bytes_[key] / bytes_['own']:,.1f} | {limits[key]}" if key in limits else "1 | "
        lines.append(f"| {title} | {bytes_[key]:,} | {ratio} |")
    lines.append("\n![Bytes of a training step](training_memory.svg)")
    return "\n".join(lines) + "\n"


def _sparse(result: Result) -> str:
    task, gains, limits = result["task"], result["gains"], result["limits"]
    lines = [
        "### Sparse beside full training of a BERT-like encoder, fp32 on this computer\n",
        f"Measured {result['date']} on one thread of {result['processor']}, a shared machine, PyTorch "
        f"{result['torch_version']}: CPU time, steps of both trainings in turns. 6 layers of 192 channels, "
        f"{result['parameters']:,} parameters, {task['batch']} passages of {task['tokens']} tokens a step, plain SGD. "
        "Sparse: biases of the last 3 blocks; attention and first linear layer of the MLP in the last 2; the head.\n",
        "| training | ms a step | PyTorch, ms | arena B | of it trained B | frozen weights B | process B | PyTorch, "
        "live tensors B | PyTorch, process B |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        theirs = row["torch"]
        sizes = (row[f"{k}_bytes"] for k in ("arena", "trained", "frozen", "process"))
        shown = " | ".join(f"{n:,}" for n in (*sizes, theirs["live_bytes"], theirs["process_bytes"]))
        lines.append(
            f"| {row['training']} | {1000 * row['cpu_s']:.0f} | {1000 * theirs['cpu_s']:.0f} | {shown} |"
        )
    lines += [
        "\n| sparse against | gain | at least |",
        "|---|---|---|",
        f"| our full update, time | {gains['time']:.2f}× | {limits['time']:g}× |",
        f"| our full update, arena | {gains['memory']:.2f}× | {limits['memory']:g}× |",
        f"| our full update, arena and frozen weights | {gains['memory_with_frozen']:.2f}× |  |",
        f"| our full update, process | {gains['process_of_full']:.2f}× |  |",
        f"| PyTorch's process | {gains['process']:.1f}× | {limits['process']:g}× |",
        f"| PyTorch's live tensors, frozen weights on both sides | {gains['live']:.2f}× |  |",
        "",
        f"Task: in which of {len(task['packages'])} languages ({', '.join(task['packages'])}) is a passage written? "
        "Files of this machine, those of the test apart; the body has filled in masked words of the training files for "
        f"{task['reading']:,} batches. {task['steps']:,} steps, each training at its own rate:\n",
        "| training | rate | right before | right after |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['training']} | {row['rate']:g} | {row['accuracy_before']:.1f} % | {row['accuracy']:.1f} % |"
        for row in result["rows"]
    ]
    lost = gains["points"]
    verdict = "within" if lost <= limits["points"] else "**missed**: goal within"
    lines.append(f"\nSparse loses {lost:.1f} points, {verdict} {limits['points']:g}.")
    return "\n".join(lines) + "\n"
