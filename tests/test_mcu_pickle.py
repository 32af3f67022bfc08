"""The importer of MCUNet's pickles: integers as in the file, the published checksums, and no other pickle."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path

import mcunet
import numpy as np
import pytest
from plan_c import Program as Compiled

from edgec import interp, pipeline
from edgec.backends.kernels_c import KERNELS
from edgec.errors import UserError
from edgec.frontends.mcu_pickle import Head, import_mcu_pickle, read_tree
from edgec.targets.load import load_target


@mcunet.needed
def test_interpreter_gives_the_published_checksums() -> None:
    program = import_mcu_pickle(mcunet.FILE)
    seen = {}
    logits, _ = interp.run(
        program,
        program.graphs[0],
        {"image": mcunet.golden_image()},
        observe=lambda node, values: seen.update({node.outputs[0].name: values[0]}),
    )
    assert zlib.crc32(seen["pooled"].tobytes()) == 0x7995C77A
    assert zlib.crc32(logits["logits"].tobytes()) == 0x764378A9
    assert int(logits["logits"].argmax()) == 443


@mcunet.needed
def test_c_kernels_give_the_published_checksum(tmp_path: Path) -> None:
    program = import_mcu_pickle(mcunet.FILE)
    target = load_target("host")
    plan = pipeline.lower(program, target, pipeline.Options(), KERNELS, "model")
    (logits,) = Compiled(plan, target, tmp_path).run({"image": mcunet.golden_image()}, 0xA5)
    assert zlib.crc32(logits) == 0x764378A9


@mcunet.needed
def test_weights_are_those_of_the_file() -> None:
    tree, program = read_tree(mcunet.FILE), import_mcu_pickle(mcunet.FILE)
    for index, block in enumerate(tree["blocks"]):
        wanted = block["pointwise2"]["params"]["weight"].transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(program.constants[f"blocks.{index}.pointwise2.w"].data, wanted)


@mcunet.needed
def test_a_new_head_is_float_and_drawn_with_its_seed() -> None:
    programs = [import_mcu_pickle(mcunet.FILE, Head(10, seed)) for seed in (3, 3, 4)]
    weights = [p.constants["classifier.w"].data for p in programs]
    assert weights[0].shape == (10, 160)
    assert weights[0].dtype == np.float32
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()
    assert programs[0].graphs[0].nodes[-1].op == "linear"


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


def _saved(folder: Path, content: bytes) -> Path:
    path = folder / "model.pkl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return path


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (pickle.dumps(_Evil(), 2), "imports __builtin__.print"),
        (pickle.dumps({"first_conv": {}}, 2), "has no first_conv, blocks and classifier"),
        (b"\x80\x02(", "Ran out of input"),
    ],
)
def test_other_pickles_are_refused(
    tmp_path: Path, content: bytes, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as refused:
        read_tree(_saved(tmp_path, content))
    assert str(refused.value) == (
        "EDGEC-E313: give a file of MCUNet's quantised models (a torch zip of dicts and numpy arrays): "
        f"model.pkl {why}"
    )
    assert capsys.readouterr().out == ""


def test_a_network_without_its_fields_is_refused(tmp_path: Path) -> None:
    tree = {"first_conv": {"in_shape": 8}, "blocks": [], "classifier": {}}
    with pytest.raises(
        UserError, match=r"model.pkl lacks a field of its convolutions .*KeyError\('kernel_size'\)"
    ):
        import_mcu_pickle(_saved(tmp_path, pickle.dumps(tree, 2)))
