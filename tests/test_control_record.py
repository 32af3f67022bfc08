"""Recordings and replays: everything comes back, torn and foreign files are told, the first difference is named."""

from __future__ import annotations

import ctypes
import re
import struct
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from control_programs import MEMORY_SANITIZER, PLAIN, THREAD_SANITIZER, build, run, values
from control_rules import broken

from edgec.control.core import CAxis, CConfig, CModel, c_config, library
from edgec.control.faults import FAULTS, Rate, Script, Surroundings, Trial
from edgec.control.loop import Loop
from edgec.control.record import EVENTS, Recorder, Recording, RecordingFile, parse, read, settings_hash
from edgec.control.replay import replay
from edgec.control.settings import MODES, Axis, Estimate, Mode, Settings
from edgec.errors import UserError

PERIOD = 10_000_000
AXES = (Axis("delta", (-1.0, 1.0), position=0), Axis("absolute", (-1.0, 1.0), position=1, motion_max=0.25))
BASE = Settings(
    "vlash", 100.0, horizon=8, execute=4, states=3, axes=AXES, delay=2, stop_after=3, stop_periods=2
)
PATH = Path("some.rec")
RATES = {fault: Rate(0.02, 1, 5) for fault in FAULTS}
AROUND = Surroundings(latency=(1.0, 3.0), reset_after=2, excess=1.2, stop_every=301)


def recorded(
    settings: Settings = BASE, periods: int = 60, *, model: object = None, ring: int | None = None
) -> bytes:
    """A loop whose policy answers two periods later, asked to stop in period 40 and reset in 50."""
    recorder = Recorder(settings, policy=bytes(range(32)), model=model, ring_bytes=ring)
    loop = Loop(settings, recorder=recorder, model=model)
    due, parts = (10**9, 0), []
    for tick in range(periods):
        if tick >= due[0]:
            chunk = np.full((settings.horizon, len(settings.axes)), 0.01 * due[1], np.float32)
            loop.deliver(due[1], chunk, tick * PERIOD - 5)
            due = (10**9, 0)
        state = np.array([0.1 * tick, 0.2, -0.3], np.float32)
        question = loop.begin(tick * PERIOD, state, frame=tick + 1, overrun=tick == 7, lateness_ns=tick)
        due = (tick + 2, question.sequence) if question is not None else due
        loop.end()
        if tick == 39:
            loop.stop()
        if tick == 49:
            loop.reset()
        if ring is None:
            parts.append(recorder.take())
    return b"".join(parts) + recorder.take()


def test_what_went_in_and_came_out_is_read_back() -> None:
    found = parse(recorded(), PATH)
    assert found.settings.axes == BASE.axes and found.policy == bytes(range(32)) and found.dropped == 0
    p = found.periods
    assert p["tick"].tolist() == list(range(60))
    assert p["lateness"].tolist() == list(range(60))
    assert np.flatnonzero(p["overrun"]).tolist() == [7]
    assert p["state"][:, 0].tobytes() == np.array([0.1 * t for t in range(60)], np.float32).tobytes()
    chunk = found.chunks[0]
    assert (chunk["sequence"], chunk["published"], chunk["tick"]) == (1, 2 * PERIOD - 5, 2)
    assert (chunk["action"] == np.float32(0.01)).all()
    assert found.questions["delay"].tolist() == [2] * len(found.questions)
    assert [(EVENTS[e["kind"] - 1], e["tick"]) for e in found.events] == [
        ("asked-stop", 40),
        ("stop", 40),
        ("reset", 50),
    ]


