"""The link to a device in this process: both codecs, repetitions, order, cuts at every byte, every error's text."""

from __future__ import annotations

import ctypes
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from edgec.errors import EdgecError, Exit, TargetError, UserError
from edgec.link.frame import ANSWER, VERSION, Decoder, Frame, Request, Status, encode, unwrap, wrap
from edgec.link.host import Link, Patience
from tests.link_devices import PAYLOAD, SAMPLE_BYTES, WEIGHT_BYTES, Device, Wire, library

QUICK = Patience(quick_s=0.01, work_s=0.01, tries=2)
GRAPH, LAYOUT = b"\x10graph\x01\xff", b"\x20layout\x02"


def sample(seed: int) -> bytes:
    return np.random.default_rng(seed).normal(size=SAMPLE_BYTES // 4).astype("<f4").tobytes()


def label(number: int) -> bytes:
    return number.to_bytes(4, "little")


def linked(device: Device | None = None, **cuts: int) -> tuple[Link, Wire]:
    wire = Wire(device or Device(), **cuts)
    return Link(wire, QUICK, nonce=77), wire


def random_bytes(rng: np.random.Generator) -> bytes:
    """Lengths round the block size of COBS; many or few zeros."""
    size = int(rng.choice([0, 1, 2, 253, 254, 255, 256, 507, 508, 509, int(rng.integers(0, 1500))]))
    data = rng.integers(0, 256, size).astype(np.uint8)
    data[rng.random(size) < rng.choice([0.0, 0.01, 0.5, 1.0])] = 0
    return data.tobytes()


def test_both_codecs_write_the_same_bytes_and_read_them_back() -> None:
    rng = np.random.default_rng(0)
    room = ctypes.create_string_buffer(4096)
    for _ in range(3000):
        data = random_bytes(rng)
        size = library().link_encode(data, len(data), room, len(room))
        assert room.raw[:size] == wrap(data)
        assert unwrap(wrap(data)[1:-1]) == data


def random_frame(rng: np.random.Generator) -> Frame:
    kind, status = (int(n) for n in rng.integers(0, 256, 2))
    sequence, session = (int(n) for n in rng.integers(0, 1 << 32, 2))
    return Frame(kind, status, sequence, session, random_bytes(rng)[:1000])


def test_both_decoders_find_the_same_frames_in_the_same_damaged_stream() -> None:
    rng = np.random.default_rng(1)
    room, bad = ctypes.create_string_buffer(1 << 20), ctypes.c_uint32()
    for _ in range(300):
        stream = bytearray(b"".join(encode(random_frame(rng)) for _ in range(20)))
        for _ in range(int(rng.integers(0, 12))):
            at = int(rng.integers(0, len(stream)))
            if rng.random() < 0.5:
                stream[at] ^= 1 << int(rng.integers(0, 8))
            else:
                del stream[at : at + int(rng.integers(1, 9))]
        capacity = int(rng.choice([300, 2000]))
        size = library().link_decode(bytes(stream), len(stream), capacity, room, len(room), ctypes.byref(bad))
        theirs, at = [], 0
        while at < size:
            length = int.from_bytes(room.raw[at : at + 4], "little")
            theirs.append(room.raw[at + 4 : at + 4 + length])
            at += 4 + length
        decoder, mine = Decoder(capacity), []
        for piece in np.array_split(np.frombuffer(bytes(stream), np.uint8), 7):
            mine += decoder.feed(piece.tobytes())
        heads = [struct.pack("<BBHII", f.kind, f.status, len(f.payload), f.sequence, f.session) for f in mine]
        assert theirs == [head + f.payload for head, f in zip(heads, mine, strict=True)]
        assert decoder.bad == bad.value


def test_a_device_tells_what_it_is() -> None:
    link, _ = linked()
    told = link.hello()
    assert (told.version, told.payload, told.name) == (VERSION, PAYLOAD, "one_layer")
    assert (told.graph_hash, told.layout_hash) == (GRAPH, LAYOUT)
    assert (told.input_bytes, told.label_bytes, told.output_bytes) == (SAMPLE_BYTES, 4, 12)
    assert (told.weight_bytes, told.classes, told.flags, told.steps, told.replay) == (
        WEIGHT_BYTES,
        3,
        7,
        0,
        4,
    )


def reference_step(w: np.ndarray, b: np.ndarray, x: np.ndarray, wanted: int, rate: float) -> float:
    """The network of tests/c/link in float64; updates w and b, returns the loss."""
    error = w @ x + b - np.eye(3)[wanted]
    w -= rate * np.outer(error, x)
    b -= rate * error
    return float(0.5 * error @ error)


def test_training_over_the_link_learns_what_the_formula_says() -> None:
    link, _ = linked()
    link.set_rate(0.05)
    w, b = np.zeros((3, 8)), np.zeros(3)
    for i in range(40):
        step = link.train(sample(i), label(i % 3))
        loss = reference_step(w, b, np.frombuffer(sample(i), "<f4").astype(float), i % 3, 0.05)
        assert step.steps == i + 1
        assert step.loss == pytest.approx(loss, rel=1e-4)  # float32 against float64
    pulled = np.frombuffer(link.pull(), "<f4")
    assert np.allclose(pulled[:24].reshape(3, 8), w, atol=1e-5)
    outputs = np.frombuffer(link.infer(sample(3)), "<f4")
    assert np.allclose(outputs, w @ np.frombuffer(sample(3), "<f4") + b, atol=1e-5)
    assert link.evaluate(sample(3), label(int(outputs.argmax())))[1] == 1


def test_replayed_samples_train_as_often_as_asked() -> None:
    link, wire = linked()
    for slot in range(4):
        assert link.keep(slot, sample(slot), label(slot % 3)) == slot + 1
    link.set_replay(3)
    step = link.train(sample(9), label(0))
    assert step.steps == 4 and step.replay_loss > 0
    assert wire.device.state()[2] == 4


def test_weights_that_are_pulled_can_be_pushed_to_another_device() -> None:
    first, _ = linked()
    for i in range(5):
        first.train(sample(i), label(i % 3))
    weights = first.pull()
    second, wire = linked(Device(seed=9))
    assert second.push(weights, GRAPH, LAYOUT) == 5
    assert wire.device.state()[0] == zlib.crc32(weights)
    assert second.pull() == weights


def raw(device: Device, *frames: Frame) -> list[Frame]:
    """The device's answers to these frames."""
    return Decoder().feed(device.feed(b"".join(encode(f) for f in frames)))


def session(device: Device, nonce: int = 5) -> int:
    (answer,) = raw(device, Frame(Request.HELLO, 0, 0, 0, struct.pack("<HI", VERSION, nonce)))
    return answer.session


def train(number: int, of: int, seed: int = 0) -> Frame:
    return Frame(Request.TRAIN, 0, number, of, label(1) + sample(seed))


def test_a_training_step_sent_three_times_is_applied_once() -> None:
    device = Device()
    of = session(device)
    answers = raw(device, *[train(1, of)] * 3)
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].status == Status.OK
    assert device.state()[2] == 1


