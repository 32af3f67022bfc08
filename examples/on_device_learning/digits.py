"""A board that knows 0 to 7 learns 8 and 9: training steps in int8, on an emulated Cortex-M7 with 256 KB of RAM.

    python examples/on_device_learning/digits.py --output learning

PyTorch trains a small CNN with ten outputs on the digits 0 to 7 alone. `edgec compile --train last:2` makes firmware
of it in which the last convolution and the head learn, and `edgec finetune` sends it the 8s and 9s, one at a time. So
that it does not forget, the firmware keeps some of the old digits in RAM and repeats a few of them after each new one.

Exit code 6 where fewer than 95 % of held-out 8s and 9s are learnt, or more than 2 points of 0 to 7 are lost.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it runs from a checkout as it is

from edgec import cli
from edgec.artifact import Artifact
from edgec.errors import Exit, TargetError
from edgec.report_html import new_figure
from examples.models import digits_cnn

TARGET = "stm32f746-disco"
RAM = "256K"
KNOWN = 8  # digits below it are known, those from it on are new
PRETRAIN_EPOCHS, BATCH = 20, 64
EPOCHS, RATE = 4, 0.01
KEPT, REPEATED = 128, 4
CALIBRATION_IMAGES = 128
LEAST_NEW, MOST_LOST = 95.0, 2.0  # percent, points
WIDTH = 72


class LearningCnn(nn.Module):
    """x[N,1,8,8] with pixels in 0..1 -> logits[N,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(1, 16)
        self.wide = _conv(16, 24)
        self.pool = nn.MaxPool2d(2)
        self.deep = _conv(24, 24)
        self.head = nn.Linear(24 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.wide(self.stem(x)))
        return self.head(self.deep(x).flatten(1))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


@dataclass(frozen=True, slots=True)
class Task:
    """What to do: epochs in PyTorch, epochs on the device, and how many of the new digits it sees (None: all)."""

    pretrain_epochs: int = PRETRAIN_EPOCHS
    epochs: int = EPOCHS
    new_samples: int | None = None


def say(text: str = "") -> None:
    print(text, file=sys.stderr, flush=True)


def heading(number: int, text: str) -> None:
    say(f"\n{number}. {text} ".ljust(WIDTH + 1, "-"))


def pretrained(digits: digits_cnn.Digits, epochs: int) -> LearningCnn:
    """A network that has seen the digits below KNOWN, shifted by a pixel and with noise."""
    known = digits.train_y < KNOWN
    x, y = torch.from_numpy(digits.train_x[known]), torch.from_numpy(digits.train_y[known])
    begin = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = LearningCnn()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
        steps = epochs * -(-len(y) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
        for epoch in range(1, epochs + 1):
            for rows in torch.randperm(len(y)).split(BATCH):
                loss = nn.functional.cross_entropy(net(_varied(x[rows])), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            if epoch % 5 == 0:
                say(
                    f"epoch {epoch:2} of {epochs}   loss {loss.item():.4f}   {time.perf_counter() - begin:4.1f} s"
                )
    return net.eval()


def _varied(images: Tensor) -> Tensor:
    """Images [N,1,8,8] moved by up to a pixel, with noise."""
    row, column = (int(v) for v in torch.randint(0, 3, (2,)))
    moved = nn.functional.pad(images, (1, 1, 1, 1))[:, :, row : row + 8, column : column + 8]
    return (moved + 0.08 * torch.randn_like(moved)).clamp(0, 1)


def write_data(net: LearningCnn, digits: digits_cnn.Digits, folder: Path, new_samples: int | None) -> None:
    """The exported network and its calibration; new, old and held-out digits with labels."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.export uses a class that torch deprecates
        program = torch.export.export(net, (torch.from_numpy(digits.train_x[:1]),))
        torch.export.save(program, folder / "digits.pt2")
    np.savez(folder / "calib.npz", x=digits.train_x[:CALIBRATION_IMAGES])
    new = np.flatnonzero(digits.train_y >= KNOWN)[:new_samples]
    old = np.flatnonzero(digits.train_y < KNOWN)
    for name, rows in (("new", new), ("old", old)):
        np.savez(folder / f"{name}.npz", x=digits.train_x[rows], label=digits.train_y[rows, None])
    np.savez(folder / "test.npz", x=digits.held_out_x, label=digits.held_out_y[:, None])


def edgec(*words: str) -> None:
    """Type an edgec command: print it, run it, end where it fails."""
    say(f"$ edgec {' '.join(words)}")
    code = cli.main(words)
    if code:
        sys.exit(code)


def place_of(artifact: Artifact) -> str:
    """qemu, or host where the tools of the emulated board are missing."""
    try:
        artifact.built("qemu")
        artifact.check("qemu")
    except TargetError as error:
        if error.exit_code is not Exit.TOOL_MISSING:
            raise
        say(f"\n!!! NOT ON THE BOARD: {error}")
        say("!!! The same kernels learn on this computer instead; instructions cannot be counted.\n")
        return "host"
    return "qemu"


def shares(score: dict[str, Any], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Percent of held-out digits that are right: (known ones, new ones)."""
    right = {int(k): float(v) * int((labels == int(k)).sum()) for k, v in score["by_class"].items()}
    known = int((labels < KNOWN).sum())
    return (
        100 * sum(v for k, v in right.items() if k < KNOWN) / known,
        100 * sum(v for k, v in right.items() if k >= KNOWN) / (len(labels) - known),
    )


def write_plot(folder: Path, curve: dict[str, Any], scores: list[tuple[float, float]]) -> None:
    """learning.png and .svg: accuracy on known and new digits after each epoch, and the loss of each step."""
    figure = new_figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    epochs = range(len(scores))
    left.plot(epochs, [s[0] for s in scores], marker="o", label="0 to 7, known")
    left.plot(epochs, [s[1] for s in scores], marker="o", label="8 and 9, new")
    left.axhline(LEAST_NEW, color="#bab0ac", linewidth=0.8)
    left.set(xlabel="epochs on the device", ylabel="held-out digits right, %", xticks=list(epochs))
    left.legend(frameon=False, loc="lower right")
    losses = np.asarray(curve["losses"], np.float64)
    window = max(1, len(losses) // 40)
    right.plot(losses, color="#bab0ac", linewidth=0.5)
    if len(losses):
        right.plot(np.arange(window - 1, len(losses)), np.convolve(losses, np.ones(window) / window, "valid"))
    right.set(xlabel="new digits seen", ylabel="loss of an 8 or 9", title=curve["device"])
    for kind in ("png", "svg"):
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, dpi=110, metadata={} if kind == "png" else {"Date": None})
        (folder / f"learning.{kind}").write_bytes(stream.getvalue())


def learnt(folder: Path, task: Task) -> tuple[dict[str, Any], str]:
    """(the curve of fine-tuning, where it ran)."""
    place = folder / "digits"
    where = place_of(Artifact(place))
    begin = time.perf_counter()
    edgec(
        "finetune", str(place), "--on", where, "--data", str(folder / "new.npz"), "--test", str(folder / "test.npz"),
        "--replay", str(folder / "old.npz"), "--replay-samples", str(KEPT), "--replay-steps", str(REPEATED),
        "--epochs", str(task.epochs), "--lr", str(RATE), "--factory", "--curve", str(folder / "curve.json"),
    )  # fmt: skip
    say(f"{time.perf_counter() - begin:.0f} s for {task.epochs} epochs")
    curve: dict[str, Any] = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
    return curve, where


def run(folder: Path, task: Task) -> int:
    """All of it, in `folder`. Returns the exit code."""
    heading(1, f"Train on the digits 0 to {KNOWN - 1}")
    digits = digits_cnn.load()
    write_data(pretrained(digits, task.pretrain_epochs), digits, folder, task.new_samples)
    heading(2, f"Compile for {TARGET}: the last convolution and the head learn in {RAM} of RAM")
    edgec(
        "compile", str(folder / "digits.pt2"), "--target", TARGET, "--calib", str(folder / "calib.npz"),
        "--train", "last:2", "--train-ram", RAM, "--no-build", "-o", str(folder / "digits"),
    )  # fmt: skip
    heading(3, "Learn 8 and 9 on the device")
    curve, where = learnt(folder, task)
    scores = [shares(s, digits.held_out_y) for s in (curve["before"], *curve["epochs"])]
    write_plot(folder, curve, scores)
    bench = Artifact(folder / "digits").bench(on="qemu" if where == "qemu" else "host", runs=1)["training"]
    heading(4, "Result")
    for name, value in rows(folder, curve, scores, bench):
        print(f"{name:<15} {value}")
    (known, _), (known_after, new_after) = scores[0], scores[-1]
    if new_after >= LEAST_NEW and known - known_after <= MOST_LOST:
        return 0
    say(f"fewer than {LEAST_NEW:g} % of 8 and 9 learnt, or more than {MOST_LOST:g} points of 0 to 7 lost")
    return 6


def rows(
    folder: Path, curve: dict[str, Any], scores: list[tuple[float, float]], bench: dict[str, Any]
) -> list[tuple[str, str]]:
    """Names and values of the result."""
    (known, new), (known_after, new_after) = scores[0], scores[-1]
    made = [
        ("8 and 9", f"{new:.2f} % -> {new_after:.2f} %   held-out digits, on {curve['device']}"),
        ("0 to 7", f"{known:.2f} % -> {known_after:.2f} %   (loses {known - known_after:.2f} points)"),
        (
            "replay",
            f"{curve['replay_bytes']:,} B: {curve['replay_kept']} old digits in the firmware's RAM, batches of "
            f"{1 + curve['replay_steps']}: a new digit and {curve['replay_steps']} old ones",
        ),
        ("steps", f"{curve['steps']:,} training steps, one update each, rate {curve['rate']:g}"),
    ]
    if bench["sram_bytes"] is not None:
        total = bench["sram_bytes"] + bench["link_bytes"] + curve["replay_bytes"]
        learning = f"{bench['trainable_bytes']:,} of them are weights that learn"
        made.append(
            (
                "RAM",
                f"{total:,} B with stack, link and replay, of {bench['ram_limit_bytes']:,}; {learning}",
            )
        )
        step, forward = bench["instructions_train_step"], bench["instructions_evaluate"]
        made.append(("instructions", f"{step:,} a training step, {forward:,} forward alone"))
    return [*made, ("plot", f"{folder / 'learning.png'}, {folder / 'learning.svg'}")]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("learning"), help="folder for everything it writes"
    )
    parser.add_argument("--pretrain-epochs", type=int, default=PRETRAIN_EPOCHS, help="in PyTorch")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="on the device")
    parser.add_argument("--new-samples", type=int, help="how many 8s and 9s it sees (default: all)")
    words = parser.parse_args()
    return run(words.output, Task(words.pretrain_epochs, words.epochs, words.new_samples))


if __name__ == "__main__":
    sys.exit(main())
