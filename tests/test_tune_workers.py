"""Measuring on one worker, on two, after kills and on Ray clusters: always the same scheme."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tuning import ITEMS, SUBJECT, Tiny, scheme

import edgec
from edgec.cli import main
from edgec.errors import TargetError, UserError
from edgec.tune import contribution, workers
from edgec.tune.contribution import Staff, Task
from edgec.tune.evolution import Choice, Found
from edgec.tune.journal import Journal, Result, Subject

KILLS = 20
NEEDS_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="LEFT OUT, no cluster: Ray is not installed (edgec[cluster])",
)


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return scheme(tmp_path_factory.mktemp("one") / "journal", Tiny(), Staff(1))


def test_a_search_chooses_something_that_helps(one_worker: Found) -> None:
    assert one_worker.total > 0.05
    assert one_worker.choice.slices
    assert one_worker.costs[0] <= 300


def test_two_workers_give_what_one_gives(one_worker: Found, tmp_path: Path) -> None:
    assert scheme(tmp_path / "journal", Tiny(), Staff(2)) == one_worker


def test_a_result_depends_on_its_task_alone() -> None:
    tasks = [Task(choice, ITEMS.seeds[0]) for choice in ITEMS.choices]
    whole = dict(workers.run(Tiny(), tasks, 2))
    backwards = dict(workers.run(Tiny(), tasks[::-1], 2))
    assert whole == {i: Tiny()(task) for i, task in enumerate(tasks)}
    assert [backwards[i] for i in range(len(tasks))][::-1] == [whole[i] for i in range(len(tasks))]


def test_a_run_killed_twenty_times_finds_what_one_run_finds(one_worker: Found, tmp_path: Path) -> None:
    path, lengths = tmp_path / "journal", []
    for kill in range(1, KILLS + 1):
        done = run_child(path, 1 + kill % 2)
        assert done.returncode == -signal.SIGKILL, done.stderr
        lengths.append(path.stat().st_size)
    assert lengths == sorted(set(lengths))  # at twenty lengths of the journal
    assert run_child(path, 0).stdout == f"{one_worker}\n"
    assert scheme(path, Tiny(), Staff(2), resume=True) == one_worker
    assert len(path.read_bytes().splitlines()) == 1 + len(ITEMS.choices) * len(ITEMS.seeds)


def run_child(path: Path, lines: int) -> subprocess.CompletedProcess[str]:
    """A measurement in a process of its own, which dies after so many lines; its worker dies with it."""
    program = Path(__file__).with_name("tiny_tuning.py")
    command = [sys.executable, str(program), str(path), str(lines)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_results_that_are_there_are_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = scheme(path, Tiny(), Staff(1))
    with Journal.open(path, SUBJECT, resume=True) as journal:
        accuracy = contribution.measure(ITEMS, ITEMS.choices, _never, journal, Staff(1))
    assert contribution.contributions(ITEMS, accuracy).total(first.choice) == first.total


def _never(task: Task) -> Result:
    raise AssertionError(f"measured again: {task}")


def filled(path: Path) -> list[bytes]:
    """A journal with three results: its lines."""
    with Journal.open(path, SUBJECT, resume=False) as journal:
        for i in range(3):
            journal.add(f"task {i}", Result(i, 10))
    return path.read_bytes().splitlines(keepends=True)


def test_a_torn_last_line_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lines = filled(path)
    whole = b"".join(lines)
    for length in range(len(lines[0]), len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = sum(length >= sum(map(len, lines[: n + 1])) for n in range(1, 4))
        with Journal.open(path, SUBJECT, resume=True) as journal:
            assert journal.results == {f"task {i}": Result(i, 10) for i in range(complete)}
            journal.add("task 9", Result(1, 1))
        with Journal.open(path, SUBJECT, resume=True) as journal:
            assert len(journal.results) == complete + 1


@pytest.mark.parametrize("line", [0, 1, 3])
def test_a_damaged_line_is_refused(line: int, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lines = filled(path)
    for position in range(len(lines[line]) - 1):
        changed = bytearray(lines[line])
        changed[position] ^= 1
        path.write_bytes(b"".join([*lines[:line], bytes(changed), *lines[line + 1 :]]))
        with pytest.raises(UserError) as caught:
            Journal.open(path, SUBJECT, resume=True)
        assert str(caught.value) == (
            f"EDGEC-E271: delete {path} to measure anew, or bring back a copy of it: its line {line + 1} is damaged or "
            "not a journal's"
        )


def test_an_empty_file_and_another_file_are_no_journals(tmp_path: Path) -> None:
    for content in (b"", b"[1]\n", b"biases = 3\n", b"\xff\xfe\n", b"{}\n"):
        path = tmp_path / "journal"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"its line 1 is damaged or not a journal's") as caught:
            Journal.open(path, SUBJECT, resume=True)
        assert caught.value.code == "EDGEC-E271"


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        (Subject("other", "blobs", "sgd"), "model"),
        (Subject("tiny", "other", "sgd"), "data"),
        (Subject("tiny", "other", "adam"), "data and options"),
    ],
)
def test_a_journal_of_something_else_is_refused(subject: Subject, told: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    filled(path)
    before = path.read_bytes()
    with pytest.raises(UserError) as caught:
        Journal.open(path, subject, resume=True)
    assert str(caught.value) == (
        f"EDGEC-E272: give another -o, or delete {path} to measure anew: it was measured with other {told}"
    )
    assert path.read_bytes() == before


def test_a_journal_of_another_format_is_refused(tmp_path: Path) -> None:
    from edgec.tune import journal as tune_journal

    path = tmp_path / "journal"
    head = {"format": 2, "model": "tiny", "data": "blobs", "options": "sgd"}
    path.write_bytes(tune_journal._line(head))
    with pytest.raises(UserError) as caught:
        Journal.open(path, SUBJECT, resume=True)
    assert str(caught.value) == (
        f"EDGEC-E272: delete {path} to measure anew: it has format 2, this edgec writes 1"
    )


def test_a_journal_is_not_written_over_without_resume(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    filled(path)
    with pytest.raises(UserError) as caught:
        Journal.open(path, SUBJECT, resume=False)
    assert str(caught.value) == (
        f"EDGEC-E270: give --resume to go on with {path}, or delete it to measure anew: it holds the results of an "
        "earlier run"
    )


def test_two_runs_do_not_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with (
        Journal.open(path, SUBJECT, resume=False),
        pytest.raises(UserError) as caught,
    ):
        Journal.open(path, SUBJECT, resume=True)
    assert str(caught.value) == (
        f"EDGEC-E277: wait for the other run, or give another -o: {path} is in use by a running `edgec tune`"
    )


def test_a_journal_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "journal"
    with pytest.raises(UserError) as caught:
        Journal.open(path, SUBJECT, resume=False)
    assert str(caught.value) == (
        f"EDGEC-EB09: choose a place that can be written: {path}: No such file or directory"
    )


def test_a_full_disk_is_told_and_the_results_before_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with Journal.open(path, SUBJECT, resume=False) as journal:
        journal.add("a", Result(1, 2))
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        with pytest.raises(UserError) as caught:
            journal.add("b", Result(1, 2))
        monkeypatch.undo()
    assert str(caught.value) == (
        f"EDGEC-EB09: free space or choose another place: {path}: No space left on device"
    )
    with Journal.open(path, SUBJECT, resume=True) as journal:
        assert journal.results == {"a": Result(1, 2)}


@dataclass(frozen=True)
class Dies:
    """Work whose worker is killed at one task."""

    def __call__(self, task: int) -> int:
        if task == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return task


def test_a_killed_worker_is_told() -> None:
    with pytest.raises(TargetError) as caught:
        list(workers.run(Dies(), range(8), 2))
    assert str(caught.value) == (
        "EDGEC-E841: run it again with --resume, and with fewer --workers if memory was short: a worker process was "
        "killed; finished results are kept"
    )


@dataclass(frozen=True)
class Refuses:
    """Work that refuses one task, and says how many threads the others have."""

    def __call__(self, task: int) -> str | None:
        if task == 2:
            raise UserError("EDGEC-E999", "give something else")
        return os.environ.get("OPENBLAS_NUM_THREADS")


def test_an_error_for_the_user_comes_through_and_workers_have_one_thread() -> None:
    with pytest.raises(UserError) as caught:
        dict(workers.run(Refuses(), range(3), 1))
    assert str(caught.value) == "EDGEC-E999: give something else"
    assert dict(workers.run(Refuses(), (0, 1), 1)) == {0: "1", 1: "1"}


def test_no_worker_outlives_a_caller_that_stops() -> None:
    import multiprocessing

    running: Any = workers.run(Tiny(1000), [Task(Choice(1), seed) for seed in range(4)], 2)
    main = threading.main_thread().ident
    threading.Timer(3.0, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        next(running)
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not multiprocessing.active_children()


def test_without_ray_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TargetError) as caught:
        list(workers.run(Tiny(), [Task(Choice(1), 0)], 1, "head:6379"))
    assert caught.value.exit_code == 10
    assert str(caught.value) == (
        "EDGEC-EA08: run pip install 'edgec[cluster]': --cluster needs Ray, which is not installed"
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of node processes on this computer: a head that does no work, and two nodes, which know the
    modules of the tests; and one of those two."""
    from ray.cluster_utils import Cluster

    memory = 80 << 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
        )
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory})
        try:
            made.add_node(num_cpus=1, object_store_memory=memory)
            yield made, made.add_node(num_cpus=1, object_store_memory=memory)
        finally:
            made.shutdown()