def test_requests_out_of_order_are_refused_and_then_run_in_order() -> None:
    device = Device()
    of = session(device)
    (late,) = raw(device, train(2, of, 2))
    assert (late.status, late.payload) == (Status.BAD_SEQUENCE, (1).to_bytes(4, "little"))
    assert device.state()[2] == 0
    statuses = [a.status for a in raw(device, train(1, of, 1), train(2, of, 2), train(1, of, 1))]
    assert statuses == [Status.OK, Status.OK, Status.BAD_SEQUENCE]
    assert device.state()[2] == 2


def test_another_request_under_the_number_of_the_last_is_refused() -> None:
    device = Device()
    of = session(device)
    raw(device, train(1, of, 1))
    (other,) = raw(device, train(1, of, 2))
    assert other.status == Status.BAD_SEQUENCE
    assert device.state()[2] == 1


def test_frames_of_an_earlier_session_change_nothing() -> None:
    device = Device()
    old = session(device, 5)
    raw(device, train(1, old))
    new = session(device, 6)
    assert new != old
    (answer,) = raw(device, train(1, old))
    assert answer.status == Status.BAD_SESSION
    assert device.state()[2] == 1
    assert raw(device, Frame(Request.HELLO, 0, 0, 0, struct.pack("<HI", VERSION, 5)))[0].session not in (
        old,
        new,
    )


