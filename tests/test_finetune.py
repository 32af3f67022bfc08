"""Fine-tuning: an artifact's firmware on the host and on QEMU, the data it takes, and every error's text."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import edgec
from edgec.artifact import Artifact
from edgec.cli import main
from edgec.errors import EdgecError
from edgec.ir import Array, DType, Port, Type
from edgec.link import data as finetune_data
from edgec.link import finetune
from edgec.link import places as link_places
from edgec.link.finetune import Options
from edgec.link.frame import Decoder, Frame, encode, parse, unwrap
from edgec.link.host import Link, Transport
from edgec.training import firmware as training_firmware
from tests import link_devices


def digits(chosen: Array, count: int, begin: int = 0) -> dict[str, Array]:
    """`count` digits of the classes `chosen`, from number `begin` on."""
    x, y = load_digits(return_X_y=True)
    rows = np.flatnonzero(np.isin(y, chosen))[begin : begin + count]
    return {"input": (x[rows] / 16).astype(np.float32).reshape(-1, 1, 8, 8), "label": y[rows]}


OLD, NEW, ALL = np.arange(8), np.array([8, 9]), np.arange(10)


def network() -> torch.nn.Module:
    """A small network that knows the digits 0 to 7."""
    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 10),
    )  # fmt: skip
    known = digits(OLD, 900)
    x, y = torch.from_numpy(known["input"]), torch.from_numpy(known["label"])
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval()


def compiled(folder: Path, train: str, precision: str = "int8") -> Artifact:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return edgec.compile(
            network(), (torch.zeros(1, 1, 8, 8),), target="cortex-m7", out=folder, train=train, name="digits",
            calib={"input": digits(ALL, 64)["input"]}, precision=precision,
        )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An int8 network of which everything trains."""
    return compiled(tmp_path_factory.mktemp("made") / "digits", "full")


@pytest.fixture(autouse=True)
def factory(made: Artifact) -> None:
    """Nothing saved on the host's device."""
    (made.folder / "build" / "host" / "edgec.flash").unlink(missing_ok=True)


def tuned(made: Artifact, data: finetune.Data, **words: Any) -> finetune.Curve:
    """Artifact.finetune, with `options` in place of its numbers."""
    o = words.pop("options", Options())
    numbers = {"epochs": o.epochs, "lr": o.rate, "seed": o.seed, "replay_steps": o.replay, "save": o.save}
    return made.finetune(data, **numbers, factory=o.factory, **words)


TUNE = Options(epochs=1, rate=0.01, replay=3, seed=1)


def shares(score: finetune.Score, chosen: Array) -> float:
    return float(np.mean([score.by_class[int(c)] for c in chosen]))


def test_new_classes_are_learnt_and_the_replayed_ones_are_kept(made: Artifact) -> None:
    curve = tuned(
        made, digits(NEW, 200), test=digits(ALL, 300, 1000), replay=digits(OLD, 900), options=TUNE,
        replay_samples=200,
    )  # fmt: skip
    assert shares(curve.before, NEW) == 0.0
    assert shares(curve.after, NEW) >= 0.8
    assert shares(curve.after, OLD) >= shares(curve.before, OLD) - 0.12
    assert (curve.replay_kept, curve.replay_bytes) == (200, 200 * 68)
    assert curve.steps == 200 * 4 == 4 * len(curve.losses)
    assert np.mean(curve.losses[:20]) > 2 * np.mean(curve.losses[-20:])


def test_without_replay_the_old_classes_are_forgotten(made: Artifact) -> None:
    curve = tuned(made, digits(NEW, 200), test=digits(ALL, 300, 1000), options=TUNE)
    assert shares(curve.after, NEW) >= 0.9
    assert shares(curve.after, OLD) < shares(curve.before, OLD) - 0.3
    assert (curve.replay_kept, curve.replay_steps) == (0, 0)


@pytest.mark.qemu
@pytest.mark.parametrize("precision", ["int8", pytest.param("fp32", marks=pytest.mark.slow)])
def test_the_emulated_board_ends_with_the_hosts_weights_bit_for_bit(precision: str, tmp_path: Path) -> None:
    made = compiled(tmp_path / "made", "full", precision)
    curves = []
    for on in ("host", "qemu"):
        words = {"test": digits(ALL, 20, 1000), "replay": digits(OLD, 30), "options": replace(TUNE, replay=1)}
        curve = tuned(made, digits(NEW, 50), on=on, pull=tmp_path / f"{on}.npz", **words)
        curves.append(replace(curve, device=""))
    assert curves[0] == curves[1]
    assert (tmp_path / "host.npz").read_bytes() == (tmp_path / "qemu.npz").read_bytes()


