"""Tasks on several processes of this computer, or on the nodes of a Ray cluster.

A task is done by its number alone, never by who does it or when: one worker, two, or a cluster that loses a node give
the same results. Each worker computes with one thread, because the order in which a product is summed depends on how
many there are.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from edgec import __version__, errors
from edgec.errors import EdgecError, TargetError

T = TypeVar("T")
R = TypeVar("R")
Results = Generator[tuple[int, Any], None, None]

ANSWER_SECONDS: Final = 10.0
RETRIES: Final = 20  # of a task whose Ray node died
ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An error for the user, as a worker hands it back: exceptions with two arguments do not survive pickling."""

    kind: str
    code: str
    message: str


def run(
    work: Callable[[T], R], tasks: Sequence[T], workers: int, cluster: str | None = None
) -> Generator[tuple[int, R], None, None]:
    """(number, work(task)) of every task, as they finish. `work` is pickled once for each worker.

    Raises what `work` raises to the user; TargetError EDGEC-E841 where a worker was killed, EA08 where Ray is not
    installed, E840 where the cluster at address `cluster` does not answer, E842 where a node has another edgec.
    """
    if not tasks:
        return
    found = _on_processes(work, tasks, workers) if cluster is None else _on_cluster(work, tasks, cluster)
    with closing(found):  # now, not when the caller's traceback goes
        for number, result in found:
            if isinstance(result, _Refusal):
                raise getattr(errors, result.kind)(result.code, result.message)
            yield number, result


def _on_processes(work: Callable[[T], R], tasks: Sequence[T], workers: int) -> Results:
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
    before = set(multiprocessing.active_children())
    with _one_thread():
        pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _enter, (pickle.dumps(work),))
        try:
            numbers = {pool.submit(_do, task): number for number, task in enumerate(tasks)}
            for done in as_completed(numbers):
                yield numbers[done], done.result()
        except BrokenProcessPool:
            raise TargetError(
                "EDGEC-E841",
                "run it again with --resume, and with fewer --workers if memory was short: a worker process was "
                "killed; finished results are kept",
            ) from None
        finally:  # also where the caller was interrupted: it waits for no task
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()


@contextmanager
def _one_thread() -> Iterator[None]:
    """What this process starts meanwhile computes with one thread."""
    old = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_own: dict[str, Callable[[Any], Any]] = {}  # what this worker process does, by its digest


def _enter(work: bytes) -> None:
    """The start of a worker process: it leaves Ctrl-C to its parent, and ends when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _own[""] = pickle.loads(work)


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _do(task: Any) -> Any:
    return _attempt(_own[""], task)


def _attempt(work: Callable[[Any], Any], task: Any) -> Any:
    try:
        return work(task)
    except EdgecError as error:
        return _Refusal(type(error).__name__, error.code, error.message)


def _on_cluster(work: Callable[[T], R], tasks: Sequence[T], address: str) -> Results:
    try:
        import ray
    except ImportError:
        raise TargetError(
            "EDGEC-EA08",
            "run pip install 'edgec[cluster]': --cluster needs Ray, which is not installed",
        ) from None
    try:
        _refuse_silent(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TargetError(
            "EDGEC-E840",
            f"give --cluster as HOST:PORT of a Ray cluster (`ray status --address {address}` shows it) whose nodes run "
            f"this Python and this Ray: none answers at {address} ({reason})",
        ) from None
    try:
        content = pickle.dumps(work)
        held = ray.put(content)
        digest = hashlib.sha256(content).hexdigest()
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_do_remote)
        pending = {
            remote.remote(__version__, digest, held, task): number for number, task in enumerate(tasks)
        }
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                yield pending.pop(reference), ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise  # our bug, with the worker's traceback
    except ray.exceptions.RayError as error:  # workers, nodes or their memory
        raise TargetError(
            "EDGEC-E841",
            "check the cluster's nodes and their memory, and run it again with --resume: one fine-tuning did not "
            f"end, in up to {RETRIES} tries ({type(error).__name__}); finished results are kept",
        ) from None
    finally:
        ray.shutdown()


def _refuse_silent(address: str) -> None:
    """Raise OSError or ValueError where nothing listens at HOST:PORT: Ray itself waits for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or len(port) > 5 or int(port) > 65_535:
        raise ValueError("it is not HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _do_remote(version: str, digest: str, work: bytes, task: Any) -> Any:
    """A task on a node. Its edgec must be the caller's: another may compute something else."""
    if version != __version__:
        return _other_version(__version__, version)
    if digest not in _own:
        _own.clear()
        _own[digest] = pickle.loads(work)
    return _attempt(_own[digest], task)


def _other_version(theirs: str, mine: str) -> _Refusal:
    text = f"install edgec {mine} on every node of the cluster: one has edgec {theirs}"
    return _Refusal("TargetError", "EDGEC-E842", text)
