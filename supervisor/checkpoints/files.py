"""Files that are whole or not there, and the line beside each that says what it must be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import torch

VERSION: Final = 1  # of the format
DATA: Final = ".pt"
LINE: Final = ".json"
UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True)
class Entry:
    """The line beside a file."""

    name: str
    tick: int
    step: int
    good: bool  # known to be good when it was saved
    size: int  # bytes
    sha256: str


def put(path: Path, write: Callable[[Any], object]) -> tuple[str, int]:
    """Let `write` fill a file, whole or not at all; return its sha256 and size.

    Raises what `write` raises, and OSError where the disk is full or the folder not writable.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with unfinished.open("wb") as file:
            hashed = _Hashed(file)
            write(hashed)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync(path.parent)
    return hashed.digest.hexdigest(), hashed.size


def _sync(folder: Path) -> None:
    """Let a renaming reach the disk, where a folder can be opened for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Hashed:
    """A file that sums up what is written into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def entry_of(path: Path) -> Entry | str:
    """Return the line beside a file, or what is wrong with it."""
    try:
        line = json.loads(path.with_suffix(LINE).read_text(encoding="utf-8"))
        if line.pop("version") != VERSION:
            return f"it was written by another version than {VERSION}"
        return Entry(**line)
    except FileNotFoundError:
        return "it was never finished"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "its line cannot be read"


def content_of(path: Path, entry: Entry) -> dict[str, Any] | str:
    """Return what a file holds, or what is wrong with it."""
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                return "its checksum differs: it is torn or was changed"
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the one before it may be whole
        return f"it cannot be read: {error}"
    return content
