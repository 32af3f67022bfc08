"""Where the MCUNet model of the tests lies; tests that need it are left out without it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from artifacts import compiled

from benchmarks.schemes import spec_of
from edgec import compiler, pipeline
from edgec.artifact import Artifact
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle
from edgec.ir import Array, Program
from edgec.pipeline import Options

FOLDER = Path(os.environ.get("EDGEC_MODELS", Path(__file__).resolve().parents[2] / "shared" / "models"))
FILE = FOLDER / "mcunet" / "mcunet-5fps.pkl"
RAM = 256 << 10  # of the board, all of it
needed = pytest.mark.skipif(not FILE.exists(), reason=f"needs {FILE} (EDGEC_MODELS)")


def golden_image(size: int = 128) -> Array:
    """The image of the published checksums, int8 NHWC."""
    i = np.arange(3 * size * size)
    values = ((7919 * i + 104729 * (i // 128)) % 255) - 127
    return np.ascontiguousarray(values.astype(np.int8).reshape(1, 3, size, size).transpose(0, 2, 3, 1))


def learning_artifact(scheme: str, folder: Path) -> tuple[Artifact, Program]:
    """MCUNet-5FPS with a head of ten classes that learns in RAM bytes."""
    options = Options(train=replace(spec_of(scheme), ram_bytes=RAM))
    program = import_mcu_pickle(FILE, Head(10, seed=1))
    for step in pipeline.graph_steps(options, {}):
        program = step.run(program) if step.name in ("train", "schedule") else program
    compiler.write(compiled(program, "stm32f746-disco", "mcunet", options), folder)
    return Artifact(folder), program
