"""edgec.toml and the environment: what they set, what comes first, and what is refused."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec import cli, config, log
from edgec.errors import UserError

Parse = Callable[..., argparse.Namespace]
COMPILE = ("compile", "net.pt2", "-o", "out")


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Parses words in an empty folder, with edgec.toml and variables as given."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, toml: str | None = None, **variables: str) -> argparse.Namespace:
        if toml is not None:
            (tmp_path / config.FILE).write_text(toml)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return cli._parse(list(words))

    return run


def refused(parse: Parse, toml: str = "", **variables: str) -> tuple[str, str]:
    """(code, message) of a compile that file or environment spoil; HERE stands for the folder."""
    with pytest.raises(UserError) as caught:
        parse(*COMPILE, "--target", "host", toml=toml, **variables)
    return caught.value.code, caught.value.message.replace(str(Path.cwd()), "HERE")


def test_a_file_gives_what_the_command_line_requires(parse: Parse) -> None:
    args = parse("compile", "net.pt2", toml='[compile]\ntarget = "cortex-m4"\nout = "made"\n')
    assert (args.target, args.out) == ("cortex-m4", Path.cwd() / "made")


def test_the_command_line_comes_before_the_environment_and_that_before_the_file(parse: Parse) -> None:
    toml = '[compile]\ntarget = "a"\nram = "1K"\nflash = "1K"\n'
    variables = {"EDGEC_COMPILE_TARGET": "b", "EDGEC_COMPILE_RAM": "2K"}
    args = parse(*COMPILE, "--target", "c", toml=toml, **variables)
    assert (args.target, args.ram, args.flash) == ("c", "2K", "1K")


def test_a_file_without_the_option_leaves_its_default(parse: Parse) -> None:
    assert parse(*COMPILE, "--target", "host", toml="[compile]\nequalize = true\n").precision is None


@pytest.mark.parametrize("key", ["bias-correct", "bias_correct"])
def test_keys_are_long_options_with_either_dash(parse: Parse, key: str) -> None:
    assert parse(*COMPILE, "--target", "host", toml=f"[compile]\n{key} = true\n").bias_correct


def test_the_nearest_file_upwards_is_taken(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    below = Path.cwd() / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    args = parse(*COMPILE, toml='[compile]\ntarget = "m"\ncalib = "c.npz"\n')
    assert (args.target, args.calib) == ("m", below.parent.parent / "c.npz")


def test_config_names_another_file(parse: Parse) -> None:
    Path("other.toml").write_text('[compile]\ntarget = "other"\n')
    words = (*COMPILE, "--config", "other.toml")
    assert parse(*words, toml='[compile]\ntarget = "found"\n').target == "other"


def test_the_environment_names_another_file(parse: Parse) -> None:
    Path("other.toml").write_text('[compile]\ntarget = "other"\n')
    assert parse(*COMPILE, EDGEC_CONFIG="other.toml").target == "other"


def test_the_table_edgec_holds_the_flags_of_all_subcommands(parse: Parse) -> None:
    args = parse("targets", toml="[edgec]\nseed = 7\nverbose = 1\n")
    assert (args.seed, args.verbose) == (7, 1)


def test_a_flag_of_all_subcommands_has_a_variable(parse: Parse) -> None:
    assert parse("targets", EDGEC_SEED="9", EDGEC_NO_PROGRESS="on").seed == 9


def test_the_environment_switches_off_what_the_file_switches_on(parse: Parse) -> None:
    toml = '[compile]\ntarget = "host"\nequalize = true\n'
    assert not parse(*COMPILE, toml=toml, EDGEC_COMPILE_EQUALIZE="0").equalize


def test_targets_on_the_command_line_replace_those_of_the_file(parse: Parse) -> None:
    toml = '[check]\ntarget = ["a", "b"]\n'
    assert parse("check", "net.pt2", toml=toml).target == ["a", "b"]
    assert parse("check", "net.pt2", "--target", "c").target == ["c"]


def test_all_targets_on_the_command_line_replaces_those_of_the_file(parse: Parse) -> None:
    assert parse("check", "net.pt2", "--all-targets", toml='[check]\ntarget = ["a"]\n').target is None


def test_a_list_in_the_environment_is_comma_separated(parse: Parse) -> None:
    assert parse("check", "net.pt2", EDGEC_CHECK_TARGET="a,b").target == ["a", "b"]


def test_random_is_no_path(parse: Parse) -> None:
    toml = '[compile]\ntarget = "host"\ncalib = "random"\n'
    assert parse(*COMPILE, toml=toml).calib == Path("random")


FILE_ERRORS = {
    '[compile]\ntagret = "host"': (
        "E208",
        "write target: tagret in [compile] of HERE/edgec.toml is no option of edgec",
    ),
    "[complie]\nx = 1": ("E208", "write compile: [complie] in HERE/edgec.toml is no table of edgec"),
    "compile = 1": ("E208", "write [compile] and its options below it: HERE/edgec.toml has compile = ..."),
    "[compile]\nseed = 1": (
        "E208",
        "write seed below [edgec]: HERE/edgec.toml has it in [compile]",
    ),
    "[compile]\ntrust = true": (
        "E208",
        "give --trust on the command line: it lets a file run code, and HERE/edgec.toml may come with one",
    ),
    '[bisect]\nmodel = "a:b"': (
        "E208",
        "give --model on the command line: it lets a file run code, and HERE/edgec.toml may come with one",
    ),
    '[compile]\nprecision = "int9"': (
        "E209",
        "write int8 (one of int8, fp32, fp16, bf16, w8a8, w4a16): [compile] precision in HERE/edgec.toml is 'int9'",
    ),
    "[compile]\nequalize = 1": (
        "E209",
        "write true or false: [compile] equalize in HERE/edgec.toml is 1",
    ),
    "[compile]\nname = [1]": (
        "E209",
        "write a string or a number: [compile] name in HERE/edgec.toml is [1]",
    ),
    "[check]\ntarget = 3": ("E209", "write a list of strings: [check] target in HERE/edgec.toml is 3"),
    "[edgec]\nverbose = 9": ("E209", "write 0 to 3: [edgec] verbose in HERE/edgec.toml is 9"),
    '[edgec]\nseed = "x"': ("E209", "write a number: [edgec] seed in HERE/edgec.toml is 'x'"),
    "[bench]\nruns = 0": (
        "E209",
        "give a whole number above 0, not '0': that is the value of [bench] runs in HERE/edgec.toml",
    ),
    "x": (
        "E20A",
        "correct the file: HERE/edgec.toml is not TOML (Expected '=' after a key in a key/value pair "
        "(at end of document))",
    ),
}


@pytest.mark.parametrize("toml", FILE_ERRORS)
def test_a_wrong_file_is_refused_with_its_key(parse: Parse, toml: str) -> None:
    code, text = FILE_ERRORS[toml]
    assert refused(parse, toml) == (f"EDGEC-{code}", text)


VARIABLE_ERRORS = {
    ("EDGEC_COMPILE_TRAGET", "host"): (
        "E208",
        "write target: EDGEC_COMPILE_TRAGET in the environment is no option of edgec",
    ),
    ("EDGEC_COMPILE_STREAM", "of"): (
        "E209",
        "write off (one of auto, off, all): EDGEC_COMPILE_STREAM is 'of'",
    ),
    ("EDGEC_QUIET", "maybe"): ("E209", "write true or false: EDGEC_QUIET is 'maybe'"),
}


@pytest.mark.parametrize(("variable", "value"), VARIABLE_ERRORS)
def test_a_wrong_variable_is_refused_by_name(parse: Parse, variable: str, value: str) -> None:
    code, text = VARIABLE_ERRORS[variable, value]
    assert refused(parse, **{variable: value}) == (f"EDGEC-{code}", text)


def test_other_variables_are_let_be(parse: Parse) -> None:
    parse("targets", EDGEC_LOG="1", EDGEC_HOME="/tmp")


def test_a_missing_file_is_named(parse: Parse) -> None:
    with pytest.raises(UserError, match=r"E20A: check the path of --config: .*no.toml cannot be read"):
        parse("targets", "--config", "no.toml")


def test_an_abbreviated_config_is_refused(parse: Parse) -> None:
    Path("other.toml").write_text("")
    with pytest.raises(UserError, match="E201: write --config in full"):
        parse("targets", "--conf", "other.toml")


def test_help_works_beside_a_wrong_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / config.FILE).write_text("[nothing]\n")
    assert cli.main(["--version"]) == 0
    assert cli.main(["targets"]) == 2


@pytest.mark.parametrize(
    ("variable", "flag", "red"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, True, False), ({}, False, False)],
)
def test_errors_are_red_on_a_terminal_that_may_be_coloured(
    monkeypatch: pytest.MonkeyPatch, variable: dict[str, str], flag: bool, red: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    log.set_color(flag)
    assert (log.red("EDGEC-E201") != "EDGEC-E201") == red


def test_errors_have_no_colour_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["nothing"])
    assert "\033" not in capsys.readouterr().err