def test_the_settings_come_back_whatever_they_are() -> None:
    axis = Axis(
        "lag", (-0.7, 0.9), position=1, alpha=0.3, rate=0.25, motion_max=0.6, change_max=0.31, jerk_max=0.2
    )
    wheel = Axis(
        "acceleration", (-1, 1), position=0, velocity=2, gain=0.3, travel=0.7, brake=0.4, brake_max=0.9
    )
    angle = Axis("velocity", (-1, 1), position=0, wraps=True, action_scale=0.3, action_offset=0.01)
    given = replace(
        BASE,
        mode="ensemble",
        rate_hz=333.3,
        axes=(axis, wheel, angle),
        delay=-1,
        delay_min=1,
        delay_trained=3,
        beyond="stop",
        continuous=True,
        ensemble_decay=0.37,
        extra=3,
        late="play",
        late_tolerance=2,
        stall_s=0.123456789,
        age_max_s=0.0317,
        frozen_max=7,
        overrun_max=9,
        absurd=2.5,
        estimate=Estimate(window=17, warm_up=3, calm=5, share=0.93, guard=0.137, first=2),
        state_scale=(0.1, 2.0, 3.0),
        state_offset=(1.0, 0.3, 0.7),
    )
    found = parse(Recorder(given).take(), PATH)
    assert settings_hash(found.settings) == found.settings_hash == settings_hash(given)
    one, other = c_config(found.settings), c_config(given)
    for name, _ in CConfig._fields_:
        if name not in ("estimate", "axis", "state_scale", "state_offset"):
            assert getattr(one, name) == getattr(other, name), name
    assert bytes(one.estimate) == bytes(other.estimate)
    for i in range(3):
        assert bytes(one.axis[i]) == bytes(other.axis[i])
        assert one.state_scale[i] == other.state_scale[i] and one.state_offset[i] == other.state_offset[i]


def test_every_number_of_the_settings_is_in_the_hash() -> None:
    config = c_config(BASE)
    c = library()
    hashes = {c.ec_settings_hash(config)}
    pointers = ("axis", "state_scale", "state_offset", "model", "model_user", "estimate")
    plain = [name for name, _ in CConfig._fields_ if name not in (*pointers, "axes", "states")]
    places = [(config, name) for name in plain]
    places += [(config.estimate, name) for name, _ in type(config.estimate)._fields_]
    places += [(config.axis[1], name) for name, _ in CAxis._fields_]
    for place, name in places:
        before = getattr(place, name)
        setattr(place, name, 3 if before != 3 else 4)
        hashes.add(c.ec_settings_hash(config))
        setattr(place, name, before)
    assert len(hashes) == len(places) + 1


@pytest.mark.parametrize("mode", MODES)
def test_a_replay_gives_every_action_bit_for_bit(mode: Mode) -> None:
    made = Trial(replace(BASE, mode=mode, absurd=3.0, stall_s=0.1), AROUND, Script(seed=3, rates=RATES))
    found = parse(made.run(4_000), PATH)
    assert len(found.happened("stop")) > 10
    done = replay(found)
    assert done.same and done.periods == 4_000
    assert done.records == sum(
        map(len, (found.observations, found.questions, found.chunks, found.actions, found.events))
    )


def test_a_replay_from_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.rec"
    recorder = Recorder(BASE)
    with RecordingFile(path, recorder):
        loop = Loop(BASE, recorder=recorder)
        for tick in range(500):
            question = loop.begin(tick * PERIOD, np.zeros(3, np.float32))
            if question is not None:
                loop.deliver(question.sequence, np.full((8, 2), 0.1, np.float32), tick * PERIOD)
            loop.end()
    found = read(path)
    assert replay(found).periods == 500 and replay(found).same
    assert broken(found) == []


def altered(found: Recording, data: bytes, rows: np.ndarray, at: int, offset: int, value: bytes) -> bytes:
    """`data` with other bytes in the content of a record, and the CRC-32 of that."""
    start = data.index(rows[at].tobytes())
    size = int(rows[at]["bytes"])
    new = bytearray(data[start : start + size])
    new[32 + offset : 32 + offset + len(value)] = value
    new[:4] = struct.pack("<I", zlib.crc32(new[4:]))
    return data[:start] + bytes(new) + data[start + size :]