@NEEDS_RAY
def test_ray_gives_what_one_worker_gives_also_where_a_node_is_killed(
    one_worker: Found, cluster: Any, tmp_path: Path
) -> None:
    nodes, victim = cluster
    assert scheme(tmp_path / "whole", Tiny(), Staff(cluster=nodes.address)) == one_worker
    path = tmp_path / "killed"
    killed: list[int] = []
    deadline = time.monotonic() + 60

    def kill() -> None:
        while not path.exists() or len(path.read_bytes().splitlines()) < 6:
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        nodes.remove_node(victim, allow_graceful=False)
        killed.append(len(path.read_bytes().splitlines()))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    found = scheme(path, Tiny(), Staff(cluster=nodes.address))
    thread.join()
    assert killed[0] < 1 + len(ITEMS.choices) * len(ITEMS.seeds)  # while tasks were under way
    assert found == one_worker
    assert [json.loads(line)["right"] for line in sorted(path.read_bytes().splitlines()[1:])] == [
        json.loads(line)["right"] for line in sorted((tmp_path / "whole").read_bytes().splitlines()[1:])
    ]


@pytest.mark.slow
@NEEDS_RAY
def test_the_command_writes_the_same_scheme_on_a_cluster(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On what is left of the cluster."""
    rng = np.random.default_rng(0)
    label = np.arange(30) % 3
    image = rng.normal(0, 1, (30, 1, 8, 8)) + label[:, None, None, None]
    np.savez(tmp_path / "data.npz", image=image.astype(np.float32), label=label)
    monkeypatch.chdir(tmp_path)
    words = [
        "tune",
        "-",
        "--model",
        "tests.cli_models:net",
        "--train",
        "--data",
        "data.npz",
        "--memory",
        "16K",
        "-q",
    ]
    for name, more in (("one.toml", ()), ("ray.toml", ("--cluster", cluster[0].address))):
        assert main([*words, "--on", "interpreter", "-o", name, *more]) == 0
    assert Path("one.toml").read_bytes() == Path("ray.toml").read_bytes()


@pytest.mark.slow
@NEEDS_RAY
def test_a_task_that_loses_every_worker_of_a_cluster_is_told(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "RETRIES", 1)
    with pytest.raises(TargetError) as caught:
        list(workers.run(Dies(), range(3, 5), 1, cluster[0].address))
    assert str(caught.value) == (
        "EDGEC-E841: check the cluster's nodes and their memory, and run it again with --resume: one fine-tuning did "
        "not end, in up to 1 tries (WorkerCrashedError); finished results are kept"
    )


def test_a_node_with_another_edgec_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = workers._do_remote("0.0.1", "", b"", 0)
    monkeypatch.setattr(workers, "_on_cluster", lambda *_: (found for found in [(0, answer)]))
    with pytest.raises(TargetError) as caught:
        list(workers.run(Tiny(), [Task(Choice(1), 0)], 1, "head:6379"))
    assert str(caught.value) == (
        f"EDGEC-E842: install edgec 0.0.1 on every node of the cluster: one has edgec {edgec.__version__}"
    )


@NEEDS_RAY
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "[Errno 111] Connection refused"),
        ("auto", "it is not HOST:PORT"),
        ("head:port", "it is not HOST:PORT"),
    ],
)
def test_a_cluster_that_does_not_answer_is_told(address: str, reason: str) -> None:
    with pytest.raises(TargetError) as caught:
        list(workers.run(Tiny(), [Task(Choice(1), 0)], 1, address))
    assert caught.value.exit_code == 8
    assert str(caught.value) == (
        f"EDGEC-E840: give --cluster as HOST:PORT of a Ray cluster (`ray status --address {address}` shows it) whose "
        f"nodes run this Python and this Ray: none answers at {address} ({reason})"
    )
