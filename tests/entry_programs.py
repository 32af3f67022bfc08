"""Programs with state and several entries, as training and language models will have them."""

from __future__ import annotations

import math

import numpy as np

from edgec.build import Builder, constant
from edgec.ir import (
    NO_ATTRS,
    Array,
    Attrs,
    DType,
    Loc,
    Persistence,
    Program,
    Quant,
    Type,
    per_channel,
    per_tensor,
)
from edgec.ops.attention import AttentionAttrs
from edgec.ops.binary import BinaryAttrs
from edgec.ops.gather import IndexCopyAttrs
from edgec.ops.linear import LinearAttrs
from edgec.ops.shape import ReshapeAttrs

VOCABULARY, WIDTH, CACHE, PROMPT = 11, 8, 12, 4
ACTIVATION = per_tensor(0.05, 0)


def counter(late: bool = False) -> Program:
    """count := count + x, y = the new count; with `late`, y adds the old one, so that the update is a copy."""
    b = Builder("infer")
    x = b.input("x", Type((5,), DType.F32))
    count = b.add_state("count", constant(np.full(5, 2, np.float32)), Persistence.KEPT)
    new = b.call("add", count, x, attrs=BinaryAttrs())
    b.updates.append(("count", new))
    b.output(b.call("add", new, count, attrs=BinaryAttrs()) if late else new, "y")
    return b.program()


def moving_average(quantised: bool) -> Program:
    """mean := mean + (x - mean) / 8 and y = x - the old mean, in float or in int8."""
    quant = per_tensor(0.0625, 0) if quantised else None
    quants = [quant] if quant else None
    b = Builder("infer")
    x = b.input("x", Type((1, 6), DType.I8 if quant else DType.F32, quant))
    initial = np.zeros((1, 6), np.int8 if quant else np.float32)
    mean = b.add_state("mean", constant(initial, quant), Persistence.KEPT)
    eighth = b.constant(
        np.int8([16] * 6) if quant else np.float32([0.125] * 6),
        "eighth",
        per_tensor(1 / 128, 0) if quant else None,
    )
    centred = b.node("sub", (x, mean), BinaryAttrs(), quants=quants)[0]
    step = b.node("mul", (centred, eighth), BinaryAttrs(), quants=quants)[0]
    b.updates.append(("mean", b.node("add", (mean, step), BinaryAttrs(), quants=quants)[0]))
    b.output(centred, "y")
    return b.program()


def rotation() -> Program:
    """a, b, c := b, c, x, all at once; entry `clear` sets them to a constant."""
    infer = Builder("infer")
    x = infer.input("x", Type((3,), DType.F32))
    names = [
        infer.add_state(n, constant(np.full(3, i, np.float32)), Persistence.KEPT) for i, n in enumerate("abc")
    ]
    infer.updates += [("a", names[1]), ("b", names[2]), ("c", x)]
    infer.output(infer.call("add", names[0], names[1], attrs=BinaryAttrs()), "y")
    clear = Builder("clear", infer.constants, infer.state)
    blank = clear.constant(np.full(3, 7, np.float32), "blank")
    clear.updates += [(n, blank) for n in "ac"]
    clear.output(names[0], "old")
    return Program((infer.graph(), clear.graph()), clear.constants, clear.state)


def persistences() -> Program:
    """One counter of each persistence; y is their sum."""
    b = Builder("infer")
    x = b.input("x", Type((2,), DType.F32))
    total = x
    for kind in Persistence:
        state = b.add_state(kind.value, constant(np.float32([10, 20])), kind)
        new = b.call("add", state, x, attrs=BinaryAttrs())
        b.updates.append((kind.value, new))
        total = b.call("add", total, new, attrs=BinaryAttrs())
    b.output(total, "y")
    return b.program()