def test_the_hello_of_the_running_session_changes_nothing_when_it_comes_again() -> None:
    device = Device()
    of = session(device, 5)
    first = raw(device, train(1, of))
    assert raw(device, Frame(Request.HELLO, 0, 0, 0, struct.pack("<HI", VERSION, 5))) == []
    assert raw(device, train(1, of)) == first
    assert [a.status for a in raw(device, train(2, of))] == [Status.OK]


def test_answers_and_echoes_are_not_answered() -> None:
    device = Device()
    of = session(device)
    assert raw(device, Frame(Request.TRAIN | ANSWER, 0, 1, of, b"")) == []


def test_late_answers_to_earlier_requests_are_passed_over() -> None:
    link, wire = linked()
    link.hello()
    link.train(sample(0), label(0))
    stale = bytes(wire.received)
    wire._waiting += stale
    assert link.train(sample(1), label(1)).steps == 2
    wire._waiting += stale
    assert link.hello().steps == 2


WHOLE_SESSION_REQUESTS = 20


def whole_session(link: Link) -> None:
    """One of everything that changes the device."""
    link.hello()
    link.set_rate(0.05)
    link.keep(0, sample(50), label(2))
    for i in range(3):
        link.train(sample(i), label(i))
    link.save()
    weights = bytearray(link.pull())
    weights[3] ^= 1
    link.train(sample(4), label(1))
    link.push(bytes(weights), GRAPH, LAYOUT)
    link.set_replay(2)
    link.train(sample(5), label(0))
    link.save()
    link.train(sample(6), label(0))
    link.load()
    link.infer(sample(7))
    link.reset()


def recorded() -> tuple[bytes, list[tuple[int, tuple[int, int, int]]]]:
    """The host's bytes of the whole session, and the device's state after each of its requests: (bytes sent, state)."""
    link, wire = linked()
    states: list[tuple[int, tuple[int, int, int]]] = [(0, wire.device.state())]
    send = wire.write

    def write(data: bytes) -> None:
        send(data)
        states.append((len(wire.sent), wire.device.state()))

    wire.write = write  # type: ignore[method-assign]
    whole_session(link)
    return bytes(wire.sent), states


def test_a_cut_at_every_byte_leaves_the_device_before_or_after_a_request() -> None:
    """Half a request does nothing, half-pushed weights are never used, and the next session works."""
    stream, states = recorded()
    assert len(states) > WHOLE_SESSION_REQUESTS
    assert len({state for _, state in states}) >= 9  # the requests do change it
    for cut in range(len(stream) + 1):
        device = Device()
        device.feed(stream[:cut])
        done = max(state for state in states if state[0] <= cut)[1]
        assert device.state() == done, cut
        link, _ = linked(device)
        link._nonce = 1000 + cut
        steps = link.hello().steps
        # where only the closing 00 was missing, the 00 before hello completes the request
        assert device.state() == max(state for state in states if state[0] <= cut + 1)[1], cut
        assert link.train(sample(1), label(1)).steps == steps + 1


def test_a_power_cut_at_every_byte_brings_back_what_was_saved() -> None:
    stream, states = recorded()
    for cut in range(0, len(stream) + 1, 3):
        device = Device()
        device.feed(stream[:cut])
        saved = device.state()[1]
        assert saved in {state[1] for _, state in states}
        device.cut_power()
        empty = saved == states[0][1][1]
        assert device.state()[0] == (states[0][1][0] if empty else saved), cut
        link, _ = linked(device)
        link.train(sample(1), label(1))