def test_the_first_other_action_is_named_with_its_period_and_values() -> None:
    data = recorded()
    found = parse(data, PATH)
    other = parse(altered(found, data, found.actions, 20, 32, struct.pack("<f", 0.5)), PATH)
    done = replay(other)
    assert not done.same and done.periods == 20
    assert done.difference is not None
    was = float(found.actions[20]["action"][0])
    assert (done.difference.tick, done.difference.record) == (20, "action")
    assert done.difference.recorded == {"action": [0.5, float(found.actions[20]["action"][1])]}
    assert str(done.difference).startswith("period 20, action: recorded action [0.5, ")
    assert f"but [{was}, " in str(done.difference)


def test_another_state_shows_in_the_next_question_and_another_chunk_in_its_action() -> None:
    data = recorded()
    found = parse(data, PATH)
    asked = int(found.questions[2]["tick"])
    done = replay(parse(altered(found, data, found.observations, asked, 32, struct.pack("<f", 9.0)), PATH))
    assert done.difference is not None
    assert (done.difference.tick, done.difference.record) == (asked, "question")
    done = replay(parse(altered(found, data, found.chunks, 1, 24, struct.pack("<f", 0.9)), PATH))
    assert done.difference is not None and done.difference.record == "action"


def test_a_record_that_only_one_side_has_is_named() -> None:
    data = recorded()
    found = parse(data, PATH)
    question = found.questions[1]
    start = data.index(question.tobytes())
    rest = bytearray(data[start + int(question["bytes"]) :])
    at = 0
    while at < len(rest):  # numbers without a gap
        size, number = struct.unpack_from("<IQ", rest, at + 4)
        struct.pack_into("<Q", rest, at + 8, number - 1)
        struct.pack_into("<I", rest, at, zlib.crc32(rest[at + 4 : at + size]))
        at += size
    done = replay(parse(data[:start] + bytes(rest), PATH))
    assert str(done.difference) == f"period {question['tick']}: only the replay has this question"


def test_what_finds_no_room_is_counted_and_the_replay_says_from_where() -> None:
    ring = 1 << 15
    data = recorded(ring=ring, periods=2_000)
    found = parse(data, PATH)
    assert found.dropped == 0 and len(data) <= ring  # all that came after is lost
    recorder = Recorder(BASE, ring_bytes=ring)
    loop = Loop(BASE, recorder=recorder)
    data = b""
    for tick in range(1_000):
        loop.begin(tick * PERIOD, np.zeros(3, np.float32))
        loop.end()
        if tick == 700:
            data = recorder.take()
    data += recorder.take()
    found = parse(data, PATH)
    assert 0 < found.dropped <= recorder.dropped  # what is lost at the very end leaves no gap
    done = replay(found)
    assert not done.same and done.difference is None
    assert done.gap_at is not None and done.periods <= done.gap_at <= 701
    assert (found.periods["tick"] > done.gap_at).any()


