"""Importers of matrix products, attention, reductions, softmax and the norms over trailing axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgec.frontends.torch_call import Call, Importer, Ref, Result, Unsupported
from edgec.ir import DType


def linear(c: Call) -> Result:
    x, w = c.ref("input"), c.ref("weight")
    bias = (c.ref("bias"),) if c.get("bias") is not None else ()
    if len(c.dims(w)) != 2:
        raise Unsupported("a weight that is no matrix")
    if len(c.dims(x)) == 1:
        y = c.emit("linear", c.reshape(x, (1, *c.dims(x))), w, *bias)
        return c.reshape(y, c.out[0].dims)
    return c.emit("linear", x, w, *bias)


def product(c: Call, a: Ref, b: Ref, bias: Ref | None = None) -> Ref:
    """a[...,M,K] b[...,K,N] (+ bias[N]); a constant matrix b becomes the weight [N,K] of a linear op."""
    if len(c.dims(b)) == 2 and b[0] == "@" and len(c.dims(a)) >= 2:
        return c.emit("linear", a, c.transpose(b, (1, 0)), *(() if bias is None else (bias,)))
    y = c.emit("matmul", a, b)
    return y if bias is None else c.emit("add", y, bias)


def matmul(c: Call) -> Result:
    a, b = c.ref(), c.ref("other" if "other" in c.args else "mat2")
    # A vector takes part as a row on the left, as a column on the right.
    if len(c.dims(a)) == 1:
        a = c.reshape(a, (1, *c.dims(a)))
    if len(c.dims(b)) == 1:
        b = c.reshape(b, (*c.dims(b), 1))
    return c.reshape(product(c, a, b), c.out[0].dims)


def matrix_vector(c: Call) -> Result:
    vector = c.ref("vec")
    y = product(c, c.ref(), c.reshape(vector, (*c.dims(vector), 1)))
    return c.reshape(y, c.out[0].dims)


def dot(c: Call) -> Result:
    return c.emit("reduce_sum", c.emit("mul", c.ref(), c.ref("tensor")), axes=(0,))


def addmm(c: Call) -> Result:
    """beta self + alpha mat1 mat2; one linear op where self is a bias and mat2 a constant."""
    names = ("batch1", "batch2") if "batch1" in c.args else ("mat1", "mat2")
    a, b, bias = c.ref(names[0]), c.ref(names[1]), c.ref()
    plain = c.get("alpha", 1) == 1 and c.get("beta", 1) == 1
    if plain and len(c.dims(bias)) == 1 and c.dims(bias)[0] == c.dims(b)[-1]:
        return product(c, a, b, bias)
    y = product(c, a, b)
    if c.get("alpha", 1) != 1:
        y = c.emit("mul", y, c.full(float(c["alpha"])))
    if c.get("beta", 1) != 1:
        bias = c.emit("mul", bias, c.full(float(c["beta"])))
    return c.emit("add", y, bias)


def _four_axes(c: Call, ref: Ref) -> Ref:
    """[..., A, T, D] -> [N, A, T, D]; [N, T, D] has one head."""
    dims = c.dims(ref)
    if len(dims) == 4:
        return ref
    if len(dims) == 3:
        return c.reshape(ref, (dims[0], 1, *dims[1:]))
    if len(dims) == 2:
        return c.reshape(ref, (1, 1, *dims))
    return c.reshape(ref, (math.prod(dims[:-3]), *dims[-3:]))


def attention(c: Call) -> Result:
    q, k, v = (_four_axes(c, c.ref(name)) for name in ("query", "key", "value"))
    mask, rank = c.get("attn_mask", c.get("attn_bias")), len(c.dims(c.ref("query")))
    if c.get("dropout_p"):
        raise Unsupported("dropout at run time; call model.eval()")
    inputs = [q, k, v]
    if mask is not None:
        if rank > 4:
            raise Unsupported(f"a mask over {rank} axes")
        inputs.append(_four_axes(c, mask) if rank == 3 and len(c.dims(mask)) == 3 else mask)
    scale = c.get("scale")
    y = c.emit(
        "attention",
        *inputs,
        scale=float(scale) if scale is not None else 1.0 / math.sqrt(c.dims(q)[-1]),
        causal=bool(c["is_causal"]),
    )
    y = c.reshape(y, c.out[0].dims)
    return y if len(c.out) == 1 else (y, *(None,) * (len(c.out) - 1))


def _affine(c: Call, shape: tuple[int, ...]) -> tuple[Ref, ...]:
    """gamma and beta as far as they are given; ones stand in for a missing gamma before a beta."""
    weight, bias = c.get("weight"), c.get("bias")
    if weight is None and bias is None:
        return ()
    gamma = weight if weight is not None else c.full(1.0, shape)
    return (gamma,) if bias is None else (gamma, bias)


def layer_norm(c: Call) -> Result:
    shape = tuple(c["normalized_shape"])
    y = c.emit(
        "layer_norm", c.ref("input"), *_affine(c, shape), axes_from_end=len(shape), eps=float(c["eps"])
    )
    return y if len(c.out) == 1 else (y, None, None)


def rms_norm(c: Call) -> Result:
    x, shape = c.ref("input"), tuple(c["normalized_shape"])
    eps = float(c["eps"]) if c.get("eps") is not None else float(np.finfo(np.float32).eps)
    lead = c.dims(x)[: len(c.dims(x)) - len(shape)]
    inputs = [c.reshape(x, (*lead, math.prod(shape)))]
    if c.get("weight") is not None:
        inputs.append(c.reshape(c.ref("weight"), (math.prod(shape),)))
    y = c.reshape(c.emit("rms_norm", *inputs, eps=eps), c.dims(x))
    return y if len(c.out) == 1 else (y, None)


def softmax(op: str) -> Importer:
    def importer(c: Call) -> Result:
        x = c.cast(c.ref(), c.out[0].dtype)
        return c.emit(op, x, axis=c.axis(c["dim"], len(c.dims(x))))

    return importer


def reduction(op: str) -> Importer:
    def importer(c: Call) -> Result:
        x = c.cast(c.ref(), c.out[0].dtype)
        axes = c.axes(c.get("dim"), len(c.dims(x)))
        if not axes:
            return x
        return c.emit(op, x, axes=axes, keepdims=bool(c.get("keepdim", False)))

    return importer


def extreme(op: str, pair_op: str) -> Importer:
    """max and min: of all, along one axis with its indices, or of two tensors."""

    def importer(c: Call) -> Result:
        if "other" in c.args:
            dtype = c.out[0].dtype
            return c.emit(pair_op, c.operand(c["self"], dtype), c.operand(c["other"], dtype))
        values = reduction(op)(c)
        assert isinstance(values, str)
        if len(c.out) == 1:
            return values
        return values, _index_of_extreme(c, op == "reduce_min")

    return importer


def _index_of_extreme(c: Call, lowest: bool) -> Ref:
    x = c.ref()
    if lowest:
        x = c.emit("neg", x)
    dim = c.get("dim")
    axis = None if dim is None else c.axis(dim, len(c.dims(x)))
    return c.emit("argmax", x, axis=axis, keepdims=bool(c.get("keepdim", False)))


def variance(c: Call) -> Ref:
    """sum (x - mean)^2 / (N - correction)."""
    x = c.ref()
    axes = c.axes(c.get("dim"), len(c.dims(x)))
    count = math.prod(c.dims(x)[a] for a in axes)
    correction = c.get("correction", 1 if c.get("unbiased", True) else 0)
    correction = 1 if correction is None else correction
    centred = c.emit("sub", x, c.emit("reduce_mean", x, axes=axes, keepdims=True))
    squares = c.emit("mul", centred, centred)
    total = c.emit("reduce_mean", squares, axes=axes, keepdims=bool(c.get("keepdim", False)))
    if correction == 0:
        return total
    return c.emit("mul", total, c.full(count / max(count - correction, 0)))


def variance_and_mean(c: Call) -> Result:
    x = c.ref()
    axes = c.axes(c.get("dim"), len(c.dims(x)))
    return variance(c), c.emit("reduce_mean", x, axes=axes, keepdims=bool(c.get("keepdim", False)))


def vector_norm(c: Call) -> Result:
    x, order = c.ref(), c.get("ord", c.get("p", 2))
    order = 2 if order is None else order
    keep = {"axes": c.axes(c.get("dim"), len(c.dims(x))), "keepdims": bool(c.get("keepdim", False))}
    if order == 2:
        return c.emit("sqrt", c.emit("reduce_sum", c.emit("mul", x, x), **keep))
    if order == 1:
        return c.emit("reduce_sum", c.emit("abs", x), **keep)
    if order == math.inf:
        return c.emit("reduce_max", c.emit("abs", x), **keep)
    raise Unsupported(f"the norm of order {order}; 1, 2 and inf are supported")


def some(op: str) -> Importer:
    """any (the largest of 0 and 1) and all (the smallest)."""

    def importer(c: Call) -> Result:
        x = c.ref()
        if c.b.types[x].dtype is not DType.B8:
            x = c.emit("ne", x, c.full(0, (), c.b.types[x].dtype))
        axes = c.axes(c.get("dim"), len(c.dims(x)))
        counted = c.emit(op, c.cast(x, DType.I32), axes=axes, keepdims=bool(c.get("keepdim", False)))
        return c.emit("ne", counted, c.full(0, (), DType.I32))

    return importer


def _std(c: Call) -> Result:
    return c.emit("sqrt", variance(c))


TABLE: dict[str, Any] = {
    "linear": linear,
    "matmul": matmul,
    "mm": matmul,
    "bmm": matmul,
    "mv": matrix_vector,
    "dot": dot,
    "addmm": addmm,
    "baddbmm": addmm,
    "scaled_dot_product_attention": attention,
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_efficient_attention": attention,
    "layer_norm": layer_norm,
    "native_layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "_fused_rms_norm": rms_norm,
    "softmax": softmax("softmax"),
    "_softmax": softmax("softmax"),
    "_safe_softmax": softmax("softmax"),
    "log_softmax": softmax("log_softmax"),
    "_log_softmax": softmax("log_softmax"),
    "mean": reduction("reduce_mean"),
    "sum": reduction("reduce_sum"),
    "amax": reduction("reduce_max"),
    "amin": reduction("reduce_min"),
    "max": extreme("reduce_max", "maximum"),
    "min": extreme("reduce_min", "minimum"),
    "argmax": lambda c: _index_of_extreme(c, False),
    "argmin": lambda c: _index_of_extreme(c, True),
    "var": variance,
    "std": _std,
    "var_mean": variance_and_mean,
    "linalg_vector_norm": vector_norm,
    "norm": vector_norm,
    "any": some("reduce_max"),
    "all": some("reduce_min"),
}
