"""edgec compiles trained networks for the edge: C for microcontrollers, one set of integers on every target.

artifact = edgec.compile(model, example_inputs, target="cortex-m4", out="digits", calib={"x": images})
outputs = artifact.run({"x": images}, on="qemu")
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any, Literal

# In a checkout frontends/, passes/, ... sit beside edgec/; in a wheel they sit inside it.
_root = _Path(__file__).parent.parent
if (_root / "runtime_c" / "__init__.py").is_file():
    __path__.append(str(_root))

if TYPE_CHECKING:
    from edgec.artifact import Artifact
    from edgec.frontends.decoder_options import DecoderOptions
    from edgec.ir import Array
    from edgec.pipeline import Options
    from edgec.training.options import TrainSpec
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
    precision: Literal["int8", "fp32", "fp16", "bf16", "w8a8", "w4a16"] | None = None,
    calibration: Literal["minmax", "percentile", "entropy", "mse"] = "minmax",
    equalize: bool = False,
    bias_correct: bool = False,
    keep_float: Sequence[str] = (),
    smooth: float | Literal["auto", "off"] | None = None,
    awq: bool | None = None,
    group: Literal[64, 128] = 128,
    symmetric: bool = False,
    quantize_head: bool = False,
    sensitivity: bool = False,
    ram: str | int | None = None,
    flash: str | int | None = None,
    stream: Literal["auto", "off", "all"] = "auto",
    stages: str | os.PathLike[str] | None = None,
    check: bool = False,
    name: str | None = None,
    factory: str | None = None,
    trust: bool = False,
    seed: int = 0,
    context: int | None = None,
    prefill: Sequence[int] | None = None,
    train: str | TrainSpec = "none",
) -> Artifact:
    """Compile `model` for `target` and write the artifact to the folder `out`. Nothing is built yet.

    `model`: an nn.Module (with `example_inputs`), an exported program, or a path as `edgec compile` takes it.
    `calib`: typical inputs by input name in the PyTorch layout, samples along the first axis, or the path of an
    .npz with them; int8 needs it. `precision`: int8 where None, fp16 for a CUDA target. `ram`, `flash`: budgets such
    as "64K". `context`, `prefill`: of a language model, a module or a folder of transformers (docs/language-models.md).
    `train`: what learns on the device, as --train says it or as a training.options.TrainSpec (docs/training.md).
    The others are those of `edgec compile --help`. Raises UserError and TargetError; nothing is written then.
    """
    from edgec import compiler
    from edgec.artifact import Artifact, refuse_unless_free

    refuse_unless_free(_Path(out))
    precision = precision or compiler.default_precision(target)
    options = _options(precision, calibration, equalize, bias_correct, keep_float, ram, flash, stream)
    options = replace(options, stages=None if stages is None else _Path(stages), check=check)
    options = _weight_options(options, smooth, awq, group, symmetric, quantize_head, sensitivity)
    options = replace(options, train=_train_spec(train, seed))
    request = compiler.Request(model, target, options, calib, example_inputs, factory, trust, name, seed)
    request = replace(request, decoder=_decoder(context, prefill))
    compiler.write(compiler.plan(request), _Path(out))
    return Artifact(out)


def _train_spec(train: str | TrainSpec, seed: int) -> TrainSpec:
    from edgec.training.options import TrainSpec, check_spec, parse_mode

    if isinstance(train, str):
        train = TrainSpec(*parse_mode(train), seed=seed)
    return check_spec(train)


def load(folder: str | os.PathLike[str]) -> Artifact:
    """The artifact in `folder`, its files checked against their hashes. Raises UserError."""
    from edgec.artifact import Artifact

    return Artifact(folder)


def check(
    model: Any,
    example_inputs: tuple[Any, ...] | None = None,
    *,
    target: str | Sequence[str] | None = None,
    calib: Mapping[str, Array] | str | os.PathLike[str] | None = "random",
    precision: Literal["int8", "fp32", "fp16", "bf16", "w8a8", "w4a16"] | None = None,
    calibration: Literal["minmax", "percentile", "entropy", "mse"] = "minmax",
    equalize: bool = False,
    bias_correct: bool = False,
    keep_float: Sequence[str] = (),
    smooth: float | Literal["auto", "off"] | None = None,
    awq: bool | None = None,
    group: Literal[64, 128] = 128,
    symmetric: bool = False,
    quantize_head: bool = False,
    ram: str | int | None = None,
    flash: str | int | None = None,
    factory: str | None = None,
    trust: bool = False,
    seed: int = 0,
    context: int | None = None,
    prefill: Sequence[int] | None = None,
) -> tuple[Verdict, ...]:
    """Whether `model` fits `target` (one, several, or with None all), and what would help; see verdict.Verdict.
    Sizes do not depend on the calibration. `precision`: where None, int8 for a microcontroller, fp16 for a GPU."""
    from edgec import compiler, verdict
    from edgec.targets.load import target_names

    names = target_names() if target is None else (target,) if isinstance(target, str) else tuple(target)
    options = _options(precision or "int8", calibration, equalize, bias_correct, keep_float, ram, flash)
    options = _weight_options(options, smooth, awq, group, symmetric, quantize_head)
    request = compiler.Request(model, names[0], options, calib, example_inputs, factory, trust, None, seed)
    request = replace(request, decoder=_decoder(context, prefill))
    return verdict.check(request, names, own_precision=precision is None)


def _decoder(context: int | None, prefill: Sequence[int] | None) -> DecoderOptions:
    from edgec.frontends.decoder_options import CONTEXT, DecoderOptions

    return DecoderOptions(context or CONTEXT, None if prefill is None else tuple(prefill))


def _weight_options(
    options: Options,
    smooth: float | Literal["auto", "off"] | None,
    awq: bool | None,
    group: int,
    symmetric: bool,
    quantize_head: bool,
    sensitivity: bool = False,
) -> Options:
    from edgec.errors import UserError

    if smooth not in (None, "auto", "off") and not (isinstance(smooth, (int, float)) and 0 <= smooth <= 1):
        raise UserError(
            "EDGEC-E203", f"smooth may be auto, off or a number from 0 to 1; {smooth!r} is none of them"
        )
    if group not in (64, 128):
        raise UserError("EDGEC-E203", f"group may be 64 or 128; {group!r} is neither")
    return replace(
        options,
        smooth=smooth,
        awq=awq,
        group=group,
        symmetric=symmetric,
        quantize_head=quantize_head,
        sensitivity=sensitivity,
    )


def _options(
    precision: Literal["int8", "fp32", "fp16", "bf16", "w8a8", "w4a16"],
    calibration: Literal["minmax", "percentile", "entropy", "mse"],
    equalize: bool,
    bias_correct: bool,
    keep_float: Sequence[str],
    ram: str | int | None,
    flash: str | int | None,
    stream: Literal["auto", "off", "all"] = "auto",
) -> Options:
    from edgec.errors import UserError
    from edgec.pipeline import Options
    from edgec.targets.load import parse_size

    methods = ("minmax", "percentile", "entropy", "mse")
    for what, value, allowed in (
        ("precision", precision, ("int8", "fp32", "fp16", "bf16", "w8a8", "w4a16")),
        ("calibration", calibration, methods),
        ("stream", stream, ("auto", "off", "all")),
    ):
        if value not in allowed:  # from Python nothing has checked it yet
            raise UserError("EDGEC-E203", f"{what} may be {', '.join(allowed)}; {value!r} is none of them")
    return Options(
        precision=precision,
        calibration=calibration,
        equalize=equalize,
        bias_correct=bias_correct,
        keep_float=tuple(keep_float),
        ram_bytes=None if ram is None else parse_size(ram),
        flash_bytes=None if flash is None else parse_size(flash),
        stream=stream,
    )