def test_the_host_device_keeps_what_it_saved(made: Artifact) -> None:
    words = {"test": digits(ALL, 30, 1000), "options": TUNE}
    first = tuned(made, digits(NEW, 60), **words)
    again = tuned(made, digits(NEW, 60), **words)
    assert again.before == first.after
    assert again.steps == 2 * first.steps
    anew = tuned(made, digits(NEW, 60), test=words["test"], options=replace(TUNE, factory=True))
    assert anew == first


def test_weights_that_are_not_saved_are_gone(made: Artifact) -> None:
    words = {"test": digits(ALL, 30, 1000), "options": replace(TUNE, save=False)}
    first = tuned(made, digits(NEW, 40), **words)
    assert not first.saved
    assert tuned(made, digits(NEW, 40), **words) == first


def test_pulled_weights_are_pushed_to_another_device(made: Artifact, tmp_path: Path) -> None:
    words = {"test": digits(ALL, 30, 1000)}
    path = tmp_path / "weights.npz"
    first = tuned(made, digits(NEW, 40), options=TUNE, pull=path, **words)
    (made.folder / "build" / "host" / "edgec.flash").unlink()
    none = replace(TUNE, epochs=0, rate=None)
    second = tuned(made, digits(NEW, 40), options=none, push=path, **words)
    assert second.before == first.after
    third = tuned(made, digits(NEW, 40), options=none, **words)
    assert third.before == first.after  # pushed weights are saved weights


def stream_of_a_push(made: Artifact, flash: Path) -> tuple[bytes, tuple[bytes, bytes]]:
    """The host's bytes that give a device other weights and save them; its weights before and after."""
    transport = Recorded(training_firmware.opened(made, "host", 0))
    with contextlib.closing(transport):
        link = Link(transport, nonce=3)
        before = link.pull()
        learnt = bytearray(before)
        learnt[5] ^= 1
        del transport.sent[:]
        link.hello()
        link.push(bytes(learnt), link.device.graph_hash, link.device.layout_hash)
    flash.unlink()
    return bytes(transport.sent), (before, bytes(learnt))


@dataclass
class Recorded:
    """A transport that notes what the host writes."""

    inner: Transport
    sent: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.name, self.cure = self.inner.name, self.inner.cure
        self.read, self.close = self.inner.read, self.inner.close

    def write(self, data: bytes) -> None:
        self.sent += data
        self.inner.write(data)


def test_a_device_that_dies_while_weights_come_has_the_old_or_the_new_ones(made: Artifact) -> None:
    flash = made.folder / "build" / "host" / "edgec.flash"
    stream, (before, after) = stream_of_a_push(made, flash)
    ends = [i + 1 for i, byte in enumerate(stream) if byte == 0 and stream[i + 1 : i + 2] in (b"\0", b"")]
    assert len(ends) >= 6
    session = np.random.default_rng(0).integers(0, len(stream), 30).tolist()
    found = set()
    for cut in sorted({*session, *ends[-3:], len(stream) - 1, len(stream)}):
        flash.unlink(missing_ok=True)
        transport = training_firmware.opened(made, "host", 0)
        assert isinstance(transport, link_places.Program)
        replayed(transport, stream[:cut])
        with contextlib.closing(training_firmware.opened(made, "host", 0)) as again:
            weights = Link(again).pull()
        assert weights in (before, after), cut
        found.add(weights == after)
    assert found == {False, True}


def replayed(transport: link_places.Program, stream: bytes) -> None:
    """Gives the device these bytes as the host did, in a session of its own, and kills it when it has answered."""
    decoder, session = Decoder(), 0
    for piece in stream.split(b"\0"):
        if not piece:
            continue
        data = unwrap(piece)
        frame = None if data is None else parse(data)
        if frame is None:
            transport.write(b"\0" + piece)  # the last one, cut short
            continue
        transport.write(encode(replace(frame, session=session)))
        answers: list[Frame] = []
        while not answers:
            answers = decoder.feed(transport.read(5.0))
        session = answers[0].session
    transport._process.kill()
    transport.close()


