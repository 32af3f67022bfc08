"""One logger: a line a step with what changed and seconds, and a progress bar for anything over two seconds.

Everything goes to stderr. `EDGEC_LOG` is the level: 0 errors, 1 steps (default), 2 what each pass changed
and tracebacks, 3 every kernel considered. Libraries print nothing: only the command line raises the level from 0.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def level_of_environment() -> int:
    """EDGEC_LOG as a number; 0 where it is none."""
    text = os.environ.get("EDGEC_LOG", "").strip()
    return int(text) if text.isdecimal() and text.isascii() else 0


_level = level_of_environment()
_progress = True
_color = True


def set_level(value: int) -> None:
    """0 quiet, 1 steps, 2 details, 3 everything."""
    global _level
    _level = value


def set_progress(on: bool) -> None:
    """Whether bars may be drawn; they are drawn on a terminal only."""
    global _progress
    _progress = on


def set_color(on: bool) -> None:
    """Whether errors may be coloured; they are on a terminal only, and not where NO_COLOR is set."""
    global _color
    _color = on


def red(text: str) -> str:
    """`text` in red where stderr is a terminal that may be coloured."""
    plain = not _color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stderr.isatty() else f"\033[31m{text}\033[0m"


def level() -> int:
    """The current level."""
    return _level


def say(text: str, at: int = 1) -> None:
    """Write a line to stderr where the level is at least `at`."""
    if _level >= at:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[list[str]]:
    """Log `name`, what the body appended to the yielded list, and the seconds taken. What appended nothing is
    told at level 2 only."""
    begin = time.perf_counter()
    notes: list[str] = []
    yield notes
    line = f"{name:<20} {' '.join(notes) or '(unchanged)':<64} {time.perf_counter() - begin:6.1f} s"
    say(line, 1 if notes else 2)


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Shows `title` and the seconds while another program works: on a terminal, after the first second."""
    if not (_progress and _level >= 1 and sys.stderr.isatty()):
        yield
        return
    done = threading.Event()

    def show() -> None:
        begin = time.perf_counter()
        while not done.wait(1.0):
            print(f"\r{title}  {time.perf_counter() - begin:.0f} s", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def progress(items: Iterable[T], title: str, total: int | None = None) -> Iterable[T]:
    """`items` behind a progress bar on a terminal; plain elsewhere, and where tqdm is not installed."""
    if not (_progress and _level >= 1 and sys.stderr.isatty()):
        return items
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    bar: Iterable[T] = tqdm(items, desc=title, total=total, leave=False, file=sys.stderr, delay=1.0)
    return bar


@contextmanager
def live(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """A function that advances a bar of `total` and shows a text beside it; elsewhere than on a terminal, or without
    tqdm, a line every ten seconds."""
    begin = last = time.perf_counter()
    done = 0

    def line(text: str) -> None:
        nonlocal done, last
        done += 1
        now = time.perf_counter()
        if now - last >= 10.0:
            last = now
            say(f"{title}  {done} of {total}  {text}  {now - begin:.0f} s")

    bar = None
    if _progress and _level >= 1 and sys.stderr.isatty():
        try:
            from tqdm import tqdm

            bar = tqdm(desc=title, total=total, leave=False, file=sys.stderr, delay=1.0)
        except ImportError:
            pass
    if bar is None:
        yield line
        return

    def advance(text: str) -> None:
        bar.set_postfix_str(text, refresh=False)
        bar.update()

    try:
        yield advance
    finally:
        bar.close()
