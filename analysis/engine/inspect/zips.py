"""The gate before a PyTorch zip: its directory, checked before anything that trusts it looks inside.

PyTorch stores its members as they are, one after the other. What compresses, encrypts, repeats or overlaps
them was not written by it, and has been seen to exhaust memory or to be read as garbage.
"""

from __future__ import annotations

import os
import struct
import zipfile
from typing import BinaryIO

from analysis.engine.inspect.header import MAX_TENSORS, clean
from analysis.errors import ModelError

MAX_DIRECTORY = 32 * 2**20
MAX_PICKLE = 64 * 2**20
_LOCAL = struct.Struct("<4s5H3I2H")  # what stands before each member
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_BROKEN = (zipfile.BadZipFile, ValueError, RuntimeError, OSError, OverflowError, struct.error)


class _Capped:
    """The part of a file that zipfile may use: it takes the size of a directory from the directory."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.seek, self.tell, self.seekable = file, file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise zipfile.BadZipFile
        return self.file.read(MAX_DIRECTORY if size < 0 else size)


def storages(file: BinaryIO, shown: str) -> dict[int, int]:
    """Checks the directory of a PyTorch zip and finds the bytes of its tensors.

    Args:
        file: the file, open for reading.
        shown: its name in sentences.

    Returns:
        for every storage the place of its first byte in the file, and its size in bytes.

    Raises:
        ModelError: it is no zip that PyTorch wrote.
    """
    try:
        with zipfile.ZipFile(_Capped(file)) as archive:
            members = sorted(archive.infolist(), key=lambda m: m.header_offset)
            end = archive.start_dir
    except _BROKEN:
        raise ModelError(f"{shown!r} has a damaged zip directory; download it again.") from None
    if len(members) > MAX_TENSORS:
        raise ModelError(f"{shown!r} has {len(members)} members; at most {MAX_TENSORS} are read.")
    _check_names(members, shown)
    limits = [*(m.header_offset for m in members[1:]), end]
    found = {}
    for member, limit in zip(members, limits, strict=True):
        start = _start(file, member, limit, shown)
        _, _, inner = member.filename.partition("/")
        if inner.startswith("data/"):
            found[start] = member.file_size
        elif inner == "byteorder" and os.pread(file.fileno(), min(member.file_size, 8), start) == b"big":
            raise ModelError(
                f"{shown!r} was written on a machine with the opposite order of bytes; save it again on "
                "another."
            )
    return found


def _check_names(members: list[zipfile.ZipInfo], shown: str) -> None:
    """Requires one top folder, no name twice (PyTorch ignores their case), and a pickle of credible size."""
    names = {m.filename.lower() for m in members}
    if len(names) != len(members) or any(m.filename != m.orig_filename for m in members):
        raise ModelError(f"{shown!r} holds two members of the same name, so it is ambiguous; it is not read.")
    top = members[0].filename.partition("/")[0] if members else ""
    pickles = [m for m in members if m.filename == f"{top}/data.pkl"]
    if not pickles or any(not m.filename.startswith(f"{top}/") for m in members):
        raise ModelError(f"{shown!r} is a zip file, but PyTorch did not write it; give a file of torch.save.")
    if f"{top}/constants.pkl".lower() in names:
        raise ModelError(
            f"{shown!r} is a TorchScript program, which is code; save its state_dict as safetensors."
        )
    if pickles[0].file_size > MAX_PICKLE:
        raise ModelError(
            f"{shown!r} has a pickle of {pickles[0].file_size} bytes beside its tensors; at most "
            f"{MAX_PICKLE} are read."
        )


def _start(file: BinaryIO, member: zipfile.ZipInfo, limit: int, shown: str) -> int:
    """Finds the first byte of a member, which has to be stored as it is and to end before the next begins."""
    where = f"{clean(member.filename, 80)!r} of {shown!r}"
    if member.flag_bits & _ENCRYPTED:
        raise ModelError(f"The member {where} is encrypted; PyTorch never writes that, so it is not read.")
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise ModelError(
            f"The member {where} is compressed; PyTorch never writes that, so it is not read: "
            "save it again with torch.save."
        )
    at = member.header_offset
    data = os.pread(file.fileno(), _LOCAL.size, at) if at >= 0 else b""
    if len(data) < _LOCAL.size:
        raise ModelError(f"The member {where} lies outside the file; download it again.")
    mark, _, flags, method, *_, name, extra = _LOCAL.unpack(data)
    start = at + _LOCAL.size + name + extra
    told = member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")
    same = os.pread(file.fileno(), name, at + _LOCAL.size) == told
    if mark != b"PK\x03\x04" or flags & _ENCRYPTED or method or not same:
        raise ModelError(f"The member {where} is not what the zip directory says; download it again.")
    if start + member.file_size > limit:
        raise ModelError(
            f"The member {where} claims {member.file_size} bytes, which overlap what follows it or lie "
            "outside the file; download it again."
        )
    return start
