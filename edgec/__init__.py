"""edgec compiles trained networks for the edge: C for microcontrollers, one set of integers on every target.

artifact = edgec.compile(model, example_inputs, target="cortex-m4", out="digits", calib={"x": images})
outputs = artifact.run({"x": images}, on="qemu")
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

# In a checkout frontends/, passes/, ... sit beside edgec/; in a wheel they sit inside it.
_root = _Path(__file__).parent.parent
if (_root / "runtime_c" / "__init__.py").is_file():
    __path__.append(str(_root))

if TYPE_CHECKING:
    from edgec.artifact import Artifact
    from edgec.ir import Array
    from edgec.verdict import Verdict

__version__ = "0.1.0"
__all__ = ["__version__", "check", "compile", "load"]


def compile(
    model: Any,
    example_inputs: tuple[Any, ...] | None = None,
    *,
    target: str,
    out: str | os.PathLike[str],
    calib: Mapping[str, Array] | str | os.PathLike[str] | None = None,
    precision: str = "int8",
    ram: str | int | None = None,
    flash: str | int | None = None,
    name: str | None = None,
    trust: bool = False,
    factory: str | None = None,
    seed: int = 0,
    **options: Any,
) -> Artifact:
    """Compile `model` for `target` and write the artifact to the folder `out`.

    `model`: an nn.Module (with `example_inputs`), an exported program, or a path as `edgec compile` takes it.
    `calib`: typical inputs by input name in the PyTorch layout, samples along the first axis, or the path of an
    .npz with them; int8 needs it. `ram`, `flash`: budgets such as "64K". `options`: the other fields of
    pipeline.Options. Raises UserError and TargetError; nothing is written then.
    """
    from edgec import compiler
    from edgec.artifact import Artifact

    request = _request(
        model, target, example_inputs, calib, precision, ram, flash, name, trust, factory, seed, options
    )
    compiler.write(compiler.plan(request), _Path(out))
    return Artifact(out)


def load(folder: str | os.PathLike[str]) -> Artifact:
    """The artifact in `folder`, its files checked against their hashes. Raises UserError."""
    from edgec.artifact import Artifact

    return Artifact(folder)


def check(
    model: Any,
    example_inputs: tuple[Any, ...] | None = None,
    *,
    targets: Sequence[str] | None = None,
    precision: str = "int8",
    ram: str | int | None = None,
    flash: str | int | None = None,
    trust: bool = False,
    factory: str | None = None,
) -> tuple[Verdict, ...]:
    """Whether `model` fits each of `targets` (default: all), and what would help; see verdict.Verdict."""
    from edgec import verdict
    from edgec.targets.load import target_names

    names = tuple(targets) if targets is not None else target_names()
    request = _request(
        model, names[0], example_inputs, "random", precision, ram, flash, None, trust, factory, 0, {}
    )
    return verdict.check(request, names)


def _request(
    model: Any,
    target: str,
    example_inputs: tuple[Any, ...] | None,
    calib: Any,
    precision: str,
    ram: str | int | None,
    flash: str | int | None,
    name: str | None,
    trust: bool,
    factory: str | None,
    seed: int,
    options: dict[str, Any],
) -> Any:
    from edgec.compiler import Request
    from edgec.pipeline import Options
    from edgec.targets.load import parse_size

    made = Options(
        precision=precision,  # type: ignore[arg-type]
        ram_bytes=None if ram is None else parse_size(ram),
        flash_bytes=None if flash is None else parse_size(flash),
        **options,
    )
    return Request(model, target, made, calib, example_inputs, factory, trust, name, seed)
