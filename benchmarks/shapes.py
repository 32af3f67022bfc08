"""Ten filled shapes before a busy background: a task that a network can learn without any data set.

Each image holds one shape in random pose, size and colour on a random plane wave with noise. Pixels are int8 in steps
of 1/127.5, as MCUNet takes them. One seed, one set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.floating[Any]]
Bits = npt.NDArray[np.bool_]

SMALLEST, LARGEST = 0.25, 0.42  # radius, of the image's size
NOISE: Final = 0.05
CONTRAST: Final = 0.35  # least distance of the shape's colour from the background's


def _polygon(corners: int) -> Callable[[Map, Map], Bits]:
    """Regular, its corners at radius 1."""

    def inside(x: Map, y: Map) -> Bits:
        sector = 2 * np.pi / corners
        angle = np.mod(np.arctan2(y, x), sector) - sector / 2
        return np.asarray(np.hypot(x, y) * np.cos(angle) < np.cos(sector / 2))

    return inside


def _star(points: int, inner: float) -> Callable[[Map, Map], Bits]:
    """Corners at radius 1 and `inner` by turns."""

    def inside(x: Map, y: Map) -> Bits:
        half = np.pi / points
        angle = np.abs(np.mod(np.arctan2(y, x) + half, 2 * half) - half)  # 0 at a point, `half` between two
        edge = (
            inner
            * np.sin(half)
            / (np.sin(angle) * (1 - inner * np.cos(half)) + np.cos(angle) * inner * np.sin(half))
        )
        return np.asarray(np.hypot(x, y) < edge)

    return inside


def _circle(x: Map, y: Map) -> Bits:
    return np.asarray(np.hypot(x, y) < 0.9)


def _ellipse(x: Map, y: Map) -> Bits:
    return np.asarray(np.hypot(x, y / 0.5) < 1.0)


def _ring(x: Map, y: Map) -> Bits:
    radius = np.hypot(x, y)
    return np.asarray((radius < 0.95) & (radius > 0.5))


def _half_disc(x: Map, y: Map) -> Bits:
    return np.asarray((np.hypot(x, y + 0.4) < 1.0) & (y > -0.4))


def _cross(x: Map, y: Map) -> Bits:
    a, b = np.abs(x), np.abs(y)
    return np.asarray(((a < 0.3) & (b < 0.95)) | ((b < 0.3) & (a < 0.95)))


def _crescent(x: Map, y: Map) -> Bits:
    return np.asarray((np.hypot(x, y) < 0.95) & (np.hypot(x - 0.5, y) > 0.75))


def _angle(x: Map, y: Map) -> Bits:
    """The letter L."""
    box = (np.abs(x) < 0.7) & (np.abs(y) < 0.7)
    return np.asarray(box & ((x < -0.15) | (y > 0.15)))


SHAPES: Final[tuple[Callable[[Map, Map], Bits], ...]] = (
    _circle,
    _ellipse,
    _polygon(3),
    _polygon(4),
    _crescent,
    _angle,
    _star(5, 0.45),
    _cross,
    _ring,
    _half_disc,
)


def image(rng: np.random.Generator, label: int, size: int = 128) -> npt.NDArray[np.int8]:
    """One image int8[size,size,3] of shape `label`."""
    at = (np.arange(size) + 0.5) / size - 0.5
    y, x = np.meshgrid(at, at, indexing="ij")
    radius = rng.uniform(SMALLEST, LARGEST)
    reach = 0.5 - radius
    centre = rng.uniform(-reach, reach, 2)
    turn = rng.uniform(0, 2 * np.pi)
    u, v = (x - centre[0]) / radius, (y - centre[1]) / radius
    inside = SHAPES[label](u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn))
    base = rng.uniform(0, 1, 3)
    colour = rng.uniform(0, 1, 3)
    while np.abs(colour - base).max() < CONTRAST:
        colour = rng.uniform(0, 1, 3)
    direction, waves = rng.uniform(0, 2 * np.pi), rng.uniform(1, 8)
    wave = np.sin(
        2 * np.pi * waves * (x * np.cos(direction) + y * np.sin(direction)) + rng.uniform(0, 2 * np.pi)
    )
    picture = base + rng.uniform(0.05, 0.25, 3) * wave[..., None]
    picture = np.where(inside[..., None], colour, picture) + NOISE * rng.normal(size=(size, size, 3))
    steps = np.floor((np.clip(picture, 0, 1) - 0.5) * 255 + 0.5)
    return np.asarray(np.clip(steps, -128, 127), np.int8)


def dataset(count: int, seed: int, size: int = 128) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """(images int8[count,size,size,3], labels int32[count]), every label equally often, in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(SHAPES)).astype(np.int32)
    return np.stack([image(rng, int(label), size) for label in labels]), labels