def test_a_tenth_is_held_out_where_no_test_is_given(made: Artifact) -> None:
    curve = tuned(made, digits(NEW, 60), options=replace(TUNE, save=False))
    assert len(curve.losses) == 54


def refused(call: object, *words: object, **named: object) -> str:
    with pytest.raises(EdgecError) as error:
        call(*words, **named)  # type: ignore[operator]
    return str(error.value)


def test_labels_that_are_no_class(made: Artifact) -> None:
    data = digits(ALL, 30)
    data["label"] = np.where(np.arange(30) == 7, 12, data["label"])
    assert refused(tuned, made, data) == (
        "EDGEC-E265: give whole numbers from 0 to 9 as label, the network has 10 classes: the data has 1 others, the "
        "first is 12 at sample 7"
    )
    data["label"] = data["label"] - 0.5
    assert "has 30 others, the first is -0.5 at sample 0" in refused(tuned, made, data)


def test_data_without_labels(made: Artifact) -> None:
    assert refused(tuned, made, {"input": digits(ALL, 5)["input"]}) == (
        "EDGEC-E262: add an array named label, one entry a sample: the data holds input"
    )


def test_data_that_is_not_there_or_too_little(made: Artifact, tmp_path: Path) -> None:
    assert refused(tuned, made, tmp_path / "none.npz") == (
        f"EDGEC-E222: check the path: data {tmp_path}/none.npz does not exist"
    )
    assert refused(tuned, made, tmp_path) == (
        f"EDGEC-E260: put train.npz into it, or one folder a class with one .npy a sample: {tmp_path} has neither"
    )
    assert refused(tuned, made, digits(ALL, 1)) == (
        "EDGEC-E266: give at least two samples, or --test FILE.npz: the data has 1 to train and test on"
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"epochs": -1}, "give --epochs from 0 up, not -1"),
        ({"rate": float("nan")}, "give --lr as a number from 0 up, not nan"),
        ({"replay": 256}, "give --replay-steps from 0 to 255, not 256"),
    ],
)
def test_options_out_of_range(made: Artifact, words: Mapping[str, float], text: str) -> None:
    options = Options(**words)
    assert refused(tuned, made, digits(ALL, 5), options=options) == f"EDGEC-E267: {text}"


def test_a_learning_rate_that_is_too_high(made: Artifact, tmp_path: Path) -> None:
    fp32 = compiled(tmp_path / "fp32", "full", "fp32")
    wild = replace(TUNE, rate=1e30)
    message = refused(tuned, fp32, digits(ALL, 50), options=wild)
    assert re.fullmatch(
        r"EDGEC-E82D: lower --lr \(it is 1e\+30\), or look at sample \d+ of the data: the host program refused train: "
        r"the loss is not finite \(status 6\), after training step \d+; the weights are as before the step, those of "
        r"this epoch were not saved",
        message,
    )
    again = tuned(fp32, digits(ALL, 50), options=replace(TUNE, epochs=0, rate=None))
    assert again.steps == 0


def test_samples_know_their_places_in_the_data() -> None:
    labels = np.random.default_rng(0).integers(0, 12, 40)
    whole = finetune_data.to_device({"x": np.arange(160.0).reshape(40, 4), "label": labels}, X, "data")
    for part in (*finetune_data.split(whole, 0.2, 3), finetune_data.spread(whole, 20, 1)):
        assert part.inputs == tuple(whole.inputs[i] for i in part.numbers)


class Positions(torch.nn.Module):
    """A class for each of seven positions: the first number that is largest."""

    def __init__(self, positions: int = 7) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(5, 4)
        self.inputs = (torch.zeros(1, positions, 5),)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)  # type: ignore[no-any-return]


def positions(folder: Path, count: int) -> Artifact:
    net = Positions(count).eval()
    return edgec.compile(
        net, net.inputs, target="host", out=folder, train="head", name="positions", precision="fp32"
    )


def test_labels_of_several_positions(tmp_path: Path) -> None:
    made = positions(tmp_path / "made", 7)
    x = np.random.default_rng(0).normal(size=(60, 7, 5)).astype(np.float32)
    label = x[:, :, :4].argmax(2)
    curve = made.finetune({"x": x, "label": label}, epochs=8, lr=0.5)
    assert curve.after.accuracy is not None
    assert 0.9 < curve.after.accuracy <= 1.0
    assert curve.after.by_class == {}
    label[3, 5] = 4
    assert refused(made.finetune, {"x": x, "label": label}) == (
        "EDGEC-E265: give whole numbers from 0 to 3 as label, the network has 4 classes: the data has 1 others, the "
        "first is 4 at sample 3"
    )
    with contextlib.closing(training_firmware.opened(made, "host", 0)) as transport:
        link = Link(transport)
        before = link.stats().crc
        text = refused(link.train, x[0].tobytes(), label[3].astype(np.int32).tobytes())
        assert text.startswith(
            "EDGEC-E82A: check the values given: the host program refused train: a value outside"
        )
        assert link.stats().crc == before