def test_a_torn_file_is_told_and_its_whole_part_read() -> None:
    data = recorded()
    whole = parse(data, PATH)
    size = struct.unpack_from("<I", data, 12)[0]
    for cut in (len(data) - 1, len(data) - 40, size + 7, len(data) // 2):
        text = r"^EDGEC-E29A: read some.rec with torn=True to have what is whole: from byte \d+ on it is damaged or "
        text += r"cut short, after \d+ records \(period \d+\)$"
        with pytest.raises(UserError, match=text):
            parse(data[:cut], PATH)
        part = parse(data[:cut], PATH, torn=True)
        assert whole.records.startswith(part.records)
        assert len(part.records) + part.torn_bytes == cut - size
        assert replay(part).same
    spoiled = bytearray(data)
    spoiled[len(data) // 2] ^= 1
    assert 0 < len(parse(bytes(spoiled), PATH, torn=True).records) < len(whole.records)
    with pytest.raises(UserError, match="EDGEC-E29A"):
        parse(data[: size - 9], PATH, torn=True)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    data = recorded()
    with pytest.raises(
        UserError, match=r"^EDGEC-E298: give a recording of a control loop: some.rec is none$"
    ):
        parse(b"PK\x03\x04" + data, PATH)
    newer = data[:8] + struct.pack("<I", 9) + data[12:]
    text = "EDGEC-E299: read some.rec with the edgec that wrote it: its version is 9, this edgec reads 1"
    with pytest.raises(UserError, match=f"^{re.escape(text)}$"):
        parse(newer, PATH)
    recorder = Recorder(BASE)
    with pytest.raises(
        UserError, match=r"^EDGEC-EB0A: choose a place that can be written: .*run.rec: No such file"
    ):
        RecordingFile(tmp_path / "no" / "run.rec", recorder)


def test_a_full_disk_is_told_at_the_end() -> None:
    recorder = Recorder(BASE)
    text = "^EDGEC-EB0A: free space or choose another place: /dev/full: No space left on device$"
    with pytest.raises(UserError, match=text), RecordingFile(Path("/dev/full"), recorder):
        pass


def test_a_replay_with_other_settings_is_refused() -> None:
    found = parse(recorded(), PATH)
    assert replay(found, settings=BASE).same
    other = replace(BASE, extra=1)
    text = f"EDGEC-E29B: replay with the settings of the recording: its hash is {found.settings_hash:016x}, that of "
    text += f"these settings {settings_hash(other):016x}; first, extra 0 is 1"
    with pytest.raises(UserError, match=f"^{re.escape(text)}$"):
        replay(found, settings=other)


def test_a_robot_with_a_model_needs_it_for_its_replay() -> None:
    @CModel
    def model(
        _: object, state: ctypes._Pointer[ctypes.c_float], action: ctypes._Pointer[ctypes.c_float]
    ) -> None:
        state[2] = state[2] * 0.5 + action[1]

    @CModel
    def another(
        _: object, state: ctypes._Pointer[ctypes.c_float], action: ctypes._Pointer[ctypes.c_float]
    ) -> None:
        state[2] = state[2] * 0.25 + action[1]

    given = replace(BASE, axes=(AXES[0], Axis("model", (-1.0, 1.0))))
    found = parse(recorded(given, model=model), PATH)
    text = "^EDGEC-E29C: give the robot's model: the recording was made with one, and holds no function$"
    with pytest.raises(UserError, match=text):
        replay(found)
    assert replay(found, model=model).same
    done = replay(found, model=another)
    assert done.difference is not None and done.difference.record == "question"


@pytest.mark.parametrize("ring", [1 << 10, 3 << 15])
def test_rings_that_cannot_be_are_refused(ring: int) -> None:
    text = (
        r"^EDGEC-E29D: give a ring that is a power of two of at least \d+ bytes, and a hash of 32 bytes: not "
    )
    with pytest.raises(UserError, match=rf"{text}{ring} and 32 bytes$"):
        Recorder(BASE, ring_bytes=ring)


def test_a_thread_that_drains_sees_whole_records_only() -> None:
    """Through a small ring, as fast as both can: nothing is torn, what is missing is counted."""
    recorder = Recorder(BASE, ring_bytes=1 << 15)
    parts: list[bytes] = []
    done = threading.Event()

    def drain() -> None:
        while not done.is_set():
            parts.append(recorder.take())

    thread = threading.Thread(target=drain)
    thread.start()
    loop = Loop(BASE, recorder=recorder)
    for tick in range(20_000):
        loop.begin(tick * PERIOD, np.zeros(3, np.float32))
        loop.end()
    done.set()
    thread.join()
    parts.append(recorder.take())
    found = parse(b"".join(parts), PATH)
    assert (
        len(found.observations)
        + len(found.actions)
        + len(found.questions)
        + len(found.events)
        + recorder.dropped
        >= 40_000
    )
    assert found.dropped <= recorder.dropped  # those at the very end leave no gap


@pytest.mark.parametrize(
    ("flags", "periods"), [(PLAIN, 1_000_000), (THREAD_SANITIZER, 100_000), (MEMORY_SANITIZER, 100_000)]
)
def test_two_threads_at_one_ring_damage_and_lose_nothing_unseen(flags: tuple[str, ...], periods: int) -> None:
    done = run(build(("control_recorder.c",), flags), periods)
    assert done.returncode == 0, done.stdout + done.stderr
    found = values(done.stdout)
    assert found["recorded"] == 2 * periods + 1 == found["drained"] + found["dropped"]
    assert found["drained"] > 1_000
