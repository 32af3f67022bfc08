"""What the link to a device says when it fails: EDGEC-E821 to E82B, each with what to do first (exit code 8)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from edgec.errors import TargetError
from edgec.link.frame import STATUS_TEXT, VERSION, Frame, Request, Status


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the link stood. `name`: of the device; `cure`: what to do where it is silent or gone; `kind`: the request;
    `steps`: training steps that the device has told of, None before its hello; `graph`, `layout`: its hashes."""

    name: str
    cure: str
    kind: Request
    steps: int | None
    graph: str = "?"
    layout: str = "?"

    @property
    def words(self) -> str:
        """The request as a person says it: `weights chunk`."""
        return self.kind.name.lower().replace("_", " ")

    @property
    def weights(self) -> str:
        """What became of the device's weights."""
        if self.steps is None:
            return "its weights are as they were"
        return (
            f"its last answer told of training step {self.steps}; weights saved before are safe, and no step is "
            "half applied"
        )


_SAFE: Final = "check the flash of the device; its weights are as they were"
_MODEL_CURES: Final = {
    Request.TRAIN: "lower the learning rate, or check the sample and its label",
    Request.EVALUATE: "reset the weights, or check the sample and its label",
    Request.SAVE: "check the flash of the device; the weights in its RAM, and those saved before, are as they were",
    Request.LOAD: "check the flash of the device",
    Request.WEIGHTS_BEGIN: _SAFE,
    Request.WEIGHTS_CHUNK: _SAFE,
    Request.WEIGHTS_COMMIT: _SAFE,
}


def silent(at: Situation, tries: int, wait_s: float, damaged: int) -> TargetError:
    """No answer, although the transport lives."""
    heard = f", but {damaged} damaged frames" if damaged else ""
    return TargetError(
        "EDGEC-E822",
        f"{at.cure}: {at.name} gave no answer to {at.words} in {tries} tries of {wait_s:g} s{heard}; {at.weights}",
    )


def ended(at: Situation, reason: str) -> TargetError:
    """The transport is gone: unplugged, or the program behind it has ended."""
    return TargetError(
        "EDGEC-E821",
        f"{at.cure}, then run the command again: the link to {at.name} ended at {at.words} ({reason}); {at.weights}",
    )


def strange(at: Situation, what: str) -> TargetError:
    """An answer that arrived whole and is none of the protocol's."""
    return TargetError(
        "EDGEC-E823",
        "flash a firmware made by this edgec, or use the edgec that made it: "
        f"{at.name} gave {what}, to {at.words}; {at.weights}",
    )


def refused(at: Situation, answer: Frame) -> TargetError:
    """The device answered with a status other than OK."""
    known = answer.status in tuple(Status)
    status = Status(answer.status) if known else None
    said = f"{at.name} refused {at.words}"
    if status is Status.MODEL:
        code, steps = struct.unpack_from("<II", answer.payload)
        text = answer.payload[8:].decode("utf-8", "replace")
        cure = _MODEL_CURES.get(at.kind, "check the samples")
        return TargetError(
            "EDGEC-E827", f"{cure}: {said}: {text} (status {code}), after training step {steps}"
        )
    if status is Status.BAD_VERSION:
        device = int.from_bytes(answer.payload[:4], "little")
        return TargetError(
            "EDGEC-E823",
            "flash a firmware made by this edgec, or use the edgec that made it: "
            f"{at.name} speaks version {device} of the protocol, this edgec version {VERSION}",
        )
    found = _REFUSALS.get(status) if status is not None else None
    if found is None:
        text = STATUS_TEXT[status] if status is not None else f"status {answer.status}"
        return TargetError("EDGEC-E82A", f"check the values given: {said}: {text}")
    code_, cure, cause = found
    told = cause.format(
        name=at.name, said=said, words=at.words, weights=at.weights, graph=at.graph, layout=at.layout
    )
    return TargetError(code_, f"{cure}: {told}")


_ALONE: Final = "run the command again, with no other program on the port"
_REFUSALS: Final = {
    Status.BAD_SESSION: (
        "EDGEC-E826",
        _ALONE,
        "{name} started anew before {words}, with the weights saved last; {weights}",
    ),
    Status.BAD_SEQUENCE: ("EDGEC-E826", _ALONE, "{said}: another program has talked to it; {weights}"),
    Status.BAD_GRAPH: (
        "EDGEC-E824",
        "give weights that were pulled from a firmware of this network",
        "those given belong to another network than {name}'s ({graph})",
    ),
    Status.BAD_LAYOUT: (
        "EDGEC-E825",
        "give weights that were trained with the same --train and --scheme",
        "those given belong to another choice of what trains than {name}'s ({layout})",
    ),
    Status.BAD_CRC: (
        "EDGEC-E82B",
        "push the weights again",
        "they came to {name} damaged, and it goes on with its own",
    ),
    Status.UNSUPPORTED: (
        "EDGEC-E829",
        "flash a firmware that can, or do without",
        "{said}: its firmware cannot do that",
    ),
}
