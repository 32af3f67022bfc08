"""Words of the command line that `compile --train` and `tune --train` share."""

from __future__ import annotations

import argparse


def integer_words(p: argparse.ArgumentParser) -> None:
    """How int8 layers learn."""
    p.add_argument(
        "--gradients",
        choices=("int8", "fp32"),
        default="int8",
        help="of int8 layers' activations (default int8)",
    )
    p.add_argument(
        "--rounding",
        choices=("stochastic", "nearest", "q8.8"),
        default="stochastic",
        help="of updates of int8 weights; q8.8 keeps 8 bits more of each (default stochastic)",
    )
