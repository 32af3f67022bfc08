"""check: does a model fit a target, which layer breaks the budget, by how much, and what would help.

Everything up to memory planning runs as in a compile; no code is generated. Flash is constants plus an estimate of
the code (`CODE_BASE_BYTES` and `CODE_BYTES_PER_KERNEL`, from linked images; tests hold it within 35 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edgec import compiler, log, pipeline
from edgec.errors import TargetError
from edgec.ir import Program
from edgec.plan import Gpu, Kernel, Plan, Target

CODE_BASE_BYTES: Final = 4096  # start-up, library, descriptor
CODE_BYTES_PER_KERNEL: Final = 1000
CODE_BYTES_PER_CALL: Final = 120  # params, arguments of the call
CODE_MARGIN: Final = 1.35  # what the estimate may be off by


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target's answer. `ram_bytes`: arenas, and what the target keeps for stack and data, or a GPU's arenas and
    weights; `flash_bytes`: code and weights, of a GPU target the weights alone; `reason`: what breaks
    the budget, or what the RAM is taken by. `proposals`: changes with the figures predicted for them. `code`: of the
    error that a compile would end with, "" where it fits."""

    target: str
    fits: bool
    ram_bytes: int
    flash_bytes: int
    reason: str
    proposals: tuple[str, ...]
    code: str

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "target": self.target,
            "fits": self.fits,
            "ram_bytes": self.ram_bytes,
            "flash_bytes": self.flash_bytes,
            "reason": self.reason,
            "proposals": list(self.proposals),
        }


@dataclass(frozen=True, slots=True)
class _Case:
    """A quantised Program and one target."""

    program: Program
    target: Target
    options: pipeline.Options
    kernels: Sequence[Kernel]
    name: str

    def plan(self, **changes: Any) -> Plan:
        """The Plan with offsets, whether it fits or not."""
        from edgec.passes.memory import lay_out

        options = replace(self.options, **changes)
        unplanned = pipeline.choose(self.program, self.target, options, self.kernels, self.name)
        return lay_out(unplanned, self.target, options.ram_bytes)[0]


def check(
    request: compiler.Request, names: Sequence[str], own_precision: bool = False
) -> tuple[Verdict, ...]:
    """A Verdict a target, in the order given. The model is imported once, and transformed once for all targets that
    share its passes. `own_precision`: each target at its default precision instead of the request's."""
    from edgec.targets.load import load_target

    targets = [(given, load_target(given)) for given in names]
    imported = compiler.load(request)
    name = compiler.chosen_name(request)
    programs: dict[tuple[str, Gpu | bool], Program] = {}
    verdicts = []
    for given, target in log.progress(targets, "targets", len(targets)):
        options = request.options
        if own_precision:
            options = replace(options, precision=compiler.default_precision(given))
        roofline = options.precision in ("w8a8", "w4a16")  # these choose their layers by the GPU's numbers
        key = options.precision, target.gpu if roofline and target.gpu else target.gpu is not None
        if key not in programs:
            own = replace(request, target=given, options=options)
            programs[key] = compiler.transform(own, imported).program
        verdicts.append(_verdict(_Case(programs[key], target, options, compiler.kernels_of(target), name)))
    return tuple(verdicts)


def flash_estimate(plan: Plan) -> int:
    """Constants, and code as the linked images of the example networks have it."""
    return _constants(plan) + _code(plan)


def _constants(plan: Plan) -> int:
    return sum(c.data.nbytes for c in plan.constants)


def _code(plan: Plan) -> int:
    calls = [call for entry in plan.entries for call in entry.calls]
    kernels = {call.kernel.symbol for call in calls}
    return CODE_BASE_BYTES + CODE_BYTES_PER_KERNEL * len(kernels) + CODE_BYTES_PER_CALL * len(calls)


def _arena(plan: Plan) -> int:
    return sum(a.bytes for a in plan.arenas)


def _verdict(case: _Case) -> Verdict:
    target, options = case.target, case.options
    try:
        plan = case.plan()
    except TargetError as error:  # an op without a kernel there
        return Verdict(target.name, False, 0, 0, str(error), (), error.code)
    errors: list[TargetError] = []
    try:
        pipeline.lower(case.program, target, options, case.kernels, case.name)
    except TargetError as error:
        errors.append(error)
    flash = flash_estimate(plan)
    if not any(e.code == "EDGEC-E502" for e in errors):
        try:
            pipeline.check_flash_of(plan, target, options, flash)
        except TargetError as error:
            errors.append(error)
    if target.family == "cuda":  # no flash, and weights are in the same memory
        flash, ram = _constants(plan), _arena(plan) + _constants(plan)
    else:
        ram = _arena(plan) + target.reserve_ram_bytes
    if errors:
        over = {
            "EDGEC-E501": _arena(plan) - pipeline.ram_available(target, options),
            "EDGEC-E502": flash - (options.flash_bytes or target.flash_bytes),
        }
        reason = "; ".join(
            f"{over[e.code]:,} bytes over: {e}" if over.get(e.code, 0) > 0 else str(e) for e in errors
        )
        return Verdict(target.name, False, ram, flash, reason, _proposals(case, plan), errors[0].code)
    room = pipeline.ram_available(target, options)
    reason = f"arena {_arena(plan):,} of {room:,} B, stack and data {target.reserve_ram_bytes:,} B"
    if target.family == "cuda":
        reason = f"arena {_arena(plan):,} B and weights {_constants(plan):,} B of {room:,} B"
    return Verdict(target.name, True, ram, flash, reason, (), "")


def _proposals(case: _Case, plan: Plan) -> tuple[str, ...]:
    """Changes of the options, each tried here, with the figures that it gives."""
    found = []
    have, need = pipeline.ram_available(case.target, case.options), _arena(plan)
    if need > have:
        least = need
        if case.options.stream != "all":
            least = _arena(case.plan(stream="all"))
            if least < need:
                verdict = "fits" if least <= have else "still too much"
                found.append(
                    f"--stream all: arena {least:,} B instead of {need:,} B ({verdict}: {have:,} B exist)"
                )
        room = sum(m.bytes for m in case.target.rams) - case.target.reserve_ram_bytes
        if case.options.ram_bytes is not None and least <= room:
            found.append(f"--ram {least}: {case.target.name} has room for an arena of {room:,} B")
    flash, safe = case.options.flash_bytes, _constants(plan) + round(CODE_MARGIN * _code(plan))
    if flash is not None and flash < flash_estimate(plan) <= safe <= case.target.flash_bytes:
        found.append(f"--flash {safe}: {case.target.name} has {case.target.flash_bytes:,} B")
    if case.options.precision == "fp32":
        weights = _constants(plan)
        found.append(
            f"--precision int8: arena about {need // 4:,} B instead of {need:,} B, "
            f"weights about {weights // 4:,} B instead of {weights:,} B"
        )
    return tuple(found)
