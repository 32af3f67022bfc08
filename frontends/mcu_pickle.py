"""Integer networks in the .pkl format of MCUNet's quantised models: a torch zip of plain dicts and numpy arrays.

    {first_conv, blocks: [{pointwise1, depthwise, pointwise2, residual}], feature_mix, classifier}

A convolution is a dict with kernel_size, stride, groups, in_shape and params {weight int8 OIHW, bias int32, x_scale,
x_zero, y_scale, y_zero, w_scales}; `residual` holds the scales of an addition of the block's input. Integers are kept
as they are. The pickle is read without numpy or torch: its four importable names stand for the records below.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from edgec.build import Builder
from edgec.errors import UserError
from edgec.frontends.archive import is_zip, read_records, without_root
from edgec.ir import Array, DType, Loc, Program, Type, per_channel, per_tensor
from edgec.ops.binary import BinaryAttrs
from edgec.ops.conv2d import Conv2dAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.pool import AdaptiveAvgPool2dAttrs
from edgec.ops.shape import ReshapeAttrs

INT32_MAX: Final = 2**31 - 1
PIXEL_SCALE: Final = 1 / 127.5
_DTYPES: Final = ("int8", "int32", "float32")
_CODES: Final = {"i1": "int8", "i4": "int32", "f4": "float32"}


@dataclass(frozen=True, slots=True)
class Head:
    """The head that replaces the file's int8 classifier: `classes` rows drawn with `seed`. An int8 one has no samples
    to take ranges from: its logits have the scale and zero of the file's classifier, its weights the median scale of
    that one's, in which those that are drawn take about a quarter of the range."""

    classes: int
    seed: int = 0
    precision: Literal["fp32", "int8"] = "fp32"


class _Dtype:
    """numpy.dtype of the pickle: a code and a byte order."""

    def __init__(self, code: str, *flags: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if len(state) < 2 or state[1] not in ("<", "|"):
            raise pickle.UnpicklingError("arrays are little-endian")


class _Ndarray:
    """numpy.ndarray of the pickle: its bytes become an array when its state is set."""

    def __init__(self) -> None:
        self.array: Array | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        name = _CODES.get(dtype.code) if isinstance(dtype, _Dtype) else None
        if name is None or fortran or not isinstance(data, bytes):
            raise pickle.UnpicklingError("arrays are of int8, int32 or float32 in C order")
        self.array = np.frombuffer(data, np.dtype(name).newbyteorder("<")).reshape(shape).astype(name)


def _reconstruct(kind: type, shape: object, code: object) -> _Ndarray:
    if kind is not _Ndarray:
        raise pickle.UnpicklingError("only arrays are rebuilt")
    return _Ndarray()


def _encode(text: str, codec: str) -> bytes:
    if codec != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"bytes are stored in latin1, not {codec!a}")
    return text.encode("latin1")


