"""The wheel holds every package and every file of the runtime."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_listed_packages_are_the_folders_with_an_init() -> None:
    folders = {"edgec": ROOT / "edgec"} | {
        f"edgec.{name}": ROOT / name for name in ("frontends", "passes", "backends", "targets", "runtime_c")
    }
    found = {"edgec"}
    for package, folder in folders.items():
        inits = [p for p in folder.rglob("__init__.py") if "__pycache__" not in p.parts]
        found |= {".".join([package, *p.parent.relative_to(folder).parts]) for p in inits}
    assert set(CONFIG["packages"]) == found


def test_every_runtime_file_is_packaged() -> None:
    patterns = CONFIG["package-data"]["edgec.runtime_c"]
    root = ROOT / "runtime_c"
    files = [p.relative_to(root) for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    missed = [
        str(f)
        for f in files
        if f.suffix not in (".py", ".pyc")
        and not any(fnmatch.fnmatch(f.name, p.split("/")[-1]) for p in patterns)
    ]
    assert missed == []


def test_importing_edgec_needs_numpy_alone() -> None:
    code = (
        "import sys, edgec, edgec.interp, edgec.compiler\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'matplotlib', 'sklearn', 'tqdm', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_nothing_imports_the_checkout_by_its_folder_names() -> None:
    for folder in ("edgec", "frontends", "passes", "backends", "targets"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for name in (
                "edgec.edgec",
                "edgec.tests",
                "import passes",
                "from passes",
                "from backends",
                "from frontends",
            ):
                assert name not in text, (path, name)


def run(*words: object, cwd: Path) -> str:
    """stdout of a command away from the checkout: nothing of it is on the path."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "EDGEC_"))}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with a wheel that was built from the sdist. numpy is this one's."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    code = f"import setuptools.build_meta as b; b.build_sdist({str(folder)!r})"
    copied = [p for p in run("git", "ls-files", "-z", cwd=ROOT).split("\0") if p]
    for path in copied:  # building beside the sources would leave files there
        if (ROOT / path).is_file():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes((ROOT / path).read_bytes())
    run(sys.executable, "-c", code, cwd=source)
    (sdist,) = folder.glob("edgec-*.tar.gz")
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, sdist, cwd=folder)
    (wheel,) = folder.glob("edgec-*.whl")
    venv.create(folder / "venv", with_pip=False)
    bin_folder = folder / "venv" / "bin"
    run(*pip, "--python", bin_folder / "python", "install", "-q", "--no-deps", wheel, cwd=folder)
    import numpy

    (site,) = folder.glob("venv/lib/python3*/site-packages")
    (site / "numpy.pth").write_text(str(Path(numpy.__file__).parents[1]) + "\n")
    return bin_folder


@pytest.mark.slow
@pytest.mark.parametrize("words", [("targets",), ("ops", "--target", "cortex-m4")])
def test_a_wheel_from_the_sdist_answers_as_the_checkout_does(
    installed: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    here = subprocess.run([sys.executable, "-m", "edgec", *words], cwd=ROOT, capture_output=True, text=True)
    assert run(installed / "edgec", *words, cwd=tmp_path) == here.stdout


@pytest.mark.slow
def test_a_wheel_from_the_sdist_holds_every_source_file_of_the_runtime(
    installed: Path, tmp_path: Path
) -> None:
    code = "import edgec.runtime_c as r; print(r.ROOT)"
    root = Path(run(installed / "python", "-c", code, cwd=tmp_path).strip())
    assert installed.parent in root.parents
    kept = (".c", ".h", ".S", ".ld", ".mk", ".cmake")
    there, here = (
        {str(p.relative_to(r)) for p in r.rglob("*") if p.suffix in kept} for r in (root, ROOT / "runtime_c")
    )
    tracked = set(run("git", "ls-files", "runtime_c", cwd=ROOT).splitlines())
    assert {p for p in here if f"runtime_c/{p}" in tracked} <= there
