"""check: does a model fit a target, which layer breaks the budget, by how much, and what would help.

Everything up to memory planning runs as in a compile; no code is generated. Flash is constants plus an estimate of
the code (`CODE_BASE_BYTES` and `CODE_BYTES_PER_KERNEL`, from linked images; tests hold it within 35 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from edgec import compiler, log, pipeline
from edgec.errors import TargetError
from edgec.ir import Program
from edgec.plan import Kernel, Plan, Target

CODE_BASE_BYTES: Final = 2048
CODE_BYTES_PER_KERNEL: Final = 1200
CODE_BYTES_PER_CALL: Final = 140  # params, arguments of the call


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target's answer. `ram_bytes`: arenas, and what the target keeps for stack and data; `reason`: what breaks
    the budget, or the share that is used. `proposals`: changes with the figures predicted for them."""

    target: str
    fits: bool
    ram_bytes: int
    flash_bytes: int
    reason: str
    proposals: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "proposals": list(self.proposals)}


def check(request: compiler.Request, names: Sequence[str]) -> tuple[Verdict, ...]:
    """A Verdict a target, in the order given. The model is imported and quantised once."""
    from edgec.backends.kernels_c import KERNELS
    from edgec.targets.load import load_target

    targets = [load_target(name) for name in names]
    program = compiler.transform(request).program
    name = request.name or compiler.model_name(request.model)
    rows = log.progress(targets, "targets", len(targets))
    return tuple(_verdict(program, target, request.options, KERNELS, name) for target in rows)


def flash_estimate(plan: Plan) -> int:
    """Constants, and code as the linked images of the example networks have it."""
    calls = [call for entry in plan.entries for call in entry.calls]
    kernels = {call.kernel.symbol for call in calls}
    code = CODE_BASE_BYTES + CODE_BYTES_PER_KERNEL * len(kernels) + CODE_BYTES_PER_CALL * len(calls)
    return sum(c.data.nbytes for c in plan.constants) + code


def _verdict(
    program: Program, target: Target, options: pipeline.Options, kernels: Sequence[Kernel], name: str
) -> Verdict:
    from edgec.passes.memory import lay_out

    try:
        unplanned = pipeline.choose(program, target, options, kernels, name)
    except TargetError as error:
        return Verdict(target.name, False, 0, 0, str(error), ())
    plan, _ = lay_out(unplanned, target, options.ram_bytes)
    arenas = sum(a.bytes for a in plan.arenas)
    flash = flash_estimate(plan)
    reasons: list[str] = []
    for step in (
        lambda: pipeline.lower(program, target, options, kernels, name),
        lambda: _flash(target, plan, options),
    ):
        try:
            step()
        except TargetError as error:
            reasons.append(str(error))
    ram = arenas + target.reserve_ram_bytes
    if not reasons:
        have = pipeline.ram_available(target, options)
        return Verdict(
            target.name, True, ram, flash, f"uses {100 * arenas // max(1, have)} % of the arena's room", ()
        )
    return Verdict(
        target.name,
        False,
        ram,
        flash,
        "; ".join(reasons),
        _proposals(program, target, options, kernels, name, arenas),
    )


def _flash(target: Target, plan: Plan, options: pipeline.Options) -> None:
    pipeline.check_flash_of(plan, target, options, flash_estimate(plan))


def _proposals(
    program: Program,
    target: Target,
    options: pipeline.Options,
    kernels: Sequence[Kernel],
    name: str,
    arenas: int,
) -> tuple[str, ...]:
    """What was tried and helps, each with the arena that it gives."""
    from edgec.passes.memory import lay_out

    found = []
    if options.stream != "all":
        streamed, _ = lay_out(
            pipeline.choose(program, target, replace(options, stream="all"), kernels, name), target, None
        )
        size = sum(a.bytes for a in streamed.arenas)
        if size < arenas:
            found.append(f"--stream all: arena {size:,} B instead of {arenas:,} B")
    if options.precision == "fp32":
        found.append(f"--precision int8: arena about {arenas // 4:,} B instead of {arenas:,} B")
    return tuple(found)
