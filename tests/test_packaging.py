"""The wheel holds every package and every file of the runtime."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
import tomllib
from pathlib import Path

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
