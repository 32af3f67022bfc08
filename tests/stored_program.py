"""A Program as files, and `python stored_program.py FOLDER TARGET OUT`: compiles it with nothing but numpy.

So that a Python without torch can compile what another one imported.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgec import compiler, pipeline
from edgec.backends.kernels_c import KERNELS
from edgec.build import constant
from edgec.ir import Array, Program
from edgec.pipeline import Options
from edgec.targets.load import load_target, target_file
from edgec.text import read_program, show


def store(program: Program, arrays: dict[str, Array], folder: Path) -> None:
    """Write the Program's text, its constants and calibration inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.txt").write_text(show(program), encoding="utf-8")
    np.savez(folder / "constants.npz", **{c.digest: c.data for c in program.constants.values()})  # type: ignore[arg-type]
    np.savez(folder / "calib.npz", **arrays)  # type: ignore[arg-type]


def compile_stored(folder: Path, target: str, out: Path) -> None:
    """Every pass after the import, then the artifact."""
    with np.load(folder / "constants.npz") as data:
        constants = {digest: constant(data[digest]) for digest in data.files}
    with np.load(folder / "calib.npz") as data:
        arrays = dict(data)
    program = read_program((folder / "program.txt").read_text(encoding="utf-8"), constants)
    options, board = Options(), load_target(target)
    trace = pipeline.run(program, pipeline.graph_steps(options, arrays), options, arrays)
    plan = pipeline.lower(trace.program, board, options, KERNELS, "stored")
    done = compiler.Transformed(trace, arrays, False)
    text = target_file(target).read_text(encoding="utf-8")
    compiler.write(compiler.Compiled("stored", board, text, options, "", done, plan), out)


if __name__ == "__main__":
    compile_stored(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
