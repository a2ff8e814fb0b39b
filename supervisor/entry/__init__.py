"""`supervise()`: which form the train step has, and the loop around it."""

from supervisor.entry.supervising import supervise
from supervisor.entry.training import Training

__all__ = ["Training", "supervise"]
