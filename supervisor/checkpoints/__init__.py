"""Exact states of a training: captured, restored in place, a ring of known-good ones, and a store of them on disk."""

from supervisor.checkpoints.buffers import BufferGuard
from supervisor.checkpoints.naming import named
from supervisor.checkpoints.ring import Bookkeeping, Ring
from supervisor.checkpoints.state import Checkpoint, capture, restore
from supervisor.checkpoints.store import Loaded, Saved, Store

__all__ = [
    "Bookkeeping", "BufferGuard", "Checkpoint", "Loaded", "Ring", "Saved", "Store", "capture", "named", "restore",
]  # fmt: skip