class Decoder:
    """A decoder of one attention layer with a key-value cache and the position in state.

    `prefill` takes PROMPT tokens, `decode` one; both give the logits of every token and share weights, caches and
    position.
    """

    def __init__(self, quantised: bool, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.quant: Quant | None = ACTIVATION if quantised else None
        shared = Builder("weights")
        self.table = self.weight(shared, VOCABULARY, "table", self.quant)
        self.projections = [self.weight(shared, WIDTH, n, None) for n in ("wq", "wk", "wv")]
        self.head = self.weight(shared, VOCABULARY, "head", None)
        blank = np.zeros((1, 1, CACHE, WIDTH), np.int8 if quantised else np.float32)
        for name in ("keys", "values"):
            shared.add_state(name, constant(blank, self.quant), Persistence.RESET)
        shared.add_state("position", constant(np.zeros(1, np.int32)), Persistence.RESET)
        self.shared = shared
        self.constants = dict(shared.constants)

    def weight(self, b: Builder, rows: int, name: str, quant: Quant | None) -> str:
        w = self.rng.normal(size=(rows, WIDTH)).astype(np.float32)
        if self.quant is None:
            return b.constant(w, name)
        if quant is not None:
            return b.constant(np.clip(np.round(w / 0.05), -128, 127).astype(np.int8), name, quant)
        scale = np.abs(w).max(1) / 127
        return b.constant(
            np.round(w / scale[:, None]).astype(np.int8), name, per_channel(scale / math.sqrt(WIDTH), 0)
        )

    def node(
        self, b: Builder, op: str, inputs: list[str], attrs: Attrs = NO_ATTRS, quant: Quant | None = None
    ) -> str:
        b.loc = Loc(f"decoder.{op}", "decoder.py", len(b.nodes) + 1)
        return b.node(op, inputs, attrs, quants=[quant] if quant else None)[0]

    def entry(self, name: str, tokens: int) -> Builder:
        b, q = Builder(name, self.constants, self.shared.state), self.quant
        ids = b.input("tokens", Type((tokens,), DType.I32))
        x = self.node(b, "embedding", [self.table, ids], quant=q)
        query, key, value = (self.node(b, "linear", [x, w], LinearAttrs(), q) for w in self.projections)
        steps = b.constant(np.arange(tokens, dtype=np.int32), "steps")
        at = self.node(b, "add", ["$position", steps], BinaryAttrs())
        as_heads = ReshapeAttrs((1, 1, tokens, WIDTH))
        for state, new in (("keys", key), ("values", value)):
            cells = self.node(b, "reshape", [new], as_heads, q)
            filled = self.node(b, "index_copy", ["$" + state, at, cells], IndexCopyAttrs(2), q)
            b.updates.append((state, filled))
        places = b.constant(np.arange(CACHE, dtype=np.int32), "places")
        seen = self.node(b, "le", [places, self.node(b, "reshape", [at], ReshapeAttrs((1, 1, tokens, 1)))])
        heads = [self.node(b, "reshape", [query], as_heads, q), *(v for _, v in b.updates), seen]
        y = self.node(b, "attention", heads, AttentionAttrs(scale=1 / math.sqrt(WIDTH)), q)
        y = self.node(b, "reshape", [y], ReshapeAttrs((tokens, WIDTH)), q)
        b.output(self.node(b, "linear", [y, self.head], LinearAttrs(), q), "logits")
        count = b.constant(np.int32([tokens]), "count")
        b.updates.append(("position", self.node(b, "add", ["$position", count], BinaryAttrs())))
        self.constants = b.constants
        return b

    def program(self) -> Program:
        prefill, decode = self.entry("prefill", PROMPT), self.entry("decode", 1)
        return Program((prefill.graph(), decode.graph()), self.constants, self.shared.state)


def tokens(count: int, seed: int) -> dict[str, Array]:
    """Input of a decoder's entry."""
    return {"tokens": np.random.default_rng(seed).integers(0, VOCABULARY, count).astype(np.int32)}