def test_what_a_firmware_refuses_leaves_its_weights(tmp_path: Path) -> None:
    """Sent past the checks of the host: numbers that are none, labels that are no class, rates below 0."""
    made = positions(tmp_path / "made", 1)
    x, broken = np.ones((2, 1, 5), np.float32)
    broken[0, 3] = np.nan
    with contextlib.closing(training_firmware.opened(made, "host", 0)) as transport:
        link = Link(transport)
        link.train(x.tobytes(), np.int32(2).tobytes())
        before = link.stats().crc
        text = "the host program refused {}: the loss is not finite (status 6), after training step 1"
        assert refused(link.train, broken.tobytes(), np.int32(2).tobytes()) == (
            "EDGEC-E827: lower the learning rate, or check the sample and its label: " + text.format("train")
        )
        assert refused(link.evaluate, broken.tobytes(), np.int32(2).tobytes()) == (
            "EDGEC-E827: reset the weights, or check the sample and its label: " + text.format("evaluate")
        )
        said = "EDGEC-E82A: check the values given: the host program refused {}: a value outside of its range"
        for label in (4, -1, 2**31 - 1, -(2**31)):
            assert refused(link.train, x.tobytes(), np.int32(label).tobytes()) == said.format("train")
        for rate in (-1.0, np.inf, np.nan):
            assert refused(link.set_rate, rate) == said.format("rate")
        assert link.stats().crc == before
        assert link.stats().steps == 1


def test_a_label_too_long_for_a_frame(tmp_path: Path) -> None:
    made = positions(tmp_path / "made", 300)
    x = np.zeros((4, 300, 5), np.float32)
    assert refused(made.finetune, {"x": x, "label": np.zeros((4, 300), np.int32)}) == (
        "EDGEC-E829: train through the C API (docs/training.md): a label of 1,200 bytes does not go over the link to "
        "the host program, whose frames hold 1,024"
    )


@pytest.mark.parametrize(("word", "code"), [("pull", "EB08"), ("curve", "EB04"), ("plot", "EB04")])
def test_files_that_cannot_be_written_are_told_before_training(
    made: Artifact, tmp_path: Path, word: str, code: str
) -> None:
    path = tmp_path / "none" / "file.png"
    assert refused(tuned, made, digits(ALL, 10), **{word: path}) == (
        f"EDGEC-{code}: choose a place that can be written: {path}: No such file or directory"
    )
    assert not (made.folder / "build" / "host" / "edgec.flash").exists()


def test_an_artifact_that_only_infers(tmp_path: Path) -> None:
    infers = compiled(tmp_path / "infers", "none")
    assert refused(tuned, infers, digits(ALL, 5)) == (
        f"EDGEC-E269: compile the model again with --train (edgec compile --help): {tmp_path}/infers only infers"
    )


