"""Model files made to harm: none of them runs code, and each is refused with the code that names the cause.

Every doctored pickle, expression or target would create a marker file; the tests look for it afterwards.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.errors import UserError
from edgec.frontends import LoadOptions, load
from edgec.frontends.checkpoint import load_file


class Bomb:
    """An object whose pickle creates `path` when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.mkdir, (str(self.path),)


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.gain = torch.ones(2)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.linear(x) * self.gain


def make_small():  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return Small(), (torch.ones(1, 3),)


FACTORY = "tests.test_unsafe_files:make_small"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code_was_run"


@pytest.fixture(scope="module")
def exported() -> dict[str, bytes]:
    module, inputs = make_small()
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module.eval(), inputs), buffer)
    return records_of(buffer.getvalue())


def records_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def record(records: dict[str, bytes], ending: str) -> str:
    return next(name for name in records if name.endswith(ending))


def refused(path: Path, code: str, marker: Path, factory: str | None = FACTORY) -> str:
    """The refusal's message; asserts its code and that nothing was run."""
    with pytest.raises(UserError) as error:
        load(path, LoadOptions(model=factory if path.suffix == ".pt" else None))
    assert error.value.code == code, error.value.message
    assert error.value.exit_code == 3
    assert not marker.exists()
    return error.value.message