@pytest.mark.parametrize("direction", ["to_device", "to_host"])
def test_a_cut_at_every_byte_makes_the_host_say_what_to_do(direction: str) -> None:
    link, wire = linked()
    whole_session(link)
    total = len(wire.sent if direction == "to_device" else wire.received)
    codes = set()
    for cut in range(total):
        link, wire = linked(**{direction: cut})
        with pytest.raises(TargetError) as error:
            whole_session(link)
        assert error.value.exit_code == Exit.DEVICE
        assert error.value.code == "EDGEC-E821"
        assert error.value.message.startswith("check the cable of /dev/board, that it is powered")
        assert "then run the command again" in error.value.message
        codes.add(error.value.message.split("ended at ")[1].split(" (")[0])
    assert {"hello", "train", "weights chunk", "weights commit", "save", "load", "reset"} <= codes


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_line_trains_exactly_as_a_quiet_one(seed: int) -> None:
    """Every fifth write and answer damaged or lost: repetitions make up for it, and nothing is applied twice."""
    rng = np.random.default_rng(seed)
    quiet_link, quiet = linked()
    whole_session(quiet_link)
    device = Device()
    wire = Wire(device)
    feed = device.feed

    def noisy(data: bytes) -> bytes:
        return damaged(feed(damaged(data, rng)), rng)

    device.feed = noisy  # type: ignore[method-assign]
    link = Link(wire, Patience(0.001, 0.001, 60), nonce=77)
    whole_session(link)
    assert wire.device.state() == quiet.device.state()


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    if not data or rng.random() > 0.2:
        return data
    changed = bytearray(data)
    at = int(rng.integers(0, len(data)))
    what = int(rng.integers(0, 4))
    if what == 0:
        changed[at] ^= 1 << int(rng.integers(0, 8))
    elif what == 1:
        del changed[at:]
    elif what == 2:
        changed[at:at] = rng.integers(0, 256, 9).astype(np.uint8).tobytes()
    else:
        changed += bytes(changed)
    return bytes(changed)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(EdgecError) as error:
        call()
    return str(error.value)


AFTER_0 = (
    "its last answer told of training step 0; weights saved before are safe, and no step is half applied"
)


def test_no_answer() -> None:
    link, wire = linked()
    wire.device.feed = lambda data: b""  # type: ignore[method-assign]
    assert refused(link.hello) == (
        "EDGEC-E822: check the cable of /dev/board, that it is powered, and that it speaks at 115200 baud: /dev/board "
        "gave no answer to hello in 2 tries of 0.01 s; its weights are as they were"
    )
    wire.device.feed = lambda data: b"\0boot: hello\0"  # type: ignore[method-assign]
    assert "in 2 tries of 0.01 s, but 2 damaged frames; its weights" in refused(link.hello)


def test_unplugged() -> None:
    link, wire = linked()
    link.hello()
    wire.to_device = 10
    assert refused(lambda: link.train(sample(0), label(0))) == (
        "EDGEC-E821: check the cable of /dev/board, that it is powered, and that it speaks at 115200 baud, then run "
        f"the command again: the link to /dev/board ended at train (device disconnected); {AFTER_0}"
    )


def test_another_version_of_the_protocol() -> None:
    device = Device()
    (answer,) = raw(device, Frame(Request.HELLO, 0, 0, 0, struct.pack("<HI", 9, 1)))
    assert (answer.status, answer.payload) == (Status.BAD_VERSION, VERSION.to_bytes(4, "little"))
    link, wire = linked()
    reply = Frame(Request.HELLO | ANSWER, Status.BAD_VERSION, 1, 0, (2).to_bytes(4, "little"))
    wire.device.feed = lambda data: encode(reply)  # type: ignore[method-assign]
    assert refused(link.hello) == (
        "EDGEC-E823: flash a firmware made by this edgec, or use the edgec that made it: /dev/board speaks version 2 "
        "of the protocol, this edgec version 1"
    )