_NAMES: Final[dict[tuple[str, str], object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Knows the names of `_NAMES` and no others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"imports {module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, pid: object) -> Any:
        raise pickle.UnpicklingError("refers to a record outside of the pickle")


def read_tree(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The dicts of the file, arrays in place. Raises UserError EDGEC-E300, E302, E311, and E313 where the pickle
    is no such tree."""
    where = os.path.basename(os.fspath(path))
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            "EDGEC-E300", f"give the path of a model file that can be read. {where}: {error.strerror}"
        ) from None
    records = read_records(data, where) if is_zip(data) else {}
    found = [content for name, content in records.items() if without_root(name) == "data.pkl"]
    if not found:
        raise _refused(where, "holds no data.pkl")
    try:
        tree = _Unpickler(io.BytesIO(found[0])).load()
    except Exception as error:  # whatever a hostile pickle leads to
        raise _refused(where, str(error) or type(error).__name__) from None
    plain = _plain(tree)
    if not isinstance(plain, dict) or not {"first_conv", "blocks", "classifier"} <= plain.keys():
        raise _refused(where, "has no first_conv, blocks and classifier")
    return plain


def _refused(where: str, why: str) -> UserError:
    return UserError(
        "EDGEC-E313",
        f"give a file of MCUNet's quantised models (a torch zip of dicts and numpy arrays): {where} {why}",
    )


def _plain(item: Any) -> Any:
    if isinstance(item, _Ndarray):
        return item.array
    if isinstance(item, dict):
        return {k: _plain(v) for k, v in item.items()}
    return [_plain(v) for v in item] if isinstance(item, (list, tuple)) else item


def import_mcu_pickle(
    path: str | os.PathLike[str], head: Head | None = None, size: int | None = None
) -> Program:
    """The network as a Program with the graph `infer`: image int8[1,3,S,S] (NCHW to the user) to logits.

    `head` None keeps the int8 classifier; `size` replaces the file's image size. A bias next to the limits of int32 is
    moved in so far that no sum leaves int32.
    """
    tree = read_tree(path)
    try:
        return _Importer(tree, size or int(tree["first_conv"]["in_shape"])).program(head)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = os.path.basename(os.fspath(path))
        raise _refused(where, f"lacks a field of its convolutions or has another shape ({error!r})") from None


class _Importer:
    """Builds the graph; `at` is the current value."""

    def __init__(self, tree: Mapping[str, Any], size: int) -> None:
        if tree.get("feature_mix") is not None:
            raise ValueError("feature_mix")
        self.tree = tree
        self.b = Builder("infer")
        image = Type((1, size, size, 3), DType.I8, per_tensor(PIXEL_SCALE, 0))
        self.at = self.b.input("image", image, axes=(0, 2, 3, 1))

    def program(self, head: Head | None) -> Program:
        self.conv("first_conv", self.tree["first_conv"])
        for index, block in enumerate(self.tree["blocks"]):
            self.block(f"blocks.{index}", block)
        self.classifier(self.tree["classifier"], head)
        self.b.output(self.at, "logits")
        return self.b.program()

    def block(self, layer: str, block: Mapping[str, Any]) -> None:
        if block.get("se") is not None:
            raise ValueError(f"{layer}.se")
        before = self.at
        for name in ("pointwise1", "depthwise", "pointwise2"):
            if block.get(name) is not None:
                self.conv(f"{layer}.{name}", block[name])
        residual = block.get("residual")
        if residual is not None:
            p = residual["params"]
            self.b.loc = Loc(f"{layer}.residual")
            quant = per_tensor(p["y_scale"], p["y_zero"])
            (self.at,) = self.b.node(
                "add", (before, self.at), BinaryAttrs(), name=f"{layer}.residual", quants=(quant,)
            )

    def conv(self, layer: str, conv: Mapping[str, Any]) -> None:
        self.b.loc = Loc(layer)
        kernel, stride, groups = conv["kernel_size"], int(conv["stride"]), int(conv["groups"] or 1)
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        pad = (rows // 2, rows // 2, columns // 2, columns // 2)
        w, b, quant = self.weights(layer, conv["params"], None)
        attrs = Conv2dAttrs((stride, stride), pad, groups=groups)
        (self.at,) = self.b.node("conv2d", (self.at, w, b), attrs, name=layer, quants=(quant,))

    def weights(self, layer: str, p: Mapping[str, Any], rows: int | None) -> tuple[str, str, Any]:
        """(weight OHWI, bias, quantisation of the output); with `rows` the weight is a matrix."""
        x_quant = self.b.types[self.at].quant
        if x_quant is None or x_quant != per_tensor(p["x_scale"], p["x_zero"]):
            raise ValueError(f"{layer}: its input is quantised otherwise than the output before it")
        w = np.ascontiguousarray(np.asarray(p["weight"], np.int8).transpose(0, 2, 3, 1))
        scale = np.asarray(p["w_scales"], np.float32)
        sums = 256 * np.abs(w.astype(np.int64)).reshape(w.shape[0], -1).sum(1)
        room = INT32_MAX - sums
        bias = np.clip(np.asarray(p["bias"], np.int64), -room, room).astype(np.int32)
        data = w.reshape(rows, -1) if rows is not None else w
        names = (
            self.b.constant(data, f"{layer}.w", per_channel(scale, 0)),
            self.b.constant(bias, f"{layer}.b", per_channel(scale * np.float32(p["x_scale"]), 0)),
        )
        return (*names, per_tensor(p["y_scale"], p["y_zero"]))

    def classifier(self, conv: Mapping[str, Any], head: Head | None) -> None:
        self.b.loc = Loc("classifier")
        pooled = self.b.node(
            "adaptive_avg_pool2d",
            (self.at,),
            AdaptiveAvgPool2dAttrs((1, 1), "even"),
            name="pooled",
            quants=(self.b.types[self.at].quant,),
        )[0]
        channels = self.b.types[pooled].dims[3]
        flat = self.b.node(
            "reshape",
            (pooled,),
            ReshapeAttrs((1, channels)),
            name="features",
            quants=(self.b.types[pooled].quant,),
        )[0]
        if head is None:
            self.at = flat
            w, b, quant = self.weights("classifier", conv["params"], int(conv["out_channel"]))
            (self.at,) = self.b.node("linear", (flat, w, b), LinearAttrs(), name="logits", quants=(quant,))
            return
        bound = 1 / np.sqrt(channels)
        rng = np.random.default_rng(head.seed)
        weight = rng.uniform(-bound, bound, (head.classes, channels)).astype(np.float32)
        bias = rng.uniform(-bound, bound, head.classes).astype(np.float32)
        if head.precision == "int8":
            self.at = self.integer_head(flat, weight, bias, conv["params"])
            return
        w, b = self.b.constant(weight, "classifier.w"), self.b.constant(bias, "classifier.b")
        real = self.b.call("dequantize", flat, name="features_real")
        self.at = self.b.call("linear", real, w, b, attrs=LinearAttrs(), name="logits")

    def integer_head(self, x: str, weight: Array, bias: Array, p: Mapping[str, Any]) -> str:
        """A linear layer with these weights, rounded, and the scales of the classifier `p`."""
        scale_x, scale = (
            np.float32(p["x_scale"]),
            np.float32(np.median(np.asarray(p["w_scales"], np.float32))),
        )
        scales = np.full(len(weight), scale, np.float32)
        data = np.clip(np.floor(np.divide(weight, scale) + 0.5), -127, 127).astype(np.int8)
        steps = np.floor(np.divide(bias, scale * scale_x) + 0.5).astype(np.int32)
        w = self.b.constant(data, "classifier.w", per_channel(scales, 0))
        b = self.b.constant(steps, "classifier.b", per_channel(scales * scale_x, 0))
        quant = per_tensor(p["y_scale"], p["y_zero"])
        return self.b.node("linear", (x, w, b), LinearAttrs(), name="logits", quants=(quant,))[0]
