"""Links the folders of the checkout into build/typing/edgec, so that mypy sees them as one package."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("frontends", "passes", "backends", "targets", "runtime_c")


def make() -> Path:
    """(Re)make the tree and return it."""
    tree = ROOT / "build" / "typing" / "edgec"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for entry in (ROOT / "edgec").iterdir():
        (tree / entry.name).symlink_to(entry)
    for folder in FOLDERS:
        (tree / folder).symlink_to(ROOT / folder)
    return tree


if __name__ == "__main__":
    make()
