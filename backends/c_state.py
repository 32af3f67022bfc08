"""How generated C gives a state its initial content."""

from __future__ import annotations

from edgec.backends.c_names import Names
from edgec.backends.ctext import wrapped
from edgec.plan import PlanState


def is_blank(state: PlanState) -> bool:
    """Whether a state's initial content is zeros, which need no array in flash."""
    return state.data.nbytes > 0 and not state.data.tobytes().strip(b"\0")


def initial(names: Names, state: PlanState) -> str:
    """The statement that sets a state to its initial content."""
    buffer = names.buffers[state.buffer]
    if is_blank(state):
        return wrapped(f"memset({buffer}, 0, {state.data.nbytes});", "    ")
    return wrapped(f"memcpy({buffer}, {names.initial[state.buffer]}, {state.data.nbytes});", "    ")
