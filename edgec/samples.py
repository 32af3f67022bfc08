"""Arrays at the model's boundary: from the user's names, layout and floats to the device's, and back.

A file holds one array an input, under the input's name, in the PyTorch layout. Its first axis counts samples: it
stands in the place of a batch axis of 1, or before the whole shape, (N, 1, ...).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgec.errors import UserError
from edgec.fixedpoint import dequantize_array, quantize_array
from edgec.ir import Array, DType, Port, Type


def read_npz(path: Path, what: str) -> dict[str, Array]:
    """The arrays of an .npz file. `what` names the file's role in errors. Never unpickles."""
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise UserError(
                "EDGEC-E221",
                f"save with numpy.savez(file, name=array): {what} {path} holds one unnamed array",
            )
        with archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError("EDGEC-E222", f"check the path: {what} {path} does not exist") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(
            "EDGEC-E223", f"save the arrays with numpy.savez: {what} {path} is not a readable .npz ({error})"
        ) from None


def to_device(
    arrays: Mapping[str, Array], ports: Sequence[Port], types: Mapping[str, Type], what: str
) -> list[dict[str, Array]]:
    """One dict a sample: {value name: array in the device's layout and dtype}.

    Floats are quantised where the device takes int8; int8 arrays are taken as the model's own integers.
    Raises UserError for what is no mapping, missing or unknown names, shapes that do not fit, unequal sample
    counts, NaN or infinity.
    """
    if not isinstance(arrays, Mapping):
        named = ", ".join(f"{port.label!r}: ..." for port in ports)
        raise UserError("EDGEC-E235", f"give {{{named}}}: {what} is a {type(arrays).__name__} without names")
    by_port = {port.ref: _samples(arrays, port, types[port.ref], what, ports) for port in ports}
    counts = {len(samples) for samples in by_port.values()}
    if len(counts) > 1:
        listed = ", ".join(f"{port.label}: {len(by_port[port.ref])}" for port in ports)
        raise UserError("EDGEC-E224", f"give every input the same number of samples: {what} has {listed}")
    unknown = sorted(set(arrays) - {port.label for port in ports})
    if unknown:
        known = ", ".join(port.label for port in ports)
        raise UserError(
            "EDGEC-E225",
            f"name the arrays after the model's inputs ({known}): {what} also holds {', '.join(unknown)}",
        )
    count = counts.pop() if counts else 1  # a model without inputs runs once
    if ports and count == 0:
        raise UserError("EDGEC-E232", f"give at least one sample: {what} has none")
    return [{ref: samples[i] for ref, samples in by_port.items()} for i in range(count)]


def _samples(
    arrays: Mapping[str, Array], port: Port, t: Type, what: str, ports: Sequence[Port]
) -> list[Array]:
    if port.label not in arrays:
        names = ", ".join(sorted(arrays)) or "nothing"
        raise UserError("EDGEC-E226", f"add an array named {port.label}: {what} holds {names}")
    array = np.asarray(arrays[port.label])
    expected = user_shape(port, t)
    if array.shape == expected:
        stacked = array[None]
    elif array.shape[1:] == expected:
        stacked = array
    elif expected[:1] == (1,) and array.shape[1:] == expected[1:]:
        stacked = array[:, None]
    else:
        raise UserError(
            "EDGEC-E227",
            f"give {port.label} the shape {list(expected)}, or (N, ...) for N samples: "
            f"{what} has {list(array.shape)}",
        )
    return [user_to_value(sample, port, t, what) for sample in stacked]


def user_shape(port: Port, t: Type) -> tuple[int, ...]:
    """The shape in the user's layout."""
    shape = [0] * len(t.dims)
    for mine, theirs in enumerate(port.axes):
        shape[theirs] = t.dims[mine]
    return tuple(shape)


def user_to_value(sample: Array, port: Port, t: Type, what: str) -> Array:
    """One sample in the device's layout and dtype."""
    if sample.dtype.name == "bfloat16":  # whose kind NumPy does not know
        sample = sample.astype(np.float32)
    if sample.dtype.kind not in "fiub":
        raise UserError("EDGEC-E228", f"give {port.label} as numbers: {what} has dtype {sample.dtype}")
    if sample.dtype.kind == "f" and not np.isfinite(sample).all():
        raise UserError(
            "EDGEC-E229",
            f"remove NaN and infinity from {port.label}: {what} holds {int((~np.isfinite(sample)).sum())}",
        )
    moved = np.array(sample.transpose(port.axes), order="C")  # not ascontiguousarray: it makes scalars 1-D
    if t.quant is not None:
        return moved if moved.dtype == np.int8 else quantize_array(moved, t.quant).astype(np.int8)
    value = moved.astype(t.dtype.numpy)
    if t.dtype is DType.B8:
        return value
    if t.dtype.is_float:
        lost = int((~np.isfinite(value)).sum())
        if lost:
            raise UserError(
                "EDGEC-E229",
                f"scale {port.label} to {t.dtype.numpy.name}: {what} holds {lost} values outside its range",
            )
    elif not np.array_equal(value, moved):
        raise UserError(
            "EDGEC-E233",
            f"give {port.label} as whole numbers that {t.dtype.value} holds: {what} has others, "
            f"from {moved.min()} to {moved.max()}",
        )
    return value


def value_to_user(value: Array, port: Port, t: Type, raw: bool) -> Array:
    """An output in the user's layout: float unless `raw` (the device's own integers) or unquantised."""
    if t.quant is not None and not raw:
        value = dequantize_array(value, t.quant).astype(np.float32)
    inverse = np.argsort(port.axes) if port.axes else ()
    return np.array(np.transpose(value, inverse), order="C")


def stack(samples: Sequence[Array]) -> Array:
    """Samples along a leading batch axis of 1 where there is one, else along a new first axis."""
    if len(samples) == 1:
        return samples[0]
    if samples[0].ndim and samples[0].shape[0] == 1:
        return np.concatenate(samples, axis=0)
    return np.stack(samples)


def random_samples(
    ports: Sequence[Port], types: Mapping[str, Type], count: int, seed: int
) -> dict[str, Array]:
    """Seeded stand-in data in the user's layout: standard normal floats, integers below 2 for index
    inputs."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for port in ports:
        t = types[port.ref]
        shape = (count, *user_shape(port, t))
        if t.dtype.is_float or t.dtype is DType.I8:
            arrays[port.label] = rng.normal(size=shape).astype(np.float32)
        else:
            arrays[port.label] = rng.integers(0, 2, size=shape).astype(t.dtype.numpy)
    return arrays
