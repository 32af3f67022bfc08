"""Predicts what each network takes on the Jetson targets, by the roofline of its launches: nothing here is measured.

    python benchmarks/orin_prediction.py        writes the table of docs/orin.md

A launch takes the longest of: its least bytes at SHARE of the data sheet's bandwidth, its operations at SHARE of the
data sheet's tensor rate, and LAUNCH_US. The network takes the sum: kernels of a graph run one after the other.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent))

import tqdm
from environment import write

from edgec import compiler, pipeline
from edgec.backends import cuda
from edgec.ir import Program
from edgec.pipeline import Options
from edgec.plan import Target
from edgec.targets.load import load_target
from examples.networks import CNNS, NETWORKS

PAGE: Final = Path(__file__).parent.parent / "docs" / "orin.md"
MARKS: Final = ("<!-- predicted -->\n", "<!-- end of predicted -->")
TARGETS: Final = ("orin", "orin-nx", "orin-nano")
SHARE: Final = 0.6  # of peak rates (an assumption: see docs/orin.md)
LAUNCH_US: Final = 4.0  # between kernels of a graph without overlap, sm_87 (an assumption)


def predicted_ms(name: str, precision: str) -> dict[str, float]:
    """The roofline's sum by target; the network is imported and quantised once."""
    module, inputs = NETWORKS[name].make()
    options = Options(precision=precision)  # type: ignore[arg-type]
    calib = "random" if precision == "int8" else None
    done = compiler.transform(compiler.Request(module, TARGETS[0], options, calib, inputs, name=name))
    return {t: round(_sum_ms(done.program, load_target(t), options, name), 3) for t in TARGETS}


def _sum_ms(program: Program, target: Target, options: Options, name: str) -> float:
    assert target.gpu is not None
    plan = pipeline.lower(program, target, options, compiler.kernels_of(target), name)
    rate = target.gpu.int8_ops if options.precision == "int8" else target.gpu.fp16_flops
    seconds = 0.0
    for launch in cuda.emit(plan, target, "").launches["infer"]:
        moving = float(launch["bytes"]) / (SHARE * target.gpu.bandwidth)
        computing = 2.0 * float(launch["macs"]) / (SHARE * rate)
        seconds += max(moving, computing, 1e-6 * LAUNCH_US)
    return 1e3 * seconds


def main() -> int:
    rows: list[dict[str, Any]] = []
    for name in tqdm.tqdm(NETWORKS):
        for precision in ("fp16", "int8") if name in CNNS else ("fp16",):
            found = predicted_ms(name, precision)
            rows.append({"network": name, "precision": precision, "predicted_ms": found})
    write("orin_prediction", rows, share=SHARE, launch_us=LAUNCH_US)
    lines = ["| network | precision | " + " | ".join(f"{t}, predicted ms" for t in TARGETS) + " |"]
    lines.append("|---|---|" + "---|" * len(TARGETS))
    for row in rows:
        figures = " | ".join(f"{row['predicted_ms'][t]:.2f}" for t in TARGETS)
        lines.append(f"| {NETWORKS[row['network']].title} | {row['precision']} | {figures} |")
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    PAGE.write_text(before + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