def test_pickle_that_runs_code_in_a_state_dict_is_refused(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(saved({"linear.weight": Bomb(marker)}))
    assert "imports 'posix.mkdir'" in refused(path, "EDGEC-E310", marker)


def test_trust_lets_the_same_state_dict_run_its_code(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(saved({"linear.weight": Bomb(marker)}))
    with pytest.raises(UserError, match="holds something else"):
        load(path, LoadOptions(model=FACTORY, trust=True))
    assert marker.exists()


def test_pickle_protocol_4_is_refused_by_its_opcode(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(saved({"linear.weight": Bomb(marker)}, pickle_protocol=4))
    assert "uses the opcode FRAME" in refused(path, "EDGEC-E310", marker)


def test_sample_inputs_that_run_code_are_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes]
) -> None:
    name = record(exported, "sample_inputs/model.pt")
    path = write(tmp_path / "m.pt2", exported | {name: saved(((Bomb(marker),), {}))})
    assert "sample_inputs" in refused(path, "EDGEC-E310", marker)


def test_torch_itself_runs_the_code_in_sample_inputs(
    tmp_path: Path, marker: Path, exported: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason for the check: this test tells when torch no longer needs it."""
    name = record(exported, "sample_inputs/model.pt")
    path = write(tmp_path / "m.pt2", exported | {name: saved(((Bomb(marker),), {}))})
    monkeypatch.setattr(logging, "raiseExceptions", False)  # its warning about this has a format error
    with contextlib.suppress(Exception):
        torch.export.load(path)
    assert marker.exists()


@pytest.mark.parametrize(("kind", "payload"), [("weights", "weight_0"), ("constants", "tensor_0")])
def test_pickled_payload_that_runs_code_is_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes], kind: str, payload: str
) -> None:
    config = record(exported, f"{kind}_config.json")
    parsed = json.loads(exported[config])
    entry = next(e for e in parsed["config"].values() if e["path_name"] == payload)
    entry["use_pickle"] = True
    doctored = {config: json.dumps(parsed).encode(), record(exported, payload): saved(Bomb(marker))}
    refused(write(tmp_path / "m.pt2", exported | doctored), "EDGEC-E310", marker)


@pytest.mark.parametrize("payload", ["opaque_obj_0", "custom_obj_0", "../weights/weight_0"])
def test_constant_that_is_no_tensor_is_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes], payload: str
) -> None:
    config = record(exported, "constants_config.json")
    parsed = json.loads(exported[config])
    next(iter(parsed["config"].values()))["path_name"] = payload
    doctored = {
        config: json.dumps(parsed).encode(),
        f"archive/data/constants/{Path(payload).name}": pickle.dumps(Bomb(marker)),
    }
    refused(write(tmp_path / "m.pt2", exported | doctored), "EDGEC-E312", marker)


def test_legacy_weights_record_that_runs_code_is_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes]
) -> None:
    doctored = {"archive/data/weights/model.pt": saved({"linear.weight": Bomb(marker)})}
    refused(write(tmp_path / "m.pt2", exported | doctored), "EDGEC-E310", marker)


def test_raw_pickle_in_place_of_a_saved_archive_is_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes]
) -> None:
    name = record(exported, "sample_inputs/model.pt")
    refused(write(tmp_path / "m.pt2", exported | {name: pickle.dumps(Bomb(marker))}), "EDGEC-E310", marker)


def doctored_program(tmp_path: Path, exported: dict[str, bytes], change) -> Path:  # type: ignore[no-untyped-def]
    name = record(exported, "models/model.json")
    program = json.loads(exported[name])
    change(program)
    return write(tmp_path / "m.pt2", exported | {name: json.dumps(program).encode()})


def with_size_expression(tmp_path: Path, marker: Path, exported: dict[str, bytes]) -> Path:
    code = f"__import__('os').mkdir({str(marker)!r})"

    def change(program) -> None:  # type: ignore[no-untyped-def]
        values = program["graph_module"]["graph"]["tensor_values"]
        values["x"]["sizes"][0] = {"as_expr": {"expr_str": code, "hint": {"as_int": 1}}}

    return doctored_program(tmp_path, exported, change)


def test_torch_itself_evaluates_the_code_in_a_size_expression(
    tmp_path: Path, marker: Path, exported: dict[str, bytes]
) -> None:
    path = with_size_expression(tmp_path, marker, exported)
    with contextlib.suppress(Exception):
        torch.export.load(path)
    assert marker.exists()


def test_size_expression_that_is_python_code_is_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes]
) -> None:
    refused(with_size_expression(tmp_path, marker, exported), "EDGEC-E312", marker)


@pytest.mark.parametrize(
    "target",
    ["torch.os.mkdir", "torch.ops.load_library", "torch.ops.aten.__class__.mro", "math.__loader__.x"],
)
def test_target_that_is_no_operator_is_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes], target: str
) -> None:
    def change(program) -> None:  # type: ignore[no-untyped-def]
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    assert target in refused(doctored_program(tmp_path, exported, change), "EDGEC-E312", marker)


def test_names_that_would_be_python_code_are_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes]
) -> None:
    for ending in ("models/model.json", "weights_config.json"):
        text = exported[record(exported, ending)].decode()
        assert "linear.weight" in text
    code = f'x"), __import__("os").mkdir("{marker}"), ("'
    quoted = json.dumps(code)[1:-1].encode()
    doctored = {name: content.replace(b"linear.weight", quoted) for name, content in exported.items()}
    refused(write(tmp_path / "m.pt2", doctored), "EDGEC-E312", marker)


def test_argument_that_is_no_identifier_is_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes]
) -> None:
    name = record(exported, "models/model.json")
    code = exported[name].replace(b'"name": "x"', b'"name": "x=print(1)"')
    refused(write(tmp_path / "m.pt2", exported | {name: code}), "EDGEC-E312", marker)


@pytest.mark.parametrize(
    "tree",
    [
        {
            "type": "collections.defaultdict",
            "context": {"default_factory_module": "antigravity"},
            "children_spec": [],
        },
        {
            "type": "builtins.dict",
            "context": '{"__enum__": true, "fqn": "antigravity:X"}',
            "children_spec": [],
        },
    ],
)
def test_tree_specification_that_imports_is_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes], tree: dict[str, object]
) -> None:
    def change(program) -> None:  # type: ignore[no-untyped-def]
        program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, tree])

    refused(doctored_program(tmp_path, exported, change), "EDGEC-E312", marker)


def test_compiled_code_in_a_package_is_refused(
    tmp_path: Path, marker: Path, exported: dict[str, bytes]
) -> None:
    path = write(tmp_path / "m.pt2", exported | {"archive/data/aotinductor/model/model.so": b"\x7fELF"})
    assert "AOTInductor" in refused(path, "EDGEC-E304", marker)


def test_whole_pickled_module_is_refused_and_named(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(Small(), path)
    assert "whole pickled module" in refused(path, "EDGEC-E305", marker, None)


def test_whole_pickled_module_loads_with_trust(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(Small(), path)
    assert isinstance(load_file(path, None, (torch.ones(1, 3),), trust=True).module, torch.nn.Module)


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, marker: Path) -> None:
    path = write(tmp_path / "m.pt", {"m/data.pkl": bytes(256 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 300_000
    assert "268435456 bytes" in refused(path, "EDGEC-E311", marker)


def test_zip_bomb_that_lies_about_its_size_is_refused(tmp_path: Path, marker: Path) -> None:
    path = write(tmp_path / "m.pt", {"m/data.pkl": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    data = path.read_bytes().replace((64 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    path.write_bytes(data)
    refused(path, "EDGEC-E302", marker)


def test_nested_zip_bomb_is_refused(tmp_path: Path, marker: Path, exported: dict[str, bytes]) -> None:
    bomb = write(tmp_path / "inner", {"a/data.pkl": bytes(64 << 20)}, zipfile.ZIP_DEFLATED).read_bytes()
    path = write(tmp_path / "m.pt2", exported | {record(exported, "sample_inputs/model.pt"): bomb})
    refused(path, "EDGEC-E311", marker)


@pytest.mark.parametrize("name", ["m/../../evil", "/etc/evil", "m/a\nb"])
def test_record_with_an_unsafe_name_is_refused(tmp_path: Path, marker: Path, name: str) -> None:
    refused(write(tmp_path / "m.pt", {"m/data.pkl": b".", name: b""}), "EDGEC-E311", marker)


def test_symbolic_link_in_place_of_a_record_is_refused(tmp_path: Path, marker: Path) -> None:
    info = zipfile.ZipInfo("m/data/0")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b".")
        archive.writestr(info, "/etc/passwd")
    assert "symbolic link" in refused(tmp_path / "m.pt", "EDGEC-E311", marker)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused(tmp_path: Path, marker: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b".")
        archive.writestr("m/data.pkl", pickle.dumps(Bomb(marker), protocol=2))
    assert "two records" in refused(tmp_path / "m.pt", "EDGEC-E311", marker)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.95])
def test_truncated_file_is_named_so(tmp_path: Path, marker: Path, keep: float) -> None:
    data = saved(Small().state_dict())
    path = tmp_path / "model.pt"
    path.write_bytes(data[: int(len(data) * keep)])
    assert "truncated or corrupt" in refused(path, "EDGEC-E302", marker)


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", "EDGEC-E301", "empty file"),
        (b"hello, world, this is text", "EDGEC-E303", "no model file"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(40), "EDGEC-E304", "TensorFlow Lite"),
        (b"\x08\x09\x12\x07pytorch\x1a\x032.1" + bytes(40), "EDGEC-E304", "ONNX"),
        (pickle.dumps({"a": 1}, protocol=2), "EDGEC-E304", "before 1.6"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{}}        ', "EDGEC-E304", "safetensors"),
    ],
)
def test_kind_of_file_is_told_by_its_content(
    tmp_path: Path, marker: Path, content: bytes, code: str, said: str
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert said in refused(path, code, marker)


def test_torchscript_archive_is_named_so(tmp_path: Path, marker: Path) -> None:
    path = write(
        tmp_path / "m.pt", {"m/data.pkl": b"\x80\x02N.", "m/code/x.py": b"", "m/constants.pkl": b"."}
    )
    assert "TorchScript" in refused(path, "EDGEC-E304", marker)


def test_other_zip_archive_is_named_so(tmp_path: Path, marker: Path) -> None:
    path = write(tmp_path / "m.pt", {"word/document.xml": b"<a/>"})
    assert "PyTorch did not write" in refused(path, "EDGEC-E303", marker)


def test_missing_file_is_named(tmp_path: Path, marker: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.pt", "EDGEC-E300", marker)


def test_state_dict_without_a_factory_asks_for_one(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(Small().state_dict(), path)
    assert "--model package.module:function" in refused(path, "EDGEC-E306", marker, None)


def test_state_dict_of_another_module_is_refused_with_the_names(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(4, 2).state_dict(), path)
    message = refused(path, "EDGEC-E307", marker)
    assert "'linear.weight'" in message
    assert "'weight'" in message


def test_state_dict_of_a_factory_loads(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    weights = Small().state_dict()
    torch.save(weights, path)
    module = load_file(path, FACTORY, None, trust=False).module
    assert module is not None and torch.equal(module.state_dict()["linear.weight"], weights["linear.weight"])


def test_clean_exported_program_loads(tmp_path: Path, exported: dict[str, bytes]) -> None:
    assert load_file(write(tmp_path / "m.pt2", exported), None, None, trust=False).program is not None


@pytest.mark.parametrize("factory", ["nonsense", "no.such.module:f", "tests.test_unsafe_files:FACTORY"])
def test_factory_that_cannot_be_called_is_named(tmp_path: Path, marker: Path, factory: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(Small().state_dict(), path)
    refused(path, "EDGEC-E308", marker, factory)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with a few bytes changed, or one of its records so."""
    if rng.random() < 0.6:
        records = records_of(data)
        name = list(records)[rng.integers(len(records))]
        return archive_of(records | {name: scrambled(records[name], rng)})
    return scrambled(data, rng)


def scrambled(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(out) + 1))
        if rng.random() < 0.3:
            del out[at : at + int(rng.integers(1, 20))]
        else:
            out[at : at + 1] = bytes([int(rng.integers(256))])
    return bytes(out)


def archive_of(records: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["model.pt", "model.pt2"])
def test_mutated_file_loads_or_is_refused(tmp_path: Path, exported: dict[str, bytes], kind: str) -> None:
    rng = np.random.default_rng(0)
    data = saved(Small().state_dict()) if kind == "model.pt" else archive_of(exported)
    path, outcomes = tmp_path / kind, set()
    for _ in range(60):
        path.write_bytes(mutated(data, rng))
        try:
            load(path, LoadOptions(model=FACTORY if kind == "model.pt" else None))
            outcomes.add("loaded")
        except UserError as error:
            outcomes.add(error.code[:8])
    assert outcomes == {"loaded", "EDGEC-E3"}
