"""Importers of elementwise operators: arithmetic, comparisons, activations, selection, casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from edgec.frontends.torch_call import Call, Importer, Ref, Result, Unsupported
from edgec.ir import DType


def binary(op: str) -> Importer:
    """self op other, in PyTorch's result type; `alpha` multiplies other."""

    def importer(c: Call) -> Result:
        dtype = c.out[0].dtype
        other = c["other"]
        alpha = c.get("alpha", 1)
        if alpha != 1:
            scaled = c.operand(other, dtype)
            other = c.emit("mul", scaled, c.full(alpha, (), dtype))
        return _arithmetic(c, op, c["self"], other)

    return importer


def _arithmetic(c: Call, op: str, a: Any, b: Any) -> Result:
    dtype = c.out[0].dtype
    if dtype is DType.B8:
        # PyTorch lets booleans take part: + is or, * is and.
        logical = {
            "add": "logical_or",
            "mul": "logical_and",
            "maximum": "logical_or",
            "minimum": "logical_and",
        }
        if op not in logical:
            raise Unsupported(f"{op} of booleans")
        op = logical[op]
    return c.emit(op, c.operand(a, dtype), c.operand(b, dtype))


def div(c: Call) -> Result:
    if c.get("rounding_mode") is not None:
        raise Unsupported(f"rounding_mode={c['rounding_mode']!r}; plain division is supported")
    return _arithmetic(c, "div", c["self"], c["other"])


def rsub(c: Call) -> Result:
    a = c["self"]
    if c.get("alpha", 1) != 1:
        a = c.emit("mul", c.operand(a, c.out[0].dtype), c.full(c["alpha"], (), c.out[0].dtype))
    return _arithmetic(c, "sub", c["other"], a)


def compare(op: str) -> Importer:
    def importer(c: Call) -> Result:
        dtype = c.common(c["self"], c["other"])
        if dtype is DType.B8:
            dtype = DType.I32
        return c.emit(op, c.operand(c["self"], dtype), c.operand(c["other"], dtype))

    return importer


def _boolean(c: Call, value: Any) -> Ref:
    """A tensor or a number as a boolean: whether it is not zero."""
    if not isinstance(value, Ref):
        return c.full(bool(value), (), DType.B8)
    dtype = c.b.types[value].dtype
    return value if dtype is DType.B8 else c.emit("ne", value, c.full(0, (), dtype))


def logical(op: str) -> Importer:
    def importer(c: Call) -> Result:
        if c.out[0].dtype is not DType.B8:
            raise Unsupported("bits of integers; booleans are supported")
        return c.emit(op, _boolean(c, c["self"]), _boolean(c, c["other"]))

    return importer


def logical_xor(c: Call) -> Result:
    a, b = _boolean(c, c["self"]), _boolean(c, c["other"])
    either = c.emit("logical_or", a, b)
    return c.emit("logical_and", either, c.emit("logical_not", c.emit("logical_and", a, b)))


def logical_not(c: Call) -> Result:
    if c.out[0].dtype is not DType.B8:
        raise Unsupported("bits of integers; booleans are supported")
    return c.emit("logical_not", _boolean(c, c["self"]))


def unary(op: str) -> Importer:
    """op(self), first cast to PyTorch's result type (sqrt of integers is float)."""

    def importer(c: Call) -> Result:
        return c.emit(op, c.cast(c.ref(), c.out[0].dtype))

    return importer


def formula(build: Callable[[Call, Ref], Ref]) -> Importer:
    """An operator that is several nodes of one tensor."""

    def importer(c: Call) -> Result:
        return build(c, c.cast(c.ref(), c.out[0].dtype))

    return importer


def _by(c: Call, op: str, x: Ref, value: float) -> Ref:
    return c.emit(op, x, c.full(value, (), c.b.types[x].dtype))


