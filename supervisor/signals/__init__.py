"""The only room that touches tensors to measure: gradients, activations, updates in, snapshots out."""

from supervisor.signals.sensor import Sensor

__all__ = ["Sensor"]
