"""The table of PyTorch operators: name without overload -> importer. One row and one function an operator."""

from __future__ import annotations

from typing import Final

from edgec.frontends import (
    torch_ops_decoder,
    torch_ops_linear,
    torch_ops_pointwise,
    torch_ops_shape,
    torch_ops_spatial,
)
from edgec.frontends.torch_call import Importer

TABLE: Final[dict[str, Importer]] = {
    **torch_ops_pointwise.TABLE,
    **torch_ops_shape.TABLE,
    **torch_ops_linear.TABLE,
    **torch_ops_spatial.TABLE,
    **torch_ops_decoder.TABLE,
}

# Checks that the exported program carries for itself; they have no value.
IGNORED: Final = frozenset(
    ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range_for_size")
)
