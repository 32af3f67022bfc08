"""Constants that are made when they are read, arrays that live in files, and programs merged by name."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edgec.build import Builder, constant
from edgec.errors import InternalError, UserError
from edgec.frontends.merge import merge
from edgec.ir import Array, DType, Persistence, Program, Type
from edgec.lazy import described, joined, zeros
from edgec.ops.binary import BinaryAttrs
from edgec.spill import LARGE_BYTES, Contents, spilled


def test_a_joined_constant_reads_its_parts_when_it_is_read() -> None:
    read: list[int] = []

    def part(i: int) -> Array:
        read.append(i)
        return np.full((i, 2), i, np.float32)

    parts = [described(Type((i, 2), DType.F32), lambda i=i: part(i), i) for i in (1, 3)]
    whole = joined(parts)
    assert (whole.type.dims, read) == ((4, 2), [])
    np.testing.assert_array_equal(whole.data[:, 0], [1, 3, 3, 3])
    assert read == [1, 3]
    assert joined(parts) == whole
    assert joined(parts[::-1]) != whole


def test_zeros_of_one_type_are_one_constant() -> None:
    t = Type((2, 3), DType.F16)
    assert zeros(t) == zeros(t)
    assert zeros(t) != zeros(Type((3, 2), DType.F16))
    assert zeros(t).data.dtype == np.float16
    assert not zeros(t).data.any()


def test_a_large_array_is_kept_in_a_file() -> None:
    array = np.arange(LARGE_BYTES // 4, dtype=np.float32).reshape(-1, 64)
    held = spilled(array)
    assert isinstance(held, np.memmap)
    np.testing.assert_array_equal(held, array)
    assert spilled(held) is held
    small = array[:4]
    assert spilled(small) is small


def test_contents_read_a_large_constant_once() -> None:
    read: list[int] = []

    def load() -> Array:
        read.append(1)
        return np.zeros(LARGE_BYTES, np.int8)

    contents = Contents({"w": described(Type((LARGE_BYTES,), DType.I8), load)})
    assert contents["w"] is contents["w"]
    assert read == [1]


def test_a_full_disk_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(prefix: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(UserError) as error:
        spilled(np.zeros(LARGE_BYTES, np.int8))
    assert str(error.value) == (
        f"EDGEC-EB08: free space or choose another place: {tmp_path} (TMPDIR): No space left on device"
    )


def entry(name: str, weight: float, size: int = 2) -> Program:
    """x + @w into the state s."""
    b = Builder(name)
    x = b.input("x", Type((size,), DType.F32))
    b.add_state("s", constant(np.zeros(size, np.float32)), Persistence.KEPT)
    y = b.call("add", x, b.constant(np.full(size, weight, np.float32), "w"), attrs=BinaryAttrs())
    b.updates.append(("s", y))
    b.output(y, "y")
    return b.program()


def test_equal_constants_and_states_of_a_name_are_shared() -> None:
    whole = merge([entry("one", 1.0), entry("two", 1.0)])
    assert [g.name for g in whole.graphs] == ["one", "two"]
    assert (list(whole.constants), list(whole.state)) == (["w"], ["s"])


def test_another_constant_of_the_name_gets_a_number() -> None:
    whole = merge([entry("one", 1.0), entry("two", 2.0)])
    assert list(whole.constants) == ["w", "w_1"]
    assert [n.inputs[1] for g in whole.graphs for n in g.nodes] == ["@w", "@w_1"]


def test_states_of_one_name_have_one_type() -> None:
    with pytest.raises(InternalError, match=r"the state s is .* in one entry"):
        merge([entry("one", 1.0), entry("two", 1.0, size=3)])
