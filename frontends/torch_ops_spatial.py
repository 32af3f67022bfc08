"""Importers of convolutions, pooling, resizing and the norms over channels: PyTorch's [N,C,H,W] becomes the IR's
[N,H,W,C] by a transpose before and after, which a later pass cancels; weights become [O,R,S,C] constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgec.frontends.torch_call import Call, Importer, Ref, Result, Unsupported, pair
from edgec.ir import Array, DType


def _batched(c: Call, ref: Ref, rank: int) -> tuple[Ref, bool]:
    """(x with a batch axis, whether it had none)."""
    dims = c.dims(ref)
    if len(dims) == rank - 1:
        return c.reshape(ref, (1, *dims)), True
    if len(dims) != rank:
        raise Unsupported(f"takes {rank} or {rank - 1} axes, here {len(dims)}")
    return ref, False


def _finish(c: Call, ref: Ref, unbatched: bool) -> Ref:
    y = c.channels_first(ref)
    return c.reshape(y, c.dims(y)[1:]) if unbatched else y


def _same_pad(kernel: int, dilation: int) -> tuple[int, int]:
    """PyTorch's padding="same": the odd row goes after."""
    total = dilation * (kernel - 1)
    return total // 2, total - total // 2


def _pads(c: Call, padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """(before, after) of each axis in a row, from numbers or from "same" or "valid"."""
    if padding == "valid":
        return (0, 0) * len(kernel)
    if padding == "same":
        return tuple(p for k, d in zip(kernel, dilation, strict=True) for p in _same_pad(k, d))
    listed = pair(padding) if len(kernel) == 2 else (pair(padding)[0],)
    return tuple(p for side in listed for p in (side, side))


def _bias(c: Call) -> tuple[Ref, ...]:
    return (c.ref("bias"),) if c.get("bias") is not None else ()


def conv2d(c: Call) -> Result:
    x, unbatched = _batched(c, c.ref("input"), 4)
    w = c.transpose(c.ref("weight"), (0, 2, 3, 1))
    dilation, kernel = pair(c["dilation"]), c.dims(w)[1:3]
    y = c.emit(
        "conv2d",
        c.channels_last(x),
        w,
        *_bias(c),
        stride=pair(c["stride"]),
        pad=_pads(c, c["padding"], kernel, dilation),
        dilation=dilation,
        groups=c["groups"],
    )
    return _finish(c, y, unbatched)


def conv1d(c: Call) -> Result:
    x, unbatched = _batched(c, c.ref("input"), 3)
    w = c.transpose(c.ref("weight"), (0, 2, 1))
    dilation, kernel = pair(c["dilation"])[0], c.dims(w)[1]
    y = c.emit(
        "conv1d",
        c.channels_last(x),
        w,
        *_bias(c),
        stride=pair(c["stride"])[0],
        pad=_pads(c, c["padding"], (kernel,), (dilation,)),
        dilation=dilation,
        groups=c["groups"],
    )
    return _finish(c, y, unbatched)


def _transposed_weight(c: Call, ref: Ref, groups: int) -> Ref:
    """[C, O/groups, R, S] -> [O, R, S, C/groups]."""
    i, o, r, s = c.dims(ref)
    cells = c.reshape(ref, (groups, i // groups, o, r, s))
    return c.reshape(c.transpose(cells, (0, 2, 3, 4, 1)), (groups * o, r, s, i // groups))


def _conv_transpose2d(c: Call, x: Ref, w: Ref) -> Ref:
    pad, stride = pair(c["padding"]), pair(c["stride"])
    return c.emit(
        "conv_transpose2d",
        x,
        _transposed_weight(c, w, c["groups"]),
        *_bias(c),
        stride=stride,
        pad=(pad[0], pad[0], pad[1], pad[1]),
        output_pad=pair(c["output_padding"]),
        dilation=pair(c["dilation"]),
        groups=c["groups"],
    )


def conv_transpose2d(c: Call) -> Result:
    x, unbatched = _batched(c, c.ref("input"), 4)
    return _finish(c, _conv_transpose2d(c, c.channels_last(x), c.ref("weight")), unbatched)


def conv_transpose1d(c: Call) -> Result:
    """Over [N,L,1,C] with a kernel of width 1."""
    x, unbatched = _batched(c, c.ref("input"), 3)
    n, channels, length = c.dims(x)
    i, o, k = c.dims(c.ref("weight"))
    wide = c.reshape(c.channels_last(x), (n, length, 1, channels))
    names = ("padding", "output_padding")
    flat: dict[str, Any] = {name: (pair(c[name])[0], 0) for name in names}
    flat |= {name: (pair(c[name])[0], 1) for name in ("stride", "dilation")}
    inner = Call(c.b, c.name, {**c.args, **flat}, c.out)
    y = _conv_transpose2d(inner, wide, c.reshape(c.ref("weight"), (i, o, k, 1)))
    n, length, _, channels = c.dims(y)
    return _finish(c, c.reshape(y, (n, length, channels)), unbatched)


def convolution(c: Call) -> Result:
    rank = len(c.dims(c.ref("weight")))
    table = {
        (4, False): conv2d,
        (3, False): conv1d,
        (4, True): conv_transpose2d,
        (3, True): conv_transpose1d,
    }
    found = table.get((rank, bool(c["transposed"])))
    if found is None:
        raise Unsupported(f"{rank - 2}-D convolution; 1-D and 2-D are supported")
    return found(c)


def _extra(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil: bool) -> int:
    """Rows to add after, so that rounding down gives the rows that ceil_mode gives. A window must begin inside."""
    if not ceil:
        return 0
    span = dilation * (kernel - 1) + 1
    rows = math.ceil((size + 2 * pad - span) / stride) + 1
    if (rows - 1) * stride >= size + pad:
        rows -= 1
    return max(0, (rows - 1) * stride + span - size - 2 * pad)


def _window(c: Call, x: Ref) -> tuple[dict[str, Any], bool]:
    """(kernel, stride, pad, dilation of a pooling over x[N,H,W,C], whether ceil_mode added rows)."""
    kernel = pair(c["kernel_size"])
    stride = pair(c["stride"]) if c["stride"] else kernel
    padding, dilation = pair(c["padding"]), pair(c.get("dilation", 1))
    pad, added = [], False
    for i in (0, 1):
        more = _extra(c.dims(x)[1 + i], kernel[i], stride[i], padding[i], dilation[i], c["ceil_mode"])
        pad += [padding[i], padding[i] + more]
        added = added or more > 0
    return {"kernel": kernel, "stride": stride, "pad": tuple(pad), "dilation": dilation}, added


def max_pool2d(c: Call) -> Result:
    x, unbatched = _batched(c, c.ref(), 4)
    x = c.channels_last(x)
    attrs, _ = _window(c, x)
    y = _finish(c, c.emit("max_pool2d", x, **attrs), unbatched)
    return (y, None) if len(c.out) == 2 else y


def avg_pool2d(c: Call) -> Result:
    x, unbatched = _batched(c, c.ref(), 4)
    x = c.channels_last(x)
    attrs, added = _window(c, x)
    del attrs["dilation"]
    include, divisor = c["count_include_pad"], c.get("divisor_override")
    if added and divisor is None:
        # PyTorch never counts the rows that ceil_mode adds.
        if include and pair(c["padding"]) != (0, 0):
            raise Unsupported("ceil_mode with padding that counts; use count_include_pad=False")
        include = False
    y = c.emit("avg_pool2d", x, **attrs, count_include_pad=include, divisor=divisor)
    return _finish(c, y, unbatched)


def _as_2d(c: Call, importer: Importer) -> Result:
    """A 1-D pooling over [..., L] as a 2-D one over [..., L, 1]."""
    x = c.ref()
    ones = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    args = {**c.args, "self": c.reshape(x, (*c.dims(x), 1))}
    for name, one in ones.items():
        if args.get(name):
            args[name] = (pair(args[name])[0], one)
    if "output_size" in args:
        args["output_size"] = (pair(args["output_size"])[0], 1)
    y = importer(Call(c.b, c.name, args, c.out))
    first = y if isinstance(y, str) else y[0]
    assert first is not None
    flat = c.reshape(first, c.dims(first)[:-1])
    return flat if len(c.out) == 1 else (flat, None)


def max_pool1d(c: Call) -> Result:
    return _as_2d(c, max_pool2d)


def avg_pool1d(c: Call) -> Result:
    return _as_2d(c, avg_pool2d)


def adaptive_avg_pool1d(c: Call) -> Result:
    return _as_2d(c, adaptive_avg_pool2d)


def _adaptive(c: Call, op: str) -> Ref:
    x, unbatched = _batched(c, c.ref(), 4)
    size = tuple(s if s is not None else d for s, d in zip(c["output_size"], c.dims(x)[2:], strict=True))
    return _finish(c, c.emit(op, c.channels_last(x), size=size), unbatched)


def adaptive_avg_pool2d(c: Call) -> Result:
    return _adaptive(c, "adaptive_avg_pool2d")


def adaptive_max_pool2d(c: Call) -> Result:
    return _adaptive(c, "adaptive_max_pool2d"), None


def _resize(c: Call, mode: str, align_corners: bool) -> Result:
    x = c.ref("input" if "input" in c.args else "self")
    size, source = c.out[0].dims[2:], c.dims(x)[2:]
    factors = c.get("scale_factors") or (c.get("scales_h"), c.get("scales_w"))
    for factor, before, after in zip(factors, source, size, strict=True):
        # PyTorch then steps by 1 / factor and not by before / after.
        if factor is not None and not align_corners and before * factor != after:
            raise Unsupported(f"scale factor {factor} takes {before} to {after} rows; give the size instead")
    y = c.emit("resize", c.channels_last(x), size=size, mode=mode, align_corners=align_corners)
    return c.channels_first(y)


def upsample_nearest2d(c: Call) -> Result:
    return _resize(c, "nearest", False)


def upsample_bilinear2d(c: Call) -> Result:
    return _resize(c, "bilinear", bool(c["align_corners"]))


def pixel_shuffle(c: Call) -> Result:
    x, unbatched = _batched(c, c.ref(), 4)
    return _finish(c, c.emit("pixel_shuffle", c.channels_last(x), factor=c["upscale_factor"]), unbatched)


def pixel_unshuffle(c: Call) -> Result:
    x, r = c.ref(), c["downscale_factor"]
    *lead, h, w = c.dims(x)
    n = math.prod(lead)
    cells = c.transpose(c.reshape(x, (n, h // r, r, w // r, r)), (0, 2, 4, 1, 3))
    return c.reshape(cells, c.out[0].dims)


def channel_shuffle(c: Call) -> Result:
    x, groups = c.ref(), c["groups"]
    n, channels, *rest = c.dims(x)
    cells = c.reshape(x, (n, groups, channels // groups, math.prod(rest)))
    return c.reshape(c.transpose(cells, (0, 2, 1, 3)), (n, channels, *rest))


def batch_norm(c: Call) -> Result:
    """Evaluation mode; running statistics are constants."""
    if c.get("training") or c.get("running_mean") is None:
        raise Unsupported("batch statistics at run time; call model.eval() and keep track_running_stats")
    x = c.ref("input")
    mean, var = c.ref("running_mean"), c.ref("running_var")
    gamma = c["weight"] if c["weight"] is not None else c.full(1.0, c.dims(mean))
    beta = c["bias"] if c["bias"] is not None else c.full(0.0, c.dims(mean))
    y = c.emit("batch_norm", c.channels_last(x), gamma, beta, mean, var, eps=float(c["eps"]))
    y = c.channels_first(y)
    return y if len(c.out) == 1 else (y, *(None,) * (len(c.out) - 1))


def _affine(c: Call, shape: tuple[int, ...]) -> tuple[Ref, ...]:
    """gamma and beta as far as they are given; ones stand in for a missing gamma before a beta."""
    weight, bias = c.get("weight"), c.get("bias")
    if weight is None and bias is None:
        return ()
    gamma = weight if weight is not None else c.full(1.0, shape)
    return (gamma,) if bias is None else (gamma, bias)


def group_norm(c: Call) -> Result:
    x = c.ref("input")
    groups = c["num_groups"] if "num_groups" in c.args else c["group"]
    rank = len(c.dims(x))
    last = c.channels_last(x) if rank > 2 else x
    y = c.emit("group_norm", last, *_affine(c, (c.dims(x)[1],)), groups=groups, eps=float(c["eps"]))
    y = c.channels_first(y) if rank > 2 else y
    return y if len(c.out) == 1 else (y, None, None)


def instance_norm(c: Call) -> Result:
    if not c["use_input_stats"]:
        raise Unsupported("running statistics; use track_running_stats=False")
    return group_norm(Call(c.b, c.name, {**c.args, "num_groups": c.dims(c.ref("input"))[1]}, c.out))


def batch_norm_of_one(c: Call) -> Result:
    """Statistics of the sample itself: with a batch of 1 each channel is a group (how an instance norm comes)."""
    x = c.ref("input")
    if c.dims(x)[0] != 1:
        raise Unsupported("statistics of the batch at run time; call model.eval()")
    return group_norm(Call(c.b, c.name, {**c.args, "num_groups": c.dims(x)[1]}, c.out))


def prelu(c: Call) -> Result:
    x, slope = c.ref(), c.ref("weight")
    slope = c.reshape(slope, (math.prod(c.dims(slope)),))
    if c.dims(slope) == (1,) or len(c.dims(x)) <= 2:
        return c.emit("prelu", x, slope)
    return c.channels_first(c.emit("prelu", c.channels_last(x), slope))


def _places(mode: str, size: int, before: int, after: int) -> Array:
    """Which of `size` elements stands at each place of a padded axis."""
    at = np.arange(-before, size + after)
    if mode == "replicate":
        return np.clip(at, 0, size - 1).astype(np.int32)
    if mode == "circular":
        return (at % size).astype(np.int32)
    period = max(1, 2 * (size - 1))
    return (size - 1 - np.abs(at % period - (size - 1))).astype(np.int32)


def _copied_pad(c: Call, x: Ref, mode: str) -> Ref:
    """Padding by copies of elements: each padded axis is picked from."""
    amounts, dims = list(c["pad"]), c.dims(x)
    for i in range(len(amounts) // 2):
        axis, before, after = len(dims) - 1 - i, amounts[2 * i], amounts[2 * i + 1]
        if before or after:
            places = c.constant(_places(mode, dims[axis], before, after), mode)
            x = c.emit("index_select", x, places, axis=axis)
    return x


def constant_pad_nd(c: Call) -> Result:
    mode = c.get("mode", "constant")
    if mode in ("reflect", "replicate", "circular"):
        return _copied_pad(c, c.ref(), mode)
    x, amounts = c.ref(), list(c["pad"])
    dims = c.dims(x)
    pads = [(0, 0)] * len(dims)
    for i in range(len(amounts) // 2):
        pads[len(dims) - 1 - i] = (amounts[2 * i], amounts[2 * i + 1])
    for axis, (before, after) in enumerate(pads):
        if before < 0 or after < 0:
            stop = c.dims(x)[axis] + min(after, 0)
            x = c.emit("slice", x, axis=axis, start=max(0, -before), stop=stop)
    grown = tuple((max(0, b), max(0, a)) for b, a in pads)
    if not any(b or a for b, a in grown):
        return x
    value = c.get("value")
    if c.b.types[x].dtype is DType.B8:
        raise Unsupported("padding of booleans")
    return c.emit("pad", x, pads=grown, value=float(value) if value is not None else 0.0)


TABLE: dict[str, Importer] = {
    "conv2d": conv2d,
    "conv1d": conv1d,
    "conv_transpose2d": conv_transpose2d,
    "conv_transpose1d": conv_transpose1d,
    "convolution": convolution,
    "_convolution": convolution,
    "max_pool2d": max_pool2d,
    "max_pool2d_with_indices": max_pool2d,
    "max_pool1d": max_pool1d,
    "avg_pool2d": avg_pool2d,
    "avg_pool1d": avg_pool1d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": adaptive_avg_pool2d,
    "adaptive_avg_pool1d": adaptive_avg_pool1d,
    "adaptive_max_pool2d": adaptive_max_pool2d,
    "upsample_nearest2d": upsample_nearest2d,
    "upsample_bilinear2d": upsample_bilinear2d,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "channel_shuffle": channel_shuffle,
    "native_channel_shuffle": channel_shuffle,
    "batch_norm": batch_norm,
    "_native_batch_norm_legit_no_training": batch_norm,
    "_native_batch_norm_legit": batch_norm_of_one,
    "group_norm": group_norm,
    "native_group_norm": group_norm,
    "instance_norm": instance_norm,
    "prelu": prelu,
    "_prelu_kernel": prelu,
    "constant_pad_nd": constant_pad_nd,
    "pad": constant_pad_nd,
}
