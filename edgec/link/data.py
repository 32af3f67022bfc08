"""Samples to train on: from an .npz or a folder to the bytes that the device takes.

An .npz holds one array an input under the input's name, in the PyTorch layout, and `label`, all with samples along the
first axis. A folder holds train.npz, and test.npz if it likes; or, for a network of one input, one folder a class with
one .npy a sample: classes count from 0 in the order of the folders' names, or are those names where all are numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edgec import samples
from edgec.artifact import pack
from edgec.errors import UserError
from edgec.ir import Array, Port, Type

LABEL: Final = "label"
Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Ports:
    """What a training step takes: the network's inputs, and the label."""

    inputs: tuple[tuple[Port, Type], ...]
    label: tuple[Port, Type]
    classes: int  # labels are 0 to classes - 1; 0: they are other values

    @property
    def names(self) -> str:
        """The inputs' names, for errors."""
        return ", ".join(port.label for port, _ in self.inputs)


@dataclass(frozen=True, slots=True)
class Samples:
    """Raw samples with their raw labels, in the device's layout. `classes`: each label's, -1 where it is not one class;
    `rows`: classes that a label names, 0 where it names none. For errors, `what`: where they come from, `numbers`:
    their places in it."""

    what: str
    inputs: tuple[bytes, ...]
    labels: tuple[bytes, ...]
    classes: tuple[int, ...]
    rows: int
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.inputs)

    def pick(self, chosen: Sequence[int]) -> Samples:
        """Those of these numbers, in this order."""
        return Samples(
            self.what,
            tuple(self.inputs[i] for i in chosen),
            tuple(self.labels[i] for i in chosen),
            tuple(self.classes[i] for i in chosen),
            self.rows,
            tuple(self.numbers[i] for i in chosen),
        )


def read(path: Path, ports: Ports) -> tuple[Arrays, Arrays | None]:
    """(training arrays, test arrays or None) of a file or folder. Raises UserError E222, E223, E260, E261."""
    if not path.is_dir():
        return samples.read_npz(path, "data"), None
    if (path / "train.npz").is_file():
        test = path / "test.npz"
        return samples.read_npz(path / "train.npz", "data"), (
            samples.read_npz(test, "data") if test.is_file() else None
        )
    return _class_folders(path, ports), None


def _class_folders(path: Path, ports: Ports) -> Arrays:
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [(f, sorted(f.glob("*.npy"))) for f in folders]
    files = [(f, found) for f, found in files if found]
    if not files:
        raise UserError(
            "EDGEC-E260",
            f"put train.npz into it, or one folder a class with one .npy a sample: {path} has neither",
        )
    if len(ports.inputs) != 1:
        raise UserError(
            "EDGEC-E260",
            f"give an .npz with {ports.names} and {LABEL}: folders of classes hold one input, the network has "
            f"{len(ports.inputs)}",
        )
    numbers = all(f.name.isdecimal() and f.name.isascii() for f, _ in files)
    arrays, labels = [], []
    for index, (folder, found) in enumerate(files):
        for file in found:
            arrays.append(_npy(file))
            labels.append(int(folder.name) if numbers else index)
            if arrays[-1].shape != arrays[0].shape:
                raise UserError(
                    "EDGEC-E261",
                    f"give all samples one shape: {file} has {list(arrays[-1].shape)}, {files[0][1][0]} has "
                    f"{list(arrays[0].shape)}",
                )
    return {ports.inputs[0][0].label: np.stack(arrays), LABEL: np.array(labels)}


def _npy(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            "EDGEC-E261", f"save the sample with numpy.save: {path} is not a readable .npy ({error})"
        ) from None


def to_device(arrays: Arrays, ports: Ports, what: str) -> Samples:
    """The samples as the device takes them. Raises UserError E262 without labels, E265 for labels that are no class,
    and what samples.to_device raises."""
    if LABEL not in arrays:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise UserError("EDGEC-E262", f"add an array named {LABEL}, one entry a sample: {what} holds {held}")
    all_ports = (*ports.inputs, ports.label)
    if ports.classes:
        _check_classes(np.asarray(arrays[LABEL]), ports, what)
    types = {port.ref: t for port, t in all_ports}
    sets = samples.to_device(arrays, [port for port, _ in all_ports], types, what)
    labels = [s[ports.label[0].ref] for s in sets]
    rows = ports.label[1].size if ports.classes else 0
    return Samples(
        what,
        tuple(pack([s[port.ref] for port, _ in ports.inputs]) for s in sets),
        tuple(pack([label]) for label in labels),
        tuple(int(label.reshape(-1)[0]) if rows == 1 else -1 for label in labels),
        rows,
        tuple(range(len(sets))),
    )


def _check_classes(labels: Array, ports: Ports, what: str) -> None:
    if labels.dtype.kind not in "fiub":
        return  # samples.to_device says it
    flat = labels.reshape(-1).astype(np.float64)
    rows = max(1, len(flat) // max(1, len(labels))) if labels.ndim > 1 else 1
    wrong = np.flatnonzero(~((flat >= 0) & (flat < ports.classes) & (flat % 1 == 0)))
    if len(wrong):
        raise UserError(
            "EDGEC-E265",
            f"give whole numbers from 0 to {ports.classes - 1} as {LABEL}, the network has {ports.classes} classes: "
            f"{what} has {len(wrong)} others, the first is {flat[wrong[0]]:g} at sample {wrong[0] // rows}",
        )


def split(whole: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
    """(training, test) samples: `share` of them, at least one, drawn by `seed` for the test. Raises UserError E266."""
    if len(whole) < 2:
        raise UserError(
            "EDGEC-E266",
            f"give at least two samples, or --test FILE.npz: {whole.what} has {len(whole)} to train and test on",
        )
    order = np.random.default_rng(seed).permutation(len(whole))
    count = min(len(whole) - 1, max(1, round(share * len(whole))))
    return whole.pick(sorted(order[count:].tolist())), whole.pick(sorted(order[:count].tolist()))


def spread(whole: Samples, count: int, seed: int) -> Samples:
    """At most `count` of the samples, from all classes alike, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    by_class: dict[int, list[int]] = {}
    for i in rng.permutation(len(whole)).tolist():
        by_class.setdefault(whole.classes[i], []).append(i)
    chosen: list[int] = []
    while len(chosen) < min(count, len(whole)):
        for key in sorted(by_class):
            if by_class[key] and len(chosen) < count:
                chosen.append(by_class[key].pop())
    return whole.pick(chosen)


def ports_of(step: Mapping[str, object], classes: int) -> Ports:
    """The ports of the entry `train_step` of an artifact's manifest."""
    from edgec.artifact import port_from_json

    rows = step["inputs"]
    assert isinstance(rows, list)
    found = [port_from_json(row) for row in rows]
    (label,) = [(p, t) for p, t in found if p.label == LABEL]
    return Ports(tuple((p, t) for p, t in found if p.label != LABEL), label, classes)
