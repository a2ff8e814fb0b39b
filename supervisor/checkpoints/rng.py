"""The states of all global random number generators, and of generators that were registered."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return the states of the generators of python, numpy, torch and every accelerator in use.

    A generator that only the user's code holds (a `torch.Generator`, a `numpy.random.Generator`) cannot be found:
    register it, as anything else with a state of its own.
    """
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - users' augmentations draw from the global one
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda" or torch.cuda.is_initialized():  # a model on the CPU may be fed by a GPU
        state["cuda"] = torch.cuda.get_rng_state_all()
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    if device.type == "xpu":
        state["xpu"] = torch.xpu.get_rng_state_all()
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """Put all random number generators back; those of devices that are not there are left out."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        for index, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one, index)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
    if "xpu" in state and torch.xpu.is_available():
        torch.xpu.set_rng_state_all(state["xpu"])


def generator_state(thing: Any) -> Any:  # noqa: ANN401 - a generator of torch, numpy or python
    """Return the state of a generator object, or None where `thing` is none."""
    if isinstance(thing, torch.Generator):
        return thing.get_state()
    if isinstance(thing, np.random.Generator):
        return thing.bit_generator.state
    if isinstance(thing, np.random.RandomState):
        return thing.get_state(legacy=False)
    return thing.getstate() if isinstance(thing, random.Random) else None


def restore_generator(thing: Any, state: Any) -> None:  # noqa: ANN401
    """Put a generator object back."""
    if isinstance(thing, torch.Generator):
        thing.set_state(state)
    elif isinstance(thing, np.random.Generator):
        thing.bit_generator.state = state
    elif isinstance(thing, np.random.RandomState):
        thing.set_state(state)
    else:
        thing.setstate(state)
