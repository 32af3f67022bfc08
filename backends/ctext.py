"""C text: identifiers, literals, arrays and comments. Whatever a user named cannot get out of a comment from
here."""

from __future__ import annotations

import math
import re
from typing import Final

import numpy as np

from edgec.ir import Array, DType, Type

C_TYPE: Final[dict[DType, str]] = {
    DType.F64: "double",
    DType.F32: "float",
    DType.F16: "uint16_t",
    DType.BF16: "uint16_t",
    DType.I64: "int64_t",
    DType.I32: "int32_t",
    DType.I16: "int16_t",
    DType.I8: "int8_t",
    DType.U8: "uint8_t",
    DType.B8: "uint8_t",
}
_ARRAY_TYPE: Final[dict[str, str]] = {
    "float64": "double",
    "float32": "float",
    "int64": "int64_t",
    "int32": "int32_t",
    "int16": "int16_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "bool": "uint8_t",
}
LINE: Final = 100


def identifier(text: str) -> str:
    """`text` as a C identifier part: letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "t"


def comment_safe(text: str) -> str:
    """`text` as it may stand in a comment: printable ASCII that can neither end the comment nor make a
    trigraph. Of more than 80 characters the end is shown: a layer's path ends in its own name."""
    safe = re.sub(r"[^A-Za-z0-9_.,:=<>()\[\]+\- ]+", "_", text)
    return safe if len(safe) <= 80 else "..." + safe[-77:]


def wrapped(text: str, indent: str) -> str:
    """A call or declaration on lines of at most 100 columns, broken at its commas."""
    lines, line = [], indent
    for word in re.split(r"(?<=,) ", text):
        if line.strip() and len(line) + len(word) + 1 > LINE:
            lines.append(line)
            line = indent + "    "
        line += word if not line.strip() else f" {word}"
    return "\n".join([*lines, line])


def literal(value: int | float) -> str:
    """A C literal that reads back as exactly this int32 or float32 value."""
    if isinstance(value, int):
        return "(-2147483647 - 1)" if value == -(2**31) else str(value)
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{np.float32(value):.9g}"
    return (text if any(c in text for c in ".en") else text + ".0") + "f"


def array_type(data: Array) -> str:
    """C element type of a packed constant."""
    return _ARRAY_TYPE[data.dtype.name]


def array_body(data: Array) -> str:
    """The elements of `data` in order, wrapped, without braces."""
    flat = data.ravel()
    if data.dtype.kind == "f":
        words = [literal(float(x)) for x in flat]
    elif data.dtype == np.int64:
        words = [f"INT64_C({int(x)})" for x in flat]
    elif data.dtype == np.uint32:
        words = [f"{int(x)}u" for x in flat]
    elif data.dtype == np.int32:
        words = [literal(int(x)) for x in flat]
    else:
        words = np.char.mod("%d", flat.astype(np.int32)).tolist() if flat.size else []
    lines: list[str] = []
    line = "   "
    for word in words:
        if len(line) + len(word) + 2 > LINE:
            lines.append(line)
            line = "   "
        line += f" {word},"
    return "\n".join([*lines, line])


def shape_text(t: Type) -> str:
    """8x8x16 for [1,8,8,16]: a leading batch of 1 is left out."""
    dims = t.dims[1:] if len(t.dims) > 1 and t.dims[0] == 1 else t.dims
    return "x".join(str(d) for d in dims) or "1"
