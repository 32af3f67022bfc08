"""The C API: the page's example runs, instances do not disturb each other, and the objects hold what they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from artifacts import artifact, interpreted
from entry_programs import persistences
from small_programs import decoder, digits, streamed

from edgec.ir import Program
from edgec.pipeline import Options

PAGE = Path(__file__).parent.parent / "docs" / "c-api.md"
WARNINGS = ("-pedantic", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion")
MODELS: dict[str, tuple[Program, str, Options]] = {
    "digits": (digits(), "cortex-m4", Options()),
    "decoder": (decoder(), "cortex-m4", Options()),
    "streamed": (streamed(), "cortex-m0", Options(precision="fp32", stream="all")),
}
INT8 = ("digits", "decoder")
arm = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("artifacts")
    for name, (program, target, options) in MODELS.items():
        artifact(program, target, root / name, name, options)
    return {name: root / name for name in MODELS}


def shell(words: Sequence[str | Path], cwd: Path) -> str:
    done = subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def sources(folder: Path) -> list[Path]:
    """C files of the model without the firmware's, as the Makefile lists them."""
    text = (folder / "Makefile").read_text(encoding="utf-8")
    listed = re.search(r"^MODEL := ((?:\\\n.*?)+)$", text, re.MULTILINE)
    assert listed is not None
    return [folder / name for name in listed[1].replace("\\", " ").split()]


def includes(folder: Path) -> list[str]:
    return [f"-I{folder / 'src'}", f"-I{folder / 'src/include'}"]


def ran_c(folder: Path, main: str, *defines: str) -> str:
    """Output of a host program made of the model and `main`, under sanitizers."""
    (folder / "main_test.c").write_text(main, encoding="utf-8")
    flags = ["-std=c99", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *defines]
    units = [*sources(folder), folder / "main_test.c"]
    shell(["gcc", *flags, *includes(folder), *units, "-o", "main_test", "-lm"], folder)
    return shell([folder / "main_test"], folder)


