"""Zip archives that PyTorch writes: read under limits, checked record by record, written anew.

torch never sees the user's bytes: it gets an archive that is written here from the records that were
checked, so that two readers of one zip cannot disagree about its content (double names, hidden records,
other compression). Everything happens in memory, from one read of the file.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Final

from edgec.errors import UserError
from edgec.frontends.pickle_check import check_pickle

# torch.save and torch.export.save store without compression; small text records may be compressed by others.
MAX_RATIO: Final = 20
MAX_UNPACKED_BYTES: Final = 8 << 30
MAX_RECORDS: Final = 100_000
FREE_BYTES: Final = 1 << 20  # below this no ratio is asked for
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f\\:]{1,512}")

# What zipfile raises on corrupt archives, by its own account and by fuzzing.
_CORRUPT: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError),
)

Records = dict[str, bytes]


def _refuse(code: str, cure: str, what: str) -> UserError:
    return UserError(code, f"{cure}. {what}")


def _check_entry(info: zipfile.ZipInfo, where: str) -> None:
    name, mode = info.filename, info.external_attr >> 16
    parts = name.split("/")
    cure = "save the model again with torch.save or torch.export.save"
    if not _NAME.fullmatch(info.orig_filename) or name.startswith("/") or ".." in parts:
        raise _refuse("EDGEC-E311", cure, f"{where} holds a record with the unsafe name {name!a}")
    if stat.S_ISLNK(mode):
        raise _refuse("EDGEC-E311", cure, f"{where} holds a symbolic link, {name!a}, in place of a record")
    if info.flag_bits & 0x1:
        raise _refuse("EDGEC-E311", cure, f"{where} holds the encrypted record {name!a}")


def read_records(data: bytes, where: str) -> Records:
    """Every record of the zip archive `data` by name, in its order.

    Raises UserError: EDGEC-E302 where it is truncated or corrupt, EDGEC-E311 where it breaks a limit.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read_all(archive, len(data), where)
    except _CORRUPT as error:
        raise _refuse(
            "EDGEC-E302",
            "copy or save the file again",
            f"{where} is a zip archive that is truncated or corrupt: {error}",
        ) from None


def _read_all(archive: zipfile.ZipFile, size: int, where: str) -> Records:
    cure = "do not open this file unless you know who made it; save the model again with torch.save"
    infos = archive.infolist()
    if len(infos) > MAX_RECORDS:
        raise _refuse("EDGEC-E311", cure, f"{where} holds {len(infos)} records, the limit is {MAX_RECORDS}")
    limit = min(MAX_UNPACKED_BYTES, max(FREE_BYTES, MAX_RATIO * size))
    stated = sum(info.file_size for info in infos)
    records: Records = {}
    unpacked = 0
    for info in infos:
        _check_entry(info, where)
        if info.filename in records:
            raise _refuse("EDGEC-E311", cure, f"{where} holds two records named {info.filename!a}")
        if stated > limit or unpacked > limit:
            raise _refuse(
                "EDGEC-E311",
                cure,
                f"{where} unpacks from {size} to {max(stated, unpacked)} bytes, the limit is {limit} "
                f"({MAX_RATIO} times its size, {MAX_UNPACKED_BYTES} at most)",
            )
        with archive.open(info) as stream:
            # Never more than the header states: a stream that is longer ends in a checksum error.
            content = stream.read(info.file_size + 1)
        unpacked += len(content)
        if not info.is_dir():
            records[info.filename] = content
    return records


def write_records(records: Mapping[str, bytes]) -> bytes:
    """An uncompressed zip archive of `records`, the same bytes for the same records."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def is_zip(data: bytes) -> bool:
    """Whether `data` begins as a zip archive."""
    return data[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def without_root(name: str) -> str:
    """The record's name inside the archive's one top folder (`model/data.pkl` -> `data.pkl`)."""
    return name.partition("/")[2]


def checked_saved(data: bytes, where: str) -> bytes:
    """What `torch.save` of tensors wrote, checked and written anew. An empty record stays empty.

    Raises UserError EDGEC-E310 where it could run code.
    """
    if not data:
        return data
    if not is_zip(data):
        raise UserError(
            "EDGEC-E310",
            "save the model again with torch.save or torch.export.save of this PyTorch, or pass --trust, "
            f"which lets the file run its code. {where} is not the zip archive that torch.save writes but "
            f"begins with {data[:8]!a}",
        )
    records = read_records(data, where)
    check_saved_records(records, where)
    return write_records(records)


def check_saved_records(records: Mapping[str, bytes], where: str) -> None:
    """Check the records of one `torch.save` archive: exactly one pickle, `data.pkl`, which is harmless."""
    pickles = [name for name in records if without_root(name) == "data.pkl"]
    cure = "save the model again with torch.save"
    if len(pickles) != 1 or len({name.partition("/")[0] for name in records}) != 1:
        raise _refuse("EDGEC-E310", cure, f"{where} holds {len(pickles)} records data.pkl, one is expected")
    for name, content in records.items():
        inner = without_root(name)
        if inner == "data.pkl":
            check_pickle(content, f"{where}:{name}")
        elif inner.endswith(".pkl") or inner.startswith("code/"):
            raise _refuse(
                "EDGEC-E310", cure, f"{where} holds {name!a}, which a file of tensors does not have"
            )