def test_answers_of_a_wrong_length() -> None:
    link, wire = linked()
    hello = struct.pack("<HHII", VERSION, 8, 1, 2)

    def answered(payload: bytes) -> str:
        def feed(data: bytes) -> bytes:
            (asked,) = Decoder().feed(data)
            if asked.kind == Request.HELLO:
                nonce = asked.payload[2:6]
                body = payload[:8] + nonce + payload[12:]
                return encode(Frame(asked.kind | ANSWER, 0, asked.sequence, 0, body))
            return encode(Frame(asked.kind | ANSWER, 0, asked.sequence, asked.session, payload))

        wire.device.feed = feed  # type: ignore[method-assign]
        return refused(link.hello if payload.startswith(hello[:2]) else link.save)

    cure = "EDGEC-E823: flash a firmware made by this edgec, or use the edgec that made it: /dev/board gave "
    assert answered(hello) == f"{cure}an answer of 12 bytes, not 60, to hello; its weights are as they were"
    assert answered(hello + bytes(48)) == f"{cure}frames of 8 bytes, to hello; its weights are as they were"
    link, wire = linked()
    link.hello()
    assert answered(b"\0\0\0") == f"{cure}an answer of 3 bytes, not 4, to save; {AFTER_0}"


def test_weights_of_another_network_or_choice() -> None:
    link, wire = linked()
    weights = link.pull()
    before = wire.device.state()
    assert refused(lambda: link.push(weights, b"12345678", LAYOUT)) == (
        "EDGEC-E824: give weights that were pulled from a firmware of this network: those given belong to another "
        "network than /dev/board's (10677261706801ff)"
    )
    text = (
        "EDGEC-E825: give weights that were trained with the same --train and --scheme: those given belong to another "
        "choice of what trains than /dev/board's (206c61796f757402)"
    )
    assert refused(lambda: link.push(weights, GRAPH, b"12345678")) == text
    assert refused(lambda: link.push(weights[:-4], GRAPH, LAYOUT)) == text
    assert wire.device.state() == before


def test_a_device_that_started_anew() -> None:
    link, wire = linked()
    link.hello()
    wire.device.cut_power()
    assert refused(lambda: link.train(sample(0), label(0))) == (
        "EDGEC-E826: run the command again, with no other program on the port: /dev/board started anew before train, "
        f"with the weights saved last; {AFTER_0}"
    )


def test_another_program_on_the_port() -> None:
    link, wire = linked()
    link.hello()
    raw(wire.device, train(2, link.device.session, 5))
    assert refused(lambda: link.train(sample(0), label(0))) == (
        "EDGEC-E826: run the command again, with no other program on the port: /dev/board refused train: another "
        f"program has talked to it; {AFTER_0}"
    )