def example() -> str:
    """The C of docs/c-api.md."""
    (code,) = re.findall(r"```c\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def test_the_pages_example_classifies_as_the_interpreter_does(folders: dict[str, Path]) -> None:
    pixels = np.arange(64, dtype=np.float32) / 4
    program = digits()
    raw = np.clip(np.rint(pixels * 16) - 128, -128, 127).astype(np.int8).reshape(1, 8, 8, 1)
    expected = int(np.frombuffer(interpreted(program, [("infer", {"image": raw})]), np.int8).argmax())
    values = ", ".join(f"{v:.2f}f" for v in pixels)
    main = (
        f"#include <math.h>\n#include <stdio.h>\n{example()}\nint main(void)\n{{\n"
        f"    const float pixels[64] = {{{values}}};\n"
        "    if (edgec_digits_init(&net, arena) != EC_OK) {\n        return 1;\n    }\n"
        '    printf("%d\\n", classify(pixels));\n    return 0;\n}\n'
    )
    assert ran_c(folders["digits"], main) == f"{expected}\n"


INTERLEAVED = """
#include "model.h"
#include <stdio.h>
#include <string.h>

static uint8_t first[EDGEC_DECODER_ARENA_RAM_BYTES] __attribute__((aligned(16)));
static uint8_t second[EDGEC_DECODER_ARENA_RAM_BYTES] __attribute__((aligned(16)));
static edgec_decoder nets[2];

/* Step `step` of the instance: a prefill, then decodes. Prints the logits in hexadecimal. */
static void run(int instance, int step)
{
    edgec_decoder *m = &nets[instance];
    int8_t *y;
    int size;
    if (step == 0) {
        for (int i = 0; i < 4; i++) {
            edgec_decoder_prefill_input_tokens(m)[i] = (instance * 5 + i * 3) % 11;
        }
        edgec_decoder_prefill(m);
        y = edgec_decoder_prefill_output_logits(m);
        size = EDGEC_DECODER_PREFILL_OUTPUT_LOGITS_SIZE;
    } else {
        edgec_decoder_decode_input_tokens(m)[0] = (instance + step) % 11;
        edgec_decoder_decode(m);
        y = edgec_decoder_decode_output_logits(m);
        size = EDGEC_DECODER_DECODE_OUTPUT_LOGITS_SIZE;
    }
    printf("%d ", instance);
    for (int i = 0; i < size; i++) {
        printf("%02x", (unsigned)(uint8_t)y[i]);
    }
    printf("\\n");
}

int main(void)
{
    edgec_decoder_init(&nets[0], first);
    edgec_decoder_init(&nets[1], second);
    for (int k = 0; k < 8; k++) {
        int instance = INTERLEAVE ? k % 2 : k / 4;
        run(instance, INTERLEAVE ? k / 2 : k % 4);
    }
    return 0;
}
"""


def test_two_interleaved_instances_give_what_each_gives_alone(folders: dict[str, Path]) -> None:
    together, alone = (
        ran_c(folders["decoder"], INTERLEAVED, f"-DINTERLEAVE={k}").splitlines() for k in (1, 0)
    )
    assert sorted(together, key=lambda line: line[0]) == alone


STATUSES = """
#include "model.h"
#include <stdio.h>

static uint8_t arena[EDGEC_DIGITS_ARENA_RAM_BYTES + 16] __attribute__((aligned(16)));
static edgec_digits net;

int main(void)
{
    printf("%d ", edgec_digits_invoke(NULL));
    printf("%d ", edgec_digits_invoke(&net));
    printf("%d ", edgec_digits_init(NULL, arena));
    printf("%d ", edgec_digits_init(&net, NULL));
    printf("%d ", edgec_digits_init(&net, arena + 8));
    printf("%d ", edgec_digits_invoke(&net));
    printf("%d ", edgec_digits_init(&net, arena));
    printf("%d", edgec_digits_invoke(&net));
    return 0;
}
"""


def test_misuse_is_answered_by_a_status(folders: dict[str, Path]) -> None:
    null, misaligned, not_ready = 1, 2, 4
    expected = (null, not_ready, null, null, misaligned, not_ready, 0, 0)
    assert ran_c(folders["digits"], STATUSES) == " ".join(map(str, expected))


PERSISTENCES = """
#include "model.h"
#include <stdio.h>
#include <string.h>

static uint8_t arena[EDGEC_STATES_ARENA_RAM_BYTES] __attribute__((aligned(16)));
static edgec_states net;

static void invoke(void)
{
    float *x = edgec_states_input_x(&net);
    x[0] = x[1] = 1.0f;
    edgec_states_invoke(&net);
    printf("%g ", (double)edgec_states_output_y(&net)[0]);
}

int main(void)
{
    uint8_t flash[EDGEC_STATES_SAVED_SAVED_BYTES];
    edgec_states_init(&net, arena);
    invoke();
    invoke();
    edgec_states_reset(&net);
    invoke();
    memcpy(flash, edgec_states_saved_saved(&net), sizeof flash);
    edgec_states_init(&net, arena);
    memcpy(edgec_states_saved_saved(&net), flash, sizeof flash);
    invoke();
    return 0;
}
"""


def test_reset_kept_and_saved_state_persist_as_documented(tmp_path: Path) -> None:
    """y = x + the counters of each kind, which start at 10: 1 + 3 * 11, then 12s; after the reset one starts
    anew; after the power cycle only the saved one goes on."""
    artifact(persistences(), "cortex-m0", tmp_path / "a", "states")
    expected = (1 + 3 * 11, 1 + 3 * 12, 1 + 11 + 2 * 13, 1 + 2 * 11 + 14)
    assert ran_c(tmp_path / "a", PERSISTENCES) == " ".join(map(str, expected)) + " "


@pytest.mark.parametrize(
    "compiler", [("gcc",), ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb")], ids=lambda c: c[0]
)
@pytest.mark.parametrize("name", MODELS)
def test_generated_files_and_kernels_compile_without_a_warning(
    folders: dict[str, Path], name: str, compiler: tuple[str, ...]
) -> None:
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs {compiler[0]}")
    folder = folders[name]
    units = [*sources(folder), folder / "src" / "model_desc.c"]
    shell([*compiler, "-std=c99", "-O2", *WARNINGS, "-fsyntax-only", *includes(folder), *units], folder)


@pytest.mark.parametrize("name", MODELS)
def test_the_header_is_a_cplusplus_header(folders: dict[str, Path], name: str) -> None:
    (folders[name] / "use.cpp").write_text(
        f'#include "model.h"\nint main() {{ edgec_{name} m = {{}}; return edgec_{name}_init(&m, nullptr); }}\n',
        encoding="utf-8",
    )
    flags = ["-std=c++11", *WARNINGS, "-fsyntax-only"]
    shell(["g++", *flags, *includes(folders[name]), "use.cpp"], folders[name])


def symbols(folder: Path, tool: str, flags: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, name) of every symbol in the model's objects."""
    out = folder / "-".join(("objects", tool, *flags))
    out.mkdir(exist_ok=True)
    units = sources(folder)
    shell([f"{tool}gcc", "-std=c99", "-O2", *flags, *includes(folder), "-c", *units], out)
    lines = shell([f"{tool}nm", *sorted(out.glob("*.o"))], out).splitlines()
    return [(words[-2], words[-1]) for words in map(str.split, lines) if len(words) >= 2]


@pytest.mark.parametrize("name", MODELS)
def test_objects_hold_no_variables_and_allocate_nothing(folders: dict[str, Path], name: str) -> None:
    found = symbols(folders[name], "", ("-fno-pic", "-fno-pie"))  # position-independent: relocated tables
    assert [s for kind, s in found if kind in "dDbBC"] == []
    assert {s for _, s in found} & {
        "malloc",
        "calloc",
        "realloc",
        "free",
        "alloca",
        "printf",
        "abort",
    } == set()


SOFT_FLOAT = re.compile(
    r"__aeabi_(f|d|i2f|i2d|ui2f|ui2d|l2f|l2d|ul2f|ul2d|h2f|cf|cd)|.*f$|(exp|log|pow|sqrt)"
)


@arm
@pytest.mark.parametrize("cpu", ["cortex-m0", "cortex-m4"])
@pytest.mark.parametrize("name", INT8)
def test_an_int8_model_calls_no_floating_point(folders: dict[str, Path], name: str, cpu: str) -> None:
    """Compiled for soft floats, each operation on floats would be a call."""
    flags = (f"-mcpu={cpu}", "-mthumb", "-mfloat-abi=soft")
    found = symbols(folders[name], "arm-none-eabi-", flags)
    assert [s for kind, s in found if kind == "U" and SOFT_FLOAT.match(s)] == []


@arm
def test_the_soft_float_calls_of_a_float_model_are_seen(folders: dict[str, Path]) -> None:
    flags = ("-mcpu=cortex-m0", "-mthumb", "-mfloat-abi=soft")
    found = symbols(folders["streamed"], "arm-none-eabi-", flags)
    assert "__aeabi_fmul" in {s for kind, s in found if kind == "U" and SOFT_FLOAT.match(s)}


def calls(folder: Path) -> dict[str, set[str]]:
    """Who calls whom in the model's objects, by the compiler's own account."""
    out = folder / "graph"
    out.mkdir(exist_ok=True)
    flags = ["-std=c99", "-O0", "-fcallgraph-info"]
    shell(["gcc", *flags, *includes(folder), "-c", *sources(folder)], out)
    edges: dict[str, set[str]] = {}
    for file in out.glob("*.ci"):
        text = file.read_text(encoding="utf-8")
        for source, to in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', text):
            edges.setdefault(source, set()).add(to)
    return edges


@pytest.mark.parametrize("name", MODELS)
def test_no_function_calls_itself_directly_or_through_others(folders: dict[str, Path], name: str) -> None:
    edges = calls(folders[name])
    done: set[str] = set()

    def visit(function: str, path: tuple[str, ...]) -> None:
        assert function not in path, " -> ".join((*path, function))
        if function not in done:
            for to in edges.get(function, ()):
                visit(to, (*path, function))
            done.add(function)

    assert any(f"edgec_{name}" in function for function in edges)
    for function in edges:
        visit(function, ())


@pytest.mark.parametrize("name", INT8)
def test_a_copied_artifact_builds_and_checks_with_make(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    shutil.copytree(folders[name], tmp_path / "copy", ignore=shutil.ignore_patterns("build"))
    shell(["make", "-s", "host", "check", "SANITIZE=1"], tmp_path / "copy")


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_a_copied_artifact_builds_with_cmake(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["digits"], tmp_path / "copy", ignore=shutil.ignore_patterns("build"))
    shell(["cmake", "-S", "copy", "-B", "made"], tmp_path)
    shell(["cmake", "--build", "made"], tmp_path)
    shutil.copy(tmp_path / "copy/golden/in.bin", tmp_path / "made/in.bin")
    shell(["./digits", "keep", "0", "0:4"], tmp_path / "made")
    assert (tmp_path / "made/out.bin").read_bytes() == (tmp_path / "copy/golden/out.bin").read_bytes()
