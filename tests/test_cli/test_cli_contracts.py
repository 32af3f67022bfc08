"""What other people's scripts stand on: words, keys of JSON, layouts, streams, and the Python that mirrors them."""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

import edgec as package
from edgec import commands
from edgec.artifact import Artifact
from edgec.cli import parser
from edgec.errors import InternalError
from edgec.targets.load import target_names
from edgec.text import read_program, show
from edgec.training.options import TrainSpec
from tests import cli_models
from tests.cli_command import COMPILE, Command

ROOT = Path(__file__).parents[2]


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


def test_version_and_help_import_nothing_heavy() -> None:
    code = (
        "import sys, edgec.cli\n"
        "assert edgec.cli.main(['--version']) == 0 and edgec.cli.main(['compile', '--help']) == 0\n"
        "heavy = {'numpy', 'torch', 'matplotlib', 'tqdm', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_version_is_the_packages(edgec: Command) -> None:
    assert edgec.works("--version").out == f"edgec {package.__version__}\n"


def test_a_bug_asks_for_a_report_and_ends_with_1(edgec: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: argparse.Namespace) -> None:
        raise KeyError("x")

    monkeypatch.setattr(commands, "targets", broken)
    line = broken.__code__.co_firstlineno + 1
    text = (
        "EDGEC-E100: run again with -vv and report what it prints: KeyError: 'x' (at test_cli_contracts.py:"
        f"{line}). This is a bug in edgec"
    )
    edgec.refused(1, text, "targets")
    assert str(InternalError("no plan")) == (
        "EDGEC-E100: no plan. This is a bug in edgec: please report it with the folder that --stages DIR writes"
    )


def test_a_computer_without_enough_memory_is_told(edgec: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "targets", lambda args: np.empty(1 << 60, np.uint8))
    text = (
        "EDGEC-E504: use a smaller model, fewer calibration samples or a larger computer: this one has no memory for "
        "it (Unable to allocate 1.00 EiB for an array with shape (1152921504606846976,) and data type uint8)"
    )
    edgec.refused(5, text, "targets")


def test_the_subcommands_are_those_of_the_design() -> None:
    assert list(subcommands()) == [
        "compile", "run", "generate", "finetune", "bench", "report", "check", "quantize", "tune", "targets", "ops",
        "bisect", "control", "doctor", "completion",
    ]  # fmt: skip


def test_the_help_names_every_exit_code(edgec: Command) -> None:
    text = edgec.works("--help").out
    assert "0 ok" in text
    for code in (*range(1, 12), 130):
        assert f"  {code} " in text or text.split("exit codes:")[1].count(f"{code} ")


GLOBAL = {"help", "verbose", "quiet", "json", "no_color", "no_progress", "config", "seed", "command"}


@pytest.mark.parametrize("name", ["compile", "check"])
def test_every_option_has_the_same_named_python_argument(name: str) -> None:
    options = {a.dest for a in subcommands()[name]._actions} - GLOBAL
    shell_only = {"no_build", "all_targets"}  # Python builds when it runs, and takes all targets by default
    training = {field.name for field in fields(TrainSpec)} | {"learning_rate", "train_ram"}  # rate, ram_bytes
    arguments = set(inspect.signature(getattr(package, name)).parameters)
    assert options - shell_only <= arguments | (training if "train" in arguments else set())


@pytest.mark.parametrize("name", ["run", "bench", "finetune"])
def test_every_option_of_an_artifacts_command_is_an_argument_of_its_method(name: str) -> None:
    options = {a.dest for a in subcommands()[name]._actions} - GLOBAL - {"artifact"}
    files = {"input", "output", "no_save"}  # arrays in Python, not files; save=False
    assert options - files <= set(inspect.signature(getattr(Artifact, name)).parameters)


def test_python_refuses_the_choices_that_the_command_line_refuses(edgec: Command) -> None:
    from edgec.errors import UserError

    for words in ({"precision": "int4"}, {"calibration": "best"}, {"stream": "on"}):
        with pytest.raises(UserError, match="EDGEC-E203"):
            package.compile("net.pt2", target="host", out=edgec.here / "out", calib="calib.npz", **words)  # type: ignore[arg-type]


def test_python_refuses_an_array_without_a_name(made: Path) -> None:
    from edgec.errors import UserError

    with pytest.raises(UserError) as error:
        Artifact(made / "host").run(np.zeros((1, 1, 8, 8), np.float32))  # type: ignore[arg-type]
    assert str(error.value) == "EDGEC-E235: give {'image': ...}: the input is a ndarray without names"


def test_compile_prints_one_object_and_tells_the_next_command(edgec: Command) -> None:
    words = ("compile", "net.pt2", "--calib", "calib.npz", "--target", "cortex-m0", "-o", "out", "--no-build")
    answer = edgec.works(*words, "--json")
    result = json.loads(answer.out)
    assert list(result) == [
        "artifact",
        "name",
        "target",
        "macs",
        "arena_bytes",
        "constant_bytes",
        "precision",
    ]
    assert (result["artifact"], result["name"], result["target"]) == ("out", "net", "cortex-m0")
    assert answer.err.splitlines()[-1] == "artifact out; next: edgec report out"
    assert edgec.works(*words).out == ""


def test_compile_says_where_it_was_checked(edgec: Command) -> None:
    words = ("compile", "-q", "net.pt2", "--calib", "calib.npz", "--target", "host", "-o", "out", "--json")
    assert json.loads(edgec.works(*words).out)["checked"] == ["host"]


def test_quiet_prints_nothing_but_results(edgec: Command) -> None:
    answer = edgec.works(*COMPILE, "net.pt2", "--calib", "calib.npz")
    assert (answer.out, answer.err) == ("", "")


def test_run_gives_floats_by_name_in_the_pytorch_layout_near_the_model(edgec: Command, made: Path) -> None:
    edgec.works("run", made / "host", "--input", "calib.npz", "--output", "y.npz")
    with np.load(edgec.here / "y.npz") as found, np.load(edgec.here / "calib.npz") as given:
        module, _ = cli_models.net()
        expected = module(torch.from_numpy(given["image"])).detach().numpy()
        assert found.files == ["output"]
        assert found["output"].dtype == np.float32
        assert found["output"].shape == expected.shape == (8, 3)
        # int8: half a percent of the range a layer, three layers
        assert np.abs(found["output"] - expected).max() < 0.02 * np.abs(expected).max()


def test_raw_gives_the_devices_integers_of_the_same_outputs(edgec: Command, made: Path) -> None:
    edgec.works("run", made / "host", "--input", "calib.npz", "--output", "y.npz")
    edgec.works("run", made / "host", "--input", "calib.npz", "--output", "q.npz", "--raw")
    (port,) = Artifact(made / "host").manifest["entries"][0]["outputs"]
    with np.load(edgec.here / "y.npz") as floats, np.load(edgec.here / "q.npz") as integers:
        assert integers["output"].dtype == np.int8
        real = np.float32(port["scale"]) * (integers["output"].astype(np.float32) - port["zero"])
        assert np.allclose(floats["output"], real, rtol=1e-6)


def test_the_models_own_integers_are_taken_as_they_are(edgec: Command, made: Path) -> None:
    (port,) = Artifact(made / "host").manifest["entries"][0]["inputs"]
    with np.load(edgec.here / "integers.npz") as given:
        floats = np.float32(port["scale"]) * (given["image"].astype(np.float32) - port["zero"])
    np.savez(edgec.here / "floats.npz", image=floats)
    edgec.works("run", made / "host", "--input", "integers.npz", "--output", "a.npz")
    edgec.works("run", made / "host", "--input", "floats.npz", "--output", "b.npz")
    assert (edgec.here / "a.npz").read_bytes() == (edgec.here / "b.npz").read_bytes()


def test_run_json_holds_shape_dtype_and_values_by_name(edgec: Command, made: Path) -> None:
    result = json.loads(edgec.works("run", made / "host", "--input", "one.npz", "--raw", "--json").out)
    assert list(result) == ["output"]
    assert (result["output"]["shape"], result["output"]["dtype"]) == ([1, 3], "int8")
    assert np.shape(result["output"]["values"]) == (1, 3)


def test_run_text_names_each_output(edgec: Command, made: Path) -> None:
    assert edgec.works("run", made / "host", "--input", "one.npz").out.startswith("output float32[1, 3] [")


@pytest.mark.qemu
def test_the_emulated_board_gives_the_hosts_integers(edgec: Command, made: Path) -> None:
    for place in ("host", "qemu"):
        edgec.works(
            "run", made / "m0", "--input", "calib.npz", "--output", f"{place}.npz", "--on", place, "--raw"
        )
    assert (edgec.here / "host.npz").read_bytes() == (edgec.here / "qemu.npz").read_bytes()


@pytest.mark.qemu
def test_bench_json_has_the_stable_keys_and_layers_that_add_up(edgec: Command, made: Path) -> None:
    result = json.loads(edgec.works("bench", made / "m0", "--on", "qemu", "--json", "--runs", "1").out)
    stable = {
        "target",
        "instructions",
        "macs",
        "arena_bytes",
        "ram_bytes",
        "flash_bytes",
        "stack_bytes",
        "layers",
    }
    assert stable <= set(result)
    assert result["target"] == "cortex-m0"
    assert result["ram_bytes"] >= result["arena_bytes"] > 0
    assert result["flash_bytes"] > result["constant_bytes"]
    assert result["macs"] == sum(row["macs"] for row in result["layers"])
    counted = sum(row["instructions"] for row in result["layers"])
    assert abs(counted - result["instructions"]) < 0.05 * result["instructions"]


def test_bench_on_the_host_counts_no_instructions(edgec: Command, made: Path) -> None:
    result = json.loads(edgec.works("bench", made / "host", "--on", "host", "--json").out)
    assert (result["instructions"], result["stack_bytes"], result["layers"]) == (None, None, [])


def test_report_json_is_the_artifacts_with_the_images_sizes(edgec: Command, made: Path) -> None:
    result = json.loads(edgec.works("report", made / "m0", "--json").out)
    stored = json.loads((made / "m0" / "report.json").read_text(encoding="utf-8"))
    assert {k: v for k, v in result.items() if k != "sizes"} == stored


def test_check_json_has_the_stable_keys_for_every_target(edgec: Command) -> None:
    rows = json.loads(edgec.works("check", "-q", "net.pt2", "--all-targets", "--json").out)
    assert [row["target"] for row in rows] == list(target_names())
    for row in rows:
        assert list(row) == ["target", "fits", "ram_bytes", "flash_bytes", "reason", "proposals"]
        assert row["fits"] is True
        assert row["ram_bytes"] > 0 and row["flash_bytes"] > 0


def test_targets_json_lists_each_with_memories_and_emulator(edgec: Command) -> None:
    rows = json.loads(edgec.works("targets", "--json").out)
    assert [row["target"] for row in rows] == list(target_names())
    pico = next(row for row in rows if row["target"] == "rp2040-pico")
    assert pico["memories"] == {"ram": 264 << 10, "flash": 2 << 20}
    assert [line.split()[0] for line in edgec.works("targets").out.splitlines()] == list(target_names())


def test_ops_json_says_where_and_at_which_precision(edgec: Command) -> None:
    rows = {row["op"]: row for row in json.loads(edgec.works("ops", "--target", "cortex-m0", "--json").out)}
    assert set(rows["conv2d"]["targets"]["cortex-m0"]) == {"int8", "fp32"}
    assert rows["conv2d"]["targets"]["cortex-m0"]["int8"].startswith("ec_")
    for op in ("layer_norm", "softmax", "gelu", "silu", "tanh", "sigmoid", "hardswish", "attention"):
        assert rows[op]["targets"]["cortex-m0"]["int8"], op


def test_doctor_json_lists_tools_with_version_and_cure(edgec: Command) -> None:
    rows = json.loads(edgec.works("doctor", "--json").out)
    assert all(list(r) == ["tool", "found", "version", "needed_for", "cure", "required"] for r in rows)


def test_flags_stand_before_or_after_the_subcommand(edgec: Command) -> None:
    assert edgec.works("--json", "targets").out == edgec.works("targets", "--json").out


def test_compiling_twice_gives_the_same_bytes(edgec: Command) -> None:
    edgec.works(*COMPILE, "net.pt2", "--calib", "calib.npz")
    first = edgec.tree()
    edgec.works(*COMPILE, "net.pt2", "--calib", "calib.npz")
    assert edgec.tree() == first


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_every_subcommand_and_option(edgec: Command, shell: str) -> None:
    text = edgec.works("completion", shell).out
    for name, sub in subcommands().items():
        assert name in text
        for option in (o for a in sub._actions for o in a.option_strings if o.startswith("--")):
            assert (f"-l {option[2:]}" if shell == "fish" else option) in text


def test_bash_accepts_the_completion_and_completes(edgec: Command) -> None:
    script = edgec.works("completion", "bash").out
    script += 'COMP_WORDS=(edgec compile --cal); COMP_CWORD=2; _edgec; echo "${COMPREPLY[*]}"\n'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--calib", "--calibration"]


def test_stages_are_numbered_programs_that_read_again(edgec: Command) -> None:
    edgec.works(*COMPILE, "net.pt2", "--calib", "calib.npz", "--stages", "s")
    stages = sorted(p.name for p in (edgec.here / "s").iterdir())
    assert stages[0] == "00_import.txt"
    assert any(name.endswith("_quantize.txt") for name in stages)
    for name in stages:
        text = (edgec.here / "s" / name).read_text(encoding="utf-8")
        assert show(read_program(text)) == text
