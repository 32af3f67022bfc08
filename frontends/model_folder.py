"""A folder of a Hugging Face model: config.json and safetensors, whose weights stay in their files.

The module is built without its weights: every parameter is one zero seen through steps of 0, which is all that
torch.export wants of it. A weight is mapped from its file when it is read and is float32 for that time only.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgec.errors import TargetError, UserError
from edgec.frontends.checkpoint import first_line
from edgec.frontends.quiet import quiet
from edgec.frontends.torch_export import Weights
from edgec.ir import Array, Constant, DType, Type
from edgec.lazy import described, digest_of

if TYPE_CHECKING:
    import torch

MAX_HEAD_BYTES: Final = 100 << 20  # of a safetensors file; the format's own limit
_DTYPES: Final = {"F32": ("<f4", 4), "F16": ("<f2", 2), "BF16": ("<u2", 2)}
_TIED: Final = {"lm_head.weight": "model.embed_tokens.weight"}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where a tensor lies: `begin` counts from the file's start."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size_bytes: int


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a folder with a config.json."""
    return path.is_dir() and (path / "config.json").is_file()


def load_folder(path: Path) -> tuple[torch.nn.Module, Weights]:
    """The model without its weights, and the weights by name. Raises UserError EDGEC-E345 to -E347, TargetError
    EDGEC-EA06 without transformers."""
    model = empty_model(_config(path))
    return model, folder_weights(path, {n: tuple(p.shape) for n, p in model.named_parameters()})


def require_transformers() -> Any:
    """The package, imported when first needed. Raises TargetError EDGEC-EA06."""
    try:
        with quiet():
            import transformers
    except ImportError:
        raise TargetError(
            "EDGEC-EA06",
            "run pip install 'edgec[lm]': language models need transformers, which is not installed",
        ) from None
    return transformers


def _config(path: Path) -> Any:
    transformers = require_transformers()
    try:
        with quiet():
            return transformers.AutoConfig.from_pretrained(str(path), local_files_only=True)
    except Exception as error:  # of whatever is wrong with the file
        raise UserError(
            "EDGEC-E345",
            f"give a folder whose config.json transformers can read: that of {path} gives {type(error).__name__}: "
            f"{first_line(error)}",
        ) from None


def empty_model(config: Any) -> torch.nn.Module:
    """The decoder-only model of `config` with parameters that take no memory. Raises UserError EDGEC-E346."""
    import torch

    transformers = require_transformers()
    config = config.get_text_config()
    try:
        with quiet(), torch.device("meta"):
            model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except Exception as error:
        raise UserError(
            "EDGEC-E346",
            f"give a decoder-only model of transformers: {type(config).__name__} gives {type(error).__name__}: "
            f"{first_line(error)}",
        ) from None
    for module in list(model.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            one = torch.zeros(()).expand(parameter.shape)
            setattr(module, name, torch.nn.Parameter(one, requires_grad=False))
    for name, module in list(model.named_modules()):
        if any(b.is_meta for b in module.buffers(recurse=False)):
            parent, _, own = name.rpartition(".")
            setattr(
                model.get_submodule(parent), own, type(module)(config)
            )  # tables made from the configuration
    return model.eval()  # type: ignore[no-any-return]


def folder_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """Weights of the safetensors files in `path`, by the model's names."""
    found: dict[str, _Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        found |= _tensors(file)
    wanted = {name: name if name in found else _TIED.get(name, name) for name in shapes}
    missing = [name for name, source in wanted.items() if source not in found]
    odd = [n for n, s in wanted.items() if s in found and found[s].shape != shapes[n]]
    if missing or odd:
        what = f"lack {missing[0]}" if missing else f"hold {odd[0]} as {list(found[wanted[odd[0]]].shape)}"
        more = f" and {len(missing) + len(odd) - 1} more differ" if len(missing) + len(odd) > 1 else ""
        raise UserError(
            "EDGEC-E347",
            f"give a folder with the model's own safetensors: those of {path} {what}{more}, the model has "
            f"{list(shapes[(missing or odd)[0]])}",
        )

    def weights(name: str) -> Constant | None:
        return _constant(found[wanted[name]], name) if name in wanted else None

    return weights


def _tensors(file: Path) -> dict[str, _Tensor]:
    """The head of a safetensors file: 8 bytes of length, JSON. Raises UserError EDGEC-E348."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= min(MAX_HEAD_BYTES, size):
                raise ValueError(f"a head of {length} bytes")
            head = json.loads(opened.read(length))
        tensors = {}
        for name, entry in head.items():
            if name == "__metadata__":
                continue
            begin, end = (int(x) for x in entry["data_offsets"])
            shape = tuple(int(d) for d in entry["shape"])
            _, width = _DTYPES[entry["dtype"]]
            if not 0 <= begin <= end <= size - 8 - length or end - begin != width * int(np.prod(shape)):
                raise ValueError(f"{name[:80]!a} does not lie within the file")
            tensors[name] = _Tensor(file, entry["dtype"], shape, 8 + length + begin, end - begin)
        return tensors
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "EDGEC-E348",
            f"download the model again: {file} is no safetensors file of float weights "
            f"({type(error).__name__}: {first_line(error)})",
        ) from None


def _constant(tensor: _Tensor, name: str) -> Constant:
    t = Type(tensor.shape, DType.F32)

    def load() -> Array:
        data = _mapped(tensor)
        if tensor.dtype == "BF16":
            wide = data.astype(np.uint32)
            wide <<= 16
            data = wide.view(np.float32)
        floats = data.astype(np.float32, copy=False)
        if not np.isfinite(floats).all():
            raise UserError(
                "EDGEC-E330",
                f"train or load the model again. The weight {name!a} {list(tensor.shape)} holds NaN or infinite values",
            )
        return np.asarray(floats)

    stat = tensor.path.stat()
    where = (tensor.path.resolve(), stat.st_size, stat.st_mtime_ns, tensor.begin)
    return described(t, load, digest_of("safetensors", tensor.dtype, *where))


def _mapped(tensor: _Tensor) -> Array:
    """The file's bytes as they are; pages that were read may be dropped by the system at any time."""
    kind, _ = _DTYPES[tensor.dtype]
    if not tensor.size_bytes:
        return np.zeros(tensor.shape, kind)
    page = tensor.begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    with tensor.path.open("rb") as opened:
        length = tensor.begin - page + tensor.size_bytes
        view = mmap.mmap(opened.fileno(), length, access=mmap.ACCESS_READ, offset=page)
    flat = np.frombuffer(view, kind, tensor.size_bytes // np.dtype(kind).itemsize, tensor.begin - page)
    return flat.reshape(tensor.shape)
