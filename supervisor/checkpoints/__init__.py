"""Exact states of a training: captured, restored in place, and a ring of known-good ones."""

from supervisor.checkpoints.buffers import BufferGuard
from supervisor.checkpoints.ring import Ring
from supervisor.checkpoints.state import Checkpoint, capture, restore

__all__ = ["BufferGuard", "Checkpoint", "Ring", "capture", "restore"]