def test_the_firmware_of_another_artifact(
    made: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = compiled(tmp_path / "other", "head")
    opened = training_firmware.opened
    monkeypatch.setattr(training_firmware, "opened", lambda m, on, replay: opened(made, on, replay))
    own, theirs = other.manifest["training"]["layout_hash"], made.manifest["training"]["layout_hash"]
    assert other.manifest["training"]["graph_hash"] == made.manifest["training"]["graph_hash"]
    assert refused(tuned, other, digits(ALL, 20)) == (
        f"EDGEC-E824: flash the firmware of {tmp_path}/other: the host program runs a firmware in which other weights "
        f"train, digits ({theirs}, not {own})"
    )
    monkeypatch.setattr(
        training_firmware,
        "opened",
        lambda m, on, replay: link_places.on_host(link_devices.host_program(), tmp_path / "flash"),
    )
    assert "the host program runs another network, one_layer" in refused(tuned, made, digits(ALL, 20))


def test_files_that_hold_no_weights(made: Artifact, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", weights=np.zeros(4, np.uint8))
    assert refused(tuned, made, digits(ALL, 5), push=tmp_path / "w.npz") == (
        f"EDGEC-E26A: give a file that `edgec finetune --pull` wrote: {tmp_path}/w.npz has no proper graph_hash"
    )


def test_weights_of_another_choice_of_what_trains(made: Artifact, tmp_path: Path) -> None:
    head = compiled(tmp_path / "head", "head")
    none = replace(TUNE, epochs=0)
    tuned(head, digits(ALL, 10), options=none, pull=tmp_path / "head.npz")
    message = refused(tuned, made, digits(ALL, 10), options=none, push=tmp_path / "head.npz")
    assert message.startswith(
        "EDGEC-E825: give weights that were trained with the same --train and --scheme: "
    )


def test_a_target_whose_boards_have_no_uart(tmp_path: Path) -> None:
    made = compiled(tmp_path / "made", "head")
    made.target = replace(made.target, emulator=None, emulator_large=None)
    assert refused(tuned, made, digits(ALL, 10), on="qemu") == (
        "EDGEC-E268: use --on host or a device: no emulated board of cortex-m7 has a UART to train over"
    )


X = finetune_data.Ports(
    ((Port("x", "x", (0, 1)), Type((1, 4), DType.F32)),),
    (Port("label", "label", (0,)), Type((1,), DType.I32)),
    12,
)


def test_one_folder_a_class(tmp_path: Path) -> None:
    for name, count in (("cat", 2), ("dog", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            np.save(tmp_path / name / f"{i}.npy", np.full((1, 4), len(name) + i, np.float32))
    found = finetune_data.to_device(finetune_data.read(tmp_path, X)[0], X, "data")
    assert found.classes == (0, 0, 1)
    assert np.frombuffer(found.inputs[1], np.float32).tolist() == [4.0] * 4
    (tmp_path / "cat").rename(tmp_path / "11")
    (tmp_path / "dog").rename(tmp_path / "3")
    assert finetune_data.to_device(finetune_data.read(tmp_path, X)[0], X, "data").classes == (11, 11, 3)
    np.save(tmp_path / "3" / "9.npy", np.zeros((1, 5), np.float32))
    assert refused(finetune_data.read, tmp_path, X) == (
        f"EDGEC-E261: give all samples one shape: {tmp_path}/3/9.npy has [1, 5], {tmp_path}/11/0.npy has [1, 4]"
    )
    (tmp_path / "3" / "9.npy").write_bytes(b"no array")
    assert refused(finetune_data.read, tmp_path, X).startswith(
        f"EDGEC-E261: save the sample with numpy.save: {tmp_path}/3/9.npy is not a readable .npy ("
    )


def test_the_replay_buffer_takes_of_all_classes_alike() -> None:
    labels = np.repeat(np.arange(4), (50, 5, 5, 5))
    arrays = {"x": np.zeros((65, 4), np.float32), "label": labels}
    found = finetune_data.spread(finetune_data.to_device(arrays, X, "data"), 12, 0)
    assert np.bincount(found.classes).tolist() == [3, 3, 3, 3]


def test_the_command_writes_curve_plot_and_weights(
    made: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("new.npz", **digits(NEW, 40))
    np.savez("test.npz", **digits(ALL, 30, 1000))
    words = [
        "finetune",
        str(made.folder),
        "--data",
        "new.npz",
        "--test",
        "test.npz",
        "--lr",
        "0.01",
        "--epochs",
        "2",
    ]
    assert main([*words, "--curve", "c.json", "--plot", "c.svg", "--pull", "w.npz", "--json"]) == 0
    answer = capsys.readouterr()
    curve = json.loads(answer.out)
    assert curve == json.loads((tmp_path / "c.json").read_text())
    assert (len(curve["losses"]), len(curve["epochs"]), curve["saved"]) == (80, 2, True)
    assert "epoch 2      loss " in answer.err
    assert (tmp_path / "c.svg").read_text().startswith("<?xml")
    assert sorted(np.load("w.npz").files) == ["graph_hash", "layout_hash", "weights"]
    assert main([*words, "--plot", "c.png", "-q", "--factory"]) == 0
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.startswith(
        "digits on the host program: 80 training steps, saved on the device\n"
    )
    assert main([*words, "--plot", "c.gif"]) == 2
    assert capsys.readouterr().err == "EDGEC-E26B: name the plot .png or .svg: c.gif\n"
