"""Train, compile, run: a digits CNN from PyTorch to an emulated Cortex-M4 board, in under two minutes.

    python examples/digits_demo.py --output demo

Exit code 6 where int8 loses more than half a point of accuracy on the 360 held-out digits.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from a checkout as it is

from edgec import cli
from edgec.artifact import Artifact
from edgec.errors import Exit, TargetError
from examples.models import digits_cnn

TARGET = "cortex-m4"
CALIBRATION_IMAGES = 128
MOST_DROP_POINTS = 0.5
WIDTH = 72


def say(text: str = "") -> None:
    print(text, file=sys.stderr, flush=True)


def heading(number: int, text: str) -> None:
    say(f"\n{number}. {text} ".ljust(WIDTH + 1, "-"))


def trained(digits: digits_cnn.Digits) -> digits_cnn.DigitsCnn:
    """The network, with a line every ten epochs."""
    begin = time.perf_counter()

    def progress(epoch: int, loss: float) -> None:
        if epoch % 10 == 0 or epoch == 1:
            say(
                f"epoch {epoch:2} of {digits_cnn.EPOCHS}   loss {loss:.4f}   {time.perf_counter() - begin:4.1f} s"
            )

    return digits_cnn.train(digits, progress=progress)


def export(net: digits_cnn.DigitsCnn, digits: digits_cnn.Digits, folder: Path) -> tuple[Path, Path]:
    """(exported program, calibration file) in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model, calib = folder / "digits.pt2", folder / "calib.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.export uses a class that torch deprecates
        program = torch.export.export(net, (torch.from_numpy(digits.train_x[:1]),))
        torch.export.save(program, model)
    np.savez(calib, x=digits.train_x[:CALIBRATION_IMAGES])
    return model, calib


def edgec(*words: str) -> None:
    """Type an edgec command: print it, run it, end where it fails."""
    say(f"$ edgec {' '.join(words)}")
    code = cli.main(words)
    if code:
        sys.exit(code)


def on_board(artifact: Artifact, images: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], str]:
    """(logits, where they were computed): the emulated board, or this computer where its tools are missing."""
    try:
        return artifact.run({"x": images}, on="qemu")["output"], f"QEMU {artifact.machine()}"
    except TargetError as error:
        if error.exit_code is not Exit.TOOL_MISSING:
            raise
        say(f"\n!!! NOT ON THE BOARD: {error}")
        say("!!! The same kernels run on this computer instead; instructions cannot be counted.\n")
        return artifact.run({"x": images}, on="host")["output"], "this computer"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything it writes")
    folder: Path = parser.parse_args().output
    begin = time.perf_counter()

    heading(1, "Train on scikit-learn's digits")
    digits = digits_cnn.load()
    net = trained(digits)
    model, calib = export(net, digits, folder)
    heading(2, f"Compile for {TARGET}")
    place = folder / "digits"
    edgec("compile", str(model), "--target", TARGET, "--calib", str(calib), "-o", str(place))
    heading(3, f"Run {digits_cnn.HELD_OUT} held-out digits on the board")
    artifact = Artifact(place)
    logits, where = on_board(artifact, digits.held_out_x)
    bench = artifact.bench(on="host" if where == "this computer" else "qemu", runs=1)
    edgec("report", str(place), "--html", str(folder / "report.html"), "--png", str(folder / "memory.png"))

    with torch.no_grad():
        reference = net(torch.from_numpy(digits.held_out_x)).numpy()
    before, after = (digits_cnn.accuracy(y, digits.held_out_y) * 100 for y in (reference, logits))
    heading(4, "Result")
    for name, value in (
        ("float accuracy", f"{before:.2f} %   PyTorch, {digits_cnn.HELD_OUT} held-out digits"),
        ("int8 accuracy", f"{after:.2f} %   {where}, the same digits (drop {before - after:.2f} points)"),
        ("arena", f"{bench['arena_bytes']:,} B of RAM for all activations"),
        ("flash", image(bench)),
        ("instructions", per_inference(bench["instructions"], bench["macs"])),
        ("artifact", f"{place}   C sources, `make` builds them anywhere"),
        ("report", f"{folder / 'report.html'}, {folder / 'memory.png'}"),
    ):
        print(f"{name:<16}{value}")
    say(f"\n{time.perf_counter() - begin:.0f} s in all")
    if before - after > MOST_DROP_POINTS:
        say(f"int8 loses {before - after:.2f} points, more than {MOST_DROP_POINTS}")
        return int(Exit.ACCURACY_GATE)
    return int(Exit.OK)


def image(bench: dict[str, Any]) -> str:
    """The firmware's size as text."""
    weights = f"{bench['constant_bytes']:,} B of weights"
    if bench["instructions"] is None:
        return f"{weights}; code not measured: no firmware built here"
    return f"{bench['flash_bytes']:,} B, {weights} included"


def per_inference(instructions: int | None, macs: int) -> str:
    """The instruction count as text."""
    if instructions is None:
        return "not counted: no emulated board here"
    return f"{instructions:,} an inference ({instructions / macs:.2f} per multiply-accumulate)"


if __name__ == "__main__":
    sys.exit(main())
