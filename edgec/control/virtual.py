"""Many loops of the same settings in virtual time: periods pass as fast as they are computed, latencies are given."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.control.core import COUNTS, CTick, aligned_bytes, c_config, check, library, pointer
from edgec.control.settings import Settings

if TYPE_CHECKING:
    from edgec.control.settings import Floats

TICK = np.dtype(
    {
        "names": [name for name, _ in CTick._fields_],
        "formats": [np.int32, np.uint64, np.uint32, np.uint32, np.uint32, np.int32],
        "offsets": [getattr(CTick, name).offset for name, _ in CTick._fields_],
        "itemsize": ctypes.sizeof(CTick),
    }
)


@dataclass(frozen=True, slots=True)
class Questions:
    """Who asks its policy in this period: `who` i64[M], the `state` f32[M,S] that it is told, the committed actions
    `prefix` f32[M,H,A], of which the first `delay` i64[M] count."""

    who: Floats
    state: Floats
    prefix: Floats
    delay: Floats


class VirtualLoops:
    """`count` loops. Raises UserError EDGEC-E281 where the settings cannot be."""

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings, self.count = settings, count
        self._c = library()
        self._config = c_config(settings)
        check(self._c.ec_control_check(self._config), settings)
        self._memory = aligned_bytes(self._c.ec_virtual_bytes(self._config, count))
        self._loops = ctypes.c_void_p()
        size = len(self._memory)
        status = self._c.ec_virtual_init(self._config, count, pointer(self._memory), size, self._loops)
        check(status, settings)
        axes, horizon = len(settings.axes), settings.horizon
        self._who, self._delay = np.zeros(count, np.uint32), np.zeros(count, np.uint32)
        self._told = np.zeros((count, settings.states), np.float32)
        self._prefix = np.zeros((count, horizon, axes), np.float32)
        self._actions = np.zeros((count, axes), np.float32)
        self._ticks = np.zeros(count, TICK)

    def begin(self, states: Floats) -> Questions:
        """A period begins with these states f32[count,S]."""
        given = np.ascontiguousarray(states, np.float32)
        assert given.shape == self._told.shape, given.shape
        outputs = (self._who, self._told, self._prefix, self._delay)
        asked = self._c.ec_virtual_begin(self._loops, pointer(given), *map(pointer, outputs))
        who, told, prefix, delay = (a[:asked].copy() for a in outputs)
        return Questions(who.astype(np.int64), told, prefix, delay.astype(np.int64))

    def answer(self, who: Floats, chunks: Floats, latency_s: Floats) -> None:
        """Chunks f32[M,H,A] for these loops, so many seconds [M] after the period began."""
        given = np.ascontiguousarray(chunks, np.float32)
        assert given.shape == (len(who), *self._prefix.shape[1:]), given.shape
        nanoseconds = np.ascontiguousarray(np.rint(np.asarray(latency_s) * 1e9), np.int64)
        numbers = np.ascontiguousarray(who, np.uint32)
        self._c.ec_virtual_answer(
            self._loops, len(who), pointer(numbers), pointer(given), pointer(nanoseconds)
        )

    def end(self) -> tuple[Floats, Floats]:
        """(actions f32[count,A], what C says of each as records of ec_tick_result) of the period."""
        self._c.ec_virtual_end(self._loops, pointer(self._actions), pointer(self._ticks))
        return self._actions.copy(), self._ticks.copy()

    def counts(self, which: int) -> dict[str, int]:
        """What one loop has counted."""
        found = self._c.ec_loop_counts(self._c.ec_virtual_loop(self._loops, which)).contents
        return {name: getattr(found, name) for name in COUNTS}
