"""The command line in a folder of its own that holds links to files made once a session."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.cli import main

pytest.register_assert_rewrite("tests.cli_command")

from tests import cli_models  # noqa: E402
from tests.cli_command import Command  # noqa: E402


def _export(path: Path, factory: Callable[[], tuple[torch.nn.Module, tuple[torch.Tensor, ...]]]) -> None:
    module, inputs = factory()
    torch.export.save(torch.export.export(module.eval(), inputs), path)


def _npz(folder: Path) -> None:
    image = np.random.default_rng(0).normal(size=(8, 1, 8, 8)).astype(np.float32)
    nan, infinite = image.copy(), image.copy()
    nan[3, 0, 1, 1] = np.nan
    infinite[0, 0, :2, 0] = np.inf
    files = {
        "calib": {"image": image},
        "samples_first": {"image": image[:, None]},
        "integers": {"image": np.clip(image * 20, -128, 127).astype(np.int8)},
        "one": {"image": image[:1]},
        "nan": {"image": nan},
        "infinite": {"image": infinite},
        "narrow": {"image": image[..., :7]},
        "misnamed": {"picture": image},
        "extra": {"image": image, "label": image},
        "none": {"image": image[:0]},
        "words": {"image": np.full((8, 1, 8, 8), "a")},
        "complex": {"image": image.astype(np.complex64)},
        "beyond_float32": {"image": image.astype(np.float64) * 1e300},
        "unequal": {"left": np.ones((4, 4), np.float32), "right": np.ones((3, 4), np.float32)},
        "equal": {"left": np.ones((3, 4), np.float32), "right": np.ones((3, 4), np.float32)},
        "fractions": {"input": np.full((2, 3), 1.5)},
        "wholes": {"input": np.full((2, 3), 1.0)},
        "past_int32": {"input": np.full((2, 3), 1 << 40)},
    }
    for name, arrays in files.items():
        np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    np.savez(folder / "objects.npz", image=np.array([{}], dtype=object))
    np.save(folder / "unnamed.npy", image)
    whole = (folder / "calib.npz").read_bytes()
    (folder / "short.npz").write_bytes(whole[:200])
    (folder / "flipped.npz").write_bytes(whole[:300] + bytes([whole[300] ^ 255]) + whole[301:])


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model files and arrays, good and bad."""
    folder = tmp_path_factory.mktemp("files")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _export(folder / "net.pt2", cli_models.net)
        module, inputs = cli_models.small()
        torch.jit.save(torch.jit.trace(module, inputs), folder / "script.pt")
    torch.save(module, folder / "whole.pt")
    torch.save(module.state_dict(), folder / "weights.pt")
    program = (folder / "net.pt2").read_bytes()
    (folder / "truncated.pt2").write_bytes(program[: len(program) // 2])
    middle = program.index(b"PK\x03\x04", len(program) // 2) - 40
    (folder / "flipped.pt2").write_bytes(
        program[:middle] + bytes([program[middle] ^ 255]) + program[middle + 1 :]
    )
    (folder / "empty.pt2").write_bytes(b"")
    (folder / "text.pt2").write_text("this is no model\n")
    (folder / "model.onnx").write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(40))
    (folder / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(40))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("a.txt", "x")
    (folder / "archive.pt2").write_bytes(archive.getvalue())
    (folder / "folder.pt2").mkdir()
    _npz(folder)
    return folder


@pytest.fixture(scope="session")
def made(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with artifacts of net.pt2: `m0` (built for host and QEMU by the tests that run it) and `host`."""
    folder = tmp_path_factory.mktemp("made")
    for target, name in (("cortex-m0", "m0"), ("host", "host")):
        words = ["compile", "-q", "--no-build", files / "net.pt2", "--calib", files / "calib.npz"]
        assert main([str(w) for w in (*words, "--target", target, "-o", folder / name)]) == 0
    return folder


@pytest.fixture
def edgec(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line in an empty folder with links to `files`."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, capsys)