def test_a_loss_that_is_no_number() -> None:
    link, wire = linked()
    link.train(sample(0), label(0))
    before = wire.device.state()[:2]
    wild = np.full(SAMPLE_BYTES // 4, np.nan, "<f4").tobytes()
    assert refused(lambda: link.train(wild, label(0))) == (
        "EDGEC-E827: lower the learning rate, or check the sample and its label: /dev/board refused train: an argument "
        "is outside of its range (status 5), after training step 1"
    )
    assert wire.device.state()[:2] == before


def test_a_dead_flash() -> None:
    link, wire = linked()
    link.train(sample(0), label(0))
    weights = link.pull()
    wire.device.kill_flash()
    before = wire.device.state()
    assert refused(link.save) == (
        "EDGEC-E827: check the flash of the device; the weights in its RAM, and those saved before, are as they were: "
        "/dev/board refused save: invoke before init (status 4), after training step 1"
    )
    assert refused(lambda: link.push(weights, GRAPH, LAYOUT)) == (
        "EDGEC-E827: check the flash of the device; its weights are as they were: /dev/board refused weights commit: "
        "invoke before init (status 4), after training step 1"
    )
    assert wire.device.state() == before


def test_what_a_firmware_cannot_do() -> None:
    link, _ = linked(Device(flags=3))
    assert link.hello().flags == 4
    assert refused(link.save) == (
        "EDGEC-E829: flash a firmware that can, or do without: /dev/board refused save: its firmware cannot do that"
    )
    assert "refused load" in refused(link.load)
    assert refused(lambda: link.push(b"x", GRAPH, LAYOUT)).startswith("EDGEC-E829")


def test_values_out_of_range() -> None:
    link, wire = linked()
    before = wire.device.state()
    assert refused(lambda: link.train(sample(0), label(3))) == (
        "EDGEC-E82A: check the values given: /dev/board refused train: a value outside of its range"
    )
    for rate in (float("nan"), float("inf"), -0.5):
        assert refused(lambda: link.set_rate(rate)).startswith("EDGEC-E82A")  # noqa: B023
    assert wire.device.state() == before
    assert refused(lambda: link.train(b"short", label(0))) == (
        "EDGEC-E263: give a sample of 32 bytes, as /dev/board takes them: this one has 5"
    )


def test_weights_damaged_on_their_way() -> None:
    link, wire = linked()
    weights = link.pull()
    before = wire.device.state()
    link.request(Request.WEIGHTS_BEGIN, struct.pack("<II", len(weights), 1) + GRAPH + LAYOUT)
    link.request(Request.WEIGHTS_CHUNK, bytes(4) + weights)
    assert refused(lambda: link.request(Request.WEIGHTS_COMMIT)) == (
        "EDGEC-E82B: push the weights again: they came to /dev/board damaged, and it goes on with its own"
    )
    assert wire.device.state() == before


STATES = {
    "parts are missing": lambda link: link.request(Request.INFER),
    "a part that does not continue the one before, or exceeds the whole": lambda link: link.request(
        Request.INPUT, struct.pack("<BI", Request.TRAIN, 4)
    ),
    "no outputs are there: the sample has changed since infer": lambda link: link.request(
        Request.OUTPUT, struct.pack("<IH", 0, 4)
    ),
    "no weights are on their way": lambda link: link.request(Request.WEIGHTS_COMMIT),
    "the payload's length is not that of the request": lambda link: link.request(Request.SAVE, b"x"),
}


@pytest.mark.parametrize("text", STATES)
def test_requests_that_do_not_follow_the_protocol(text: str) -> None:
    link, wire = linked()
    before = wire.device.state()
    message = refused(lambda: STATES[text](link))
    assert message.startswith("EDGEC-E82A: check the values given: /dev/board refused ")
    assert message.endswith(f": {text}")
    assert wire.device.state() == before


def test_nothing_else_runs_while_weights_are_on_their_way() -> None:
    link, wire = linked()
    weights = link.pull()
    link.request(Request.WEIGHTS_BEGIN, struct.pack("<II", len(weights), 1) + GRAPH + LAYOUT)
    before = wire.device.state()
    assert refused(lambda: link.train(sample(0), label(0))) == (
        "EDGEC-E82A: check the values given: /dev/board refused train: weights are on their way: commit or abort them "
        "first"
    )
    assert wire.device.state() == before
    link.request(Request.WEIGHTS_ABORT)
    assert link.train(sample(0), label(0)).steps == 1


def test_an_unknown_request() -> None:
    device = Device()
    of = session(device)
    (answer,) = raw(device, Frame(99, 0, 1, of, b""))
    assert (answer.kind, answer.status) == (99 | ANSWER, Status.BAD_TYPE)


def test_samples_larger_than_a_frame_go_in_parts() -> None:
    link, wire = linked()
    link.hello()
    link._payload = 20  # as of a device with less room
    step = link.train(sample(0), label(2))
    other, other_wire = linked()
    assert other.train(sample(0), label(2)) == step
    assert wire.device.state() == other_wire.device.state()
    assert link.infer(sample(1)) == other.infer(sample(1))
    weights = other.pull()
    assert link.pull() == weights
    assert link.push(weights, GRAPH, LAYOUT) == 1


def test_user_error_class() -> None:
    with pytest.raises(UserError):
        linked()[0].train(b"", b"")
