"""The C API of a network that learns: what the calls return, what they leave alone, and the bytes to save."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from artifacts import artifact
from test_c_api import ran_c

from edgec import interp
from edgec.build import constant
from edgec.ir import Array, Program, State
from edgec.passes.train import train
from edgec.pipeline import Options
from edgec.training.learned import Learned, learned_of
from edgec.training.options import Scheme, TrainSpec, WeightSlice
from tests.training_networks import network

SPEC = TrainSpec("full", rate=0.05, optimizer="momentum")
HEAD = """
#include "model.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static uint8_t arena[EDGEC_M_ARENA_RAM_BYTES] __attribute__((aligned(16)));
static uint8_t other_arena[EDGEC_M_ARENA_RAM_BYTES] __attribute__((aligned(16)));
static uint8_t bytes[EDGEC_M_SAVED_BYTES], again[EDGEC_M_SAVED_BYTES];
static edgec_m net, other;
static const float x[128] = {%s};

static int differs(void)
{
    return edgec_m_saved_read(&net, 0, again, sizeof again) != EC_OK || memcmp(bytes, again, sizeof again) != 0;
}

int main(void)
{
    float loss = 0.0f;
    int32_t correct = -1, label[2] = {1, 2};
"""


def drawn() -> Array:
    return np.random.default_rng(3).normal(size=(2, 8, 8, 1)).astype(np.float32)


def run(tmp_path: Path, body: str, spec: TrainSpec = SPEC) -> list[str]:
    """Lines that a C program with this body prints."""
    program = train(network("digits").program, spec)
    artifact(program, "host", tmp_path / "artifact", "m", Options(precision="fp32", train=spec))
    values = ", ".join(f"{v!r}f" for v in drawn().ravel().tolist())
    return ran_c(tmp_path / "artifact", HEAD % values + body + "    return 0;\n}\n").split()


def interpreted(spec: TrainSpec, steps: int) -> list[float]:
    """Losses of the interpreter's steps on the same sample; `apply` follows as the C API does it."""
    program = train(network("digits").program, spec)
    graph, state, losses = program.graph("train_step"), None, []
    inputs = dict(zip((v.name for v in graph.inputs), (drawn(), np.int32([1, 2])), strict=True))
    for i in range(steps):
        outputs, state = interp.run(program, graph, inputs, state)
        losses.append(float(outputs[graph.outputs[0]][0]))
        if spec.accumulate > 1 and (i + 1) % spec.accumulate == 0:
            _, state = interp.run(program, program.graph("apply"), {}, state)
    return losses


TRAINED = """
    if (edgec_m_init(&net, arena) != EC_OK) return 1;
    for (int i = 0; i < 6; i++) {
        if (edgec_m_train_step(&net, x, label, &loss, &correct) != EC_OK) return 2;
        printf("%.9g\\n", (double)loss);
    }
    if (edgec_m_evaluate(&net, x, label, &loss, NULL) != EC_OK) return 3;
    printf("%u\\n", (unsigned)edgec_m_steps(&net));
"""


def test_steps_are_those_of_the_interpreter(tmp_path: Path) -> None:
    *losses, steps = run(tmp_path, TRAINED)
    np.testing.assert_allclose([float(v) for v in losses], interpreted(SPEC, 6), rtol=1e-4)
    assert steps == "6"


def test_accumulated_steps_are_applied_every_so_many(tmp_path: Path) -> None:
    spec = TrainSpec("full", rate=0.05, accumulate=3)
    *losses, steps = run(tmp_path, TRAINED, spec)
    np.testing.assert_allclose([float(v) for v in losses], interpreted(spec, 6), rtol=1e-4)
    assert losses[0] == losses[1] == losses[2] != losses[3]
    assert steps == "2"


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    body = """
    static float broken[128];
    printf("%d ", edgec_m_train_step(&net, x, label, &loss, &correct)); /* before init */
    if (edgec_m_init(&net, arena) != EC_OK) return 1;
    if (edgec_m_train_step(&net, x, label, &loss, &correct) != EC_OK) return 2;
    edgec_m_saved_read(&net, 0, bytes, sizeof bytes);
    label[1] = 10;
    printf("%d %d ", edgec_m_train_step(&net, x, label, &loss, &correct), differs());
    label[1] = -1;
    printf("%d %d ", edgec_m_evaluate(&net, x, label, &loss, &correct), differs());
    label[1] = 2;
    memcpy(broken, x, sizeof broken);
    broken[7] = NAN;
    printf("%d %d ", edgec_m_train_step(&net, broken, label, &loss, &correct), differs());
    broken[7] = INFINITY;
    printf("%d %d ", edgec_m_train_step(&net, broken, label, &loss, &correct), differs());
    printf("%d %d ", edgec_m_set_learning_rate(&net, -1.0f), edgec_m_set_learning_rate(&net, NAN));
    printf("%d ", edgec_m_set_learning_rate(&net, INFINITY));
    printf("%d %d ", edgec_m_train_step(&net, x, label, NULL, &correct), differs());
    printf("%d ", edgec_m_saved_read(&net, 1, bytes, sizeof bytes));
    printf("%d %d\\n", edgec_m_saved_write(&net, sizeof bytes, bytes, 1), differs());
"""
    assert run(tmp_path, body) == [
        "4",
        "5",
        "0",
        "5",
        "0",
        "6",
        "0",
        "6",
        "0",
        "5",
        "5",
        "5",
        "1",
        "0",
        "5",
        "5",
        "0",
    ]


def test_saved_bytes_bring_back_what_was_learnt(tmp_path: Path) -> None:
    body = """
    if (edgec_m_init(&net, arena) != EC_OK || edgec_m_init(&other, other_arena) != EC_OK) return 1;
    for (int i = 0; i < 4; i++) edgec_m_train_step(&net, x, label, &loss, &correct);
    edgec_m_set_learning_rate(&net, 0.125f);
    for (uint32_t at = 0; at < sizeof bytes; at += 1000) {
        uint32_t some = sizeof bytes - at < 1000 ? (uint32_t)sizeof bytes - at : 1000;
        if (edgec_m_saved_read(&net, at, bytes + at, some) != EC_OK) return 2;
        if (edgec_m_saved_write(&other, at, bytes + at, some) != EC_OK) return 3;
    }
    for (int i = 0; i < 3; i++) {
        float mine = 0.0f;
        edgec_m_train_step(&net, x, label, &loss, &correct);
        edgec_m_train_step(&other, x, label, &mine, &correct);
        printf("%d ", memcmp(&mine, &loss, sizeof loss));
    }
    printf("%g %u\\n", (double)edgec_m_learning_rate(&other), (unsigned)edgec_m_steps(&other));
"""
    assert run(tmp_path, body) == ["0", "0", "0", "0.125", "7"]


def test_reset_brings_back_the_factory(tmp_path: Path) -> None:
    body = """
    if (edgec_m_init(&net, arena) != EC_OK) return 1;
    edgec_m_saved_read(&net, 0, bytes, sizeof bytes);
    for (int i = 0; i < 4; i++) edgec_m_train_step(&net, x, label, &loss, &correct);
    printf("%d ", differs());
    printf("%d ", edgec_m_reset(&net));
    printf("%d\\n", differs());
"""
    assert run(tmp_path, body) == ["1", "0", "0"]


def test_inputs_may_stand_in_place(tmp_path: Path) -> None:
    body = """
    if (edgec_m_init(&net, arena) != EC_OK || edgec_m_init(&other, other_arena) != EC_OK) return 1;
    float mine = 0.0f;
    memcpy(edgec_m_train_step_input_x(&other), x, sizeof x);
    memcpy(edgec_m_train_step_input_label(&other), label, sizeof label);
    edgec_m_train_step(&net, x, label, &loss, NULL);
    edgec_m_train_step(&other, NULL, NULL, &mine, NULL);
    printf("%d\\n", memcmp(&mine, &loss, sizeof loss));
"""
    assert run(tmp_path, body) == ["0"]


def learned(spec: TrainSpec, program: Program | None = None) -> Learned:
    found = learned_of(train(program or network("digits").program, spec), spec)
    assert found is not None
    return found


def test_the_graphs_hash_is_that_of_the_network_whatever_trains() -> None:
    sparse = Scheme(1, (WeightSlice("wide.0", None, 0.5), WeightSlice("deep.0", None, 0.25)))
    specs = [SPEC, TrainSpec("head"), TrainSpec("lora", 2), TrainSpec("sparse", scheme=sparse)]
    found = [learned(spec) for spec in specs]
    assert len({one.graph_hash for one in found}) == 1
    assert len({one.layout_hash for one in found}) == len(specs)
    assert {one.classes for one in found} == {10}


def test_other_channels_of_a_slice_are_another_layout() -> None:
    layouts = [
        learned(TrainSpec("sparse", scheme=Scheme(0, (WeightSlice("wide.0", None, 0.5),), c))).layout_hash
        for c in ("first", "magnitude+")
    ]
    assert layouts[0] != layouts[1]


def test_other_weights_are_another_graph() -> None:
    program = network("digits").program
    name, content = next((n, c) for n, c in program.constants.items() if c.type.size > 100)
    other = Program(program.graphs, {**program.constants, name: constant(content.data * 2)}, program.state)
    assert learned(SPEC, other).graph_hash != learned(SPEC).graph_hash
    assert learned(SPEC, other).layout_hash == learned(SPEC).layout_hash


def test_a_program_that_does_not_learn_has_no_learned() -> None:
    assert learned_of(network("digits").program, TrainSpec()) is None


def test_blank_state_takes_no_flash(tmp_path: Path) -> None:
    program = train(network("digits").program, SPEC)
    artifact(program, "host", tmp_path / "artifact", "m", Options(precision="fp32", train=SPEC))
    text = (tmp_path / "artifact/src/weights.c").read_text()
    blank = [s for s, v in program.state.items() if s.endswith(".momentum")]
    assert blank and all(isinstance(program.state[s], State) for s in blank)
    assert "momentum" not in text
    assert "memset(T_state_" in (tmp_path / "artifact/src/model.c").read_text()


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_other_losses_take_their_target(tmp_path: Path, loss: str) -> None:
    spec = TrainSpec("full", loss=loss)  # type: ignore[arg-type]
    body = """
    if (edgec_m_init(&net, arena) != EC_OK) return 1;
    (void)correct;
    (void)label;
    printf("%d ", edgec_m_train_step(&net, x, x, &loss));
    printf("%d\\n", differs());
"""
    assert run(tmp_path, body, spec) == ["0", "1"]


STORED = """
#include "ec_flash_ram.h"
#include "ec_store.h"
#include "model_store.h"

static const ec_flash_run runs[] = {{65536, 4}};
static const ec_flash_geometry geometry = {runs, 1, 8, 0xFF};
static uint8_t cells[4 * 65536];
"""


def run_stored(tmp_path: Path, body: str) -> list[str]:
    """Lines that a C program with this body prints; its model's weights are kept in flash of RAM."""
    program = train(network("digits").program, TrainSpec("full", rate=0.05))
    artifact(
        program, "host", tmp_path / "a", "m", Options(precision="fp32", train=TrainSpec("full", rate=0.05))
    )
    values = ", ".join(f"{v!r}f" for v in drawn().ravel().tolist())
    units = ("model_store.c", "store/ec_store.c", "store/ec_crc32.c", "store/ec_flash_ram.c")
    included = "".join(f'#include "{unit}"\n' for unit in units)
    main = STORED + HEAD % values + body + "    return 0;\n}\n" + included
    return ran_c(tmp_path / "a", main, f"-I{tmp_path / 'a/src/store'}").split()


OPENED = """
    ec_flash_ram ram = {&geometry, cells};
    ec_flash flash = ec_flash_in_ram(&ram);
    ec_store_layout layout = EDGEC_M_STORE_LAYOUT(0, 2, 2);
    ec_store store;
    if (edgec_m_init(&net, arena) != EC_OK || edgec_m_init(&other, other_arena) != EC_OK) return 1;
    if (ec_store_open(&store, &flash, &layout) != EC_STORE_OK) return 2;
"""


def test_what_was_saved_in_flash_is_there_after_a_restart(tmp_path: Path) -> None:
    body = (
        OPENED
        + """
    printf("%d ", edgec_m_load(&net, &store)); /* empty */
    for (int i = 0; i < 5; i++) {
        edgec_m_train_step(&net, x, label, &loss, &correct);
        if (edgec_m_save(&net, &store) != EC_STORE_OK) return 3;
    }
    edgec_m_saved_read(&net, 0, bytes, sizeof bytes);
    if (ec_store_open(&store, &flash, &layout) != EC_STORE_OK) return 4;
    printf("%d ", edgec_m_load(&other, &store));
    edgec_m_saved_read(&other, 0, again, sizeof again);
    printf("%d %u ", memcmp(bytes, again, sizeof bytes), (unsigned)edgec_m_steps(&other));
    edgec_m_train_step(&net, x, label, &loss, &correct);
    float mine = 0.0f;
    edgec_m_train_step(&other, x, label, &mine, &correct);
    printf("%d\\n", memcmp(&mine, &loss, sizeof loss));
"""
    )
    assert run_stored(tmp_path, body) == ["2", "0", "0", "5", "0"]


def test_weights_of_another_network_or_choice_are_refused(tmp_path: Path) -> None:
    body = (
        OPENED
        + """
    edgec_m_train_step(&net, x, label, &loss, &correct);
    if (edgec_m_save(&net, &store) != EC_STORE_OK) return 3;
    edgec_m_saved_read(&other, 0, bytes, sizeof bytes);
    layout.graph_hash ^= 1u;
    if (ec_store_open(&store, &flash, &layout) != EC_STORE_OK) return 4;
    printf("%d ", edgec_m_load(&other, &store));
    layout.graph_hash ^= 1u;
    layout.layout_hash ^= 1u;
    if (ec_store_open(&store, &flash, &layout) != EC_STORE_OK) return 5;
    printf("%d ", edgec_m_load(&other, &store));
    edgec_m_saved_read(&other, 0, again, sizeof again);
    printf("%d %d\\n", memcmp(bytes, again, sizeof bytes), edgec_m_save(NULL, &store));
"""
    )
    assert run_stored(tmp_path, body) == ["4", "5", "0", "6"]