def _softplus(c: Call, x: Ref) -> Ref:
    """max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    small = c.emit("log", _by(c, "add", c.emit("exp", c.emit("neg", c.emit("abs", x))), 1.0))
    return c.emit("add", c.emit("relu", x), small)


def softplus(c: Call) -> Result:
    x, beta = c.ref(), float(c.get("beta", 1))
    if beta == 1.0:
        return _softplus(c, x)
    return _by(c, "mul", _softplus(c, _by(c, "mul", x, beta)), 1 / beta)


def elu(c: Call) -> Result:
    """scale * elu(x), alpha (exp(input_scale x) - 1) below 0."""
    x, alpha = c.ref(), float(c["alpha"])
    scale, input_scale = float(c.get("scale", 1)), float(c.get("input_scale", 1))
    if input_scale != 1.0:
        raise Unsupported("an input scale; ELU and SELU are supported")
    y = c.emit("elu", x, alpha=alpha)
    return y if scale == 1.0 else _by(c, "mul", y, scale)


def celu(c: Call) -> Result:
    """alpha * elu(x / alpha)."""
    alpha = float(c["alpha"])
    return _by(c, "mul", c.emit("elu", _by(c, "mul", c.ref(), 1 / alpha), alpha=1.0), alpha)


def clamp(c: Call) -> Result:
    low, high = c.get("min", c.get("min_val")), c.get("max", c.get("max_val"))
    x = c.cast(c.ref(), c.out[0].dtype)
    if isinstance(low, Ref) or isinstance(high, Ref):
        if low is not None:
            x = c.emit("maximum", x, c.operand(low, c.out[0].dtype))
        return x if high is None else c.emit("minimum", x, c.operand(high, c.out[0].dtype))
    if (low, high) == (0, 6):
        return c.emit("relu6", x)
    if low == 0 and high in (None, math.inf):
        return c.emit("relu", x)
    return c.emit(
        "clamp",
        x,
        min=-math.inf if low is None else float(low),
        max=math.inf if high is None else float(high),
    )


def power(c: Call) -> Result:
    base, exponent, dtype = c["self"], c["exponent"], c.out[0].dtype
    if isinstance(exponent, Ref):
        return c.emit("pow", c.operand(base, dtype), c.operand(exponent, dtype))
    x = c.cast(base, dtype)
    if exponent == 2:
        return c.emit("mul", x, x)
    if exponent == 1:
        return x
    if exponent == 0.5:
        return c.emit("sqrt", x)
    if exponent == -0.5:
        return c.emit("rsqrt", x)
    return c.emit("pow_scalar", x, exponent=float(exponent))


def cast(c: Call) -> Result:
    """Casts, and all that leaves the values as they are."""
    return c.cast(_boolean(c, c.ref()) if c.out[0].dtype is DType.B8 else c.ref(), c.out[0].dtype)


def same(c: Call) -> Result:
    return c.ref("input" if "input" in c.args and "self" not in c.args else "self")


def dropout(c: Call) -> Result:
    if c.get("train"):
        raise Unsupported("dropout at run time; call model.eval()")
    x = same(c)
    return x if len(c.out) == 1 else (str(x), None)


def where(c: Call) -> Result:
    dtype = c.out[0].dtype
    condition, a, b = c.ref("condition"), c["self"], c["other"]
    return c.expand(
        c.emit("where", _boolean(c, condition), c.operand(a, dtype), c.operand(b, dtype)), c.out[0].dims
    )


def masked_fill(c: Call) -> Result:
    x, mask, value = c.ref(), _boolean(c, c.ref("mask")), c["value"]
    if isinstance(value, Ref):
        held = c.data(value)
        if held is None or held.size != 1:
            return c.emit("where", mask, c.operand(value, c.b.types[x].dtype), c.expand(x, c.out[0].dims))
        value = held.item()
    if c.b.types[x].dtype is DType.B8:
        fill = c.full(bool(value), (), DType.B8)
        return c.emit("where", mask, fill, c.expand(x, c.out[0].dims))
    return c.emit("masked_fill", c.expand(x, c.out[0].dims), mask, value=float(value))


def filled(value: float | None) -> Importer:
    """zeros_like and its kin: a constant of the output's shape; None takes the operator's own value."""

    def importer(c: Call) -> Result:
        content = c.get("fill_value", c.get("value")) if value is None else value
        if isinstance(content, Ref):
            return c.expand(c.cast(content, c.out[0].dtype), c.out[0].dims)
        return c.full(content, c.out[0].dims, c.out[0].dtype)

    return importer


def gelu(c: Call) -> Result:
    return c.emit("gelu", c.ref(), approximate=c.get("approximate", "none"))


def threshold(c: Call) -> Result:
    x, dtype = c.ref(), c.out[0].dtype
    above = c.emit("gt", x, c.full(c["threshold"], (), dtype))
    return c.emit("where", above, x, c.full(c["value"], (), dtype))


def addcmul(c: Call) -> Result:
    return _added_product(c, "mul")


def addcdiv(c: Call) -> Result:
    return _added_product(c, "div")


def _added_product(c: Call, op: str) -> Ref:
    product = c.emit(op, c.ref("tensor1"), c.ref("tensor2"))
    if c.get("value", 1) != 1:
        product = _by(c, "mul", product, c["value"])
    return c.emit("add", c.ref(), product)


def lerp(c: Call) -> Result:
    x, end = c.ref(), c.ref("end")
    step = c.emit("mul", c.emit("sub", end, x), c.operand(c["weight"], c.out[0].dtype))
    return c.emit("add", x, step)


def glu(c: Call) -> Result:
    x = c.ref()
    axis = c.axis(c["dim"], len(c.dims(x)))
    half = c.dims(x)[axis] // 2
    a = c.emit("slice", x, axis=axis, start=0, stop=half)
    b = c.emit("slice", x, axis=axis, start=half, stop=2 * half)
    return c.emit("mul", a, c.emit("sigmoid", b))


def _one_over(c: Call, x: Ref) -> Ref:
    return c.emit("div", c.full(1.0, (), c.b.types[x].dtype), x)


_UNARY = (
    *("neg", "abs", "sqrt", "rsqrt", "exp", "log", "sin", "cos", "erf"),
    *("relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh", "silu"),
)
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_SAME = (
    *("contiguous", "clone", "alias", "alias_copy", "detach", "detach_copy", "lift_fresh", "lift_fresh_copy"),
    *("positive", "resolve_conj", "resolve_neg"),
)

TABLE: dict[str, Importer] = {
    **{name: unary(name) for name in _UNARY},
    **{name: compare(name) for name in _COMPARE},
    **dict.fromkeys(_SAME, same),
    "add": binary("add"),
    "sub": binary("sub"),
    "subtract": binary("sub"),
    "mul": binary("mul"),
    "multiply": binary("mul"),
    "div": div,
    "divide": div,
    "true_divide": div,
    "rsub": rsub,
    "maximum": binary("maximum"),
    "minimum": binary("minimum"),
    "pow": power,
    "square": formula(lambda c, x: c.emit("mul", x, x)),
    "reciprocal": formula(_one_over),
    "expm1": formula(lambda c, x: _by(c, "sub", c.emit("exp", x), 1.0)),
    "log1p": formula(lambda c, x: c.emit("log", _by(c, "add", x, 1.0))),
    "log2": formula(lambda c, x: _by(c, "mul", c.emit("log", x), 1 / math.log(2))),
    "log10": formula(lambda c, x: _by(c, "mul", c.emit("log", x), 1 / math.log(10))),
    "exp2": formula(lambda c, x: c.emit("exp", _by(c, "mul", x, math.log(2)))),
    "tan": formula(lambda c, x: c.emit("div", c.emit("sin", x), c.emit("cos", x))),
    "mish": formula(lambda c, x: c.emit("mul", x, c.emit("tanh", _softplus(c, x)))),
    "log_sigmoid": formula(lambda c, x: c.emit("neg", _softplus(c, c.emit("neg", x)))),
    "softplus": softplus,
    "logical_and": logical("logical_and"),
    "logical_or": logical("logical_or"),
    "bitwise_and": logical("logical_and"),
    "bitwise_or": logical("logical_or"),
    "__and__": logical("logical_and"),
    "__or__": logical("logical_or"),
    "logical_xor": logical_xor,
    "logical_not": logical_not,
    "bitwise_not": logical_not,
    "elu": elu,
    "selu": lambda c: _by(c, "mul", c.emit("elu", c.ref(), alpha=1.6732632423543772), 1.0507009873554805),
    "celu": celu,
    "leaky_relu": lambda c: c.emit("leaky_relu", c.ref(), slope=float(c["negative_slope"])),
    "gelu": gelu,
    "glu": glu,
    "hardtanh": clamp,
    "clamp": clamp,
    "clip": clamp,
    "clamp_min": clamp,
    "clamp_max": clamp,
    "threshold": threshold,
    "where": where,
    "masked_fill": masked_fill,
    "addcmul": addcmul,
    "addcdiv": addcdiv,
    "lerp": lerp,
    "_to_copy": cast,
    "to": cast,
    "type_as": cast,
    "float": cast,
    "dropout": dropout,
    "native_dropout": dropout,
    "feature_dropout": dropout,
    "alpha_dropout": dropout,
    "zeros_like": filled(0.0),
    "ones_like": filled(1.0),
    "empty_like": filled(0.0),
    "full_like": filled(None),
    "new_zeros": filled(0.0),
    "new_ones": filled(1.0),
    "new_empty": filled(0.0),
    "new_full": filled(None),
    "empty": filled(0.0),
    "empty_permuted": filled(0.0),
    "fill": filled(None),
}
