"""The integer form of every unary pointwise op: a table of 256 int8, one entry for each input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.fixedpoint import dequantize_array, quantize_array
from edgec.ir import Attrs, Type
from edgec.ops.define import OPS, Arrays, OutputQuant, QuantRule, Types


def lookup_table(op: str, attrs: Attrs, in_type: Type, out_type: Type) -> npt.NDArray[np.int8]:
    """int8[256]: entry q + 128 is the output for input q, computed in float64 by the op's float reference.

    Outside the op's domain (square root of a negative number) the entry is the output's zero; infinities
    saturate.
    """
    assert in_type.quant is not None and out_type.quant is not None
    x = dequantize_array(np.arange(-128, 128), in_type.quant)
    with np.errstate(all="ignore"):
        y = np.asarray(OPS[op].ref(attrs, (x,))[0], np.float64)
    return quantize_array(np.where(np.isnan(y), 0.0, y), out_type.quant).astype(np.int8)


def table_rule(op: str, output: OutputQuant = "calibrated") -> QuantRule:
    """QuantRule of the unary op `op`: y = table[q + 128].

    One output step of slack: the float op of the test works in float32, the table in float64.
    """

    def ref(attrs: Any, in_types: Types, inputs: Arrays, out_types: Types) -> Arrays:
        table = lookup_table(op, attrs, in_types[0], out_types[0])
        return (table[inputs[0].astype(np.int64) + 128],)

    return QuantRule(("activation",), output, ref, max_lsb=1.0)
