"""What watching must never cost: a wait for the device, or the freedom to copy and save the model."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from supervisor.signals import figures, sensor
from tests.signals.costing import Mixed, bare, batches, between, squared, watched

Rule = Callable[[nn.Module], torch.optim.Optimizer]

WAITS = ("aten._local_scalar_dense", "aten.nonzero")
STEPS = 45

RULES: dict[str, Rule] = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    "SGD, fused": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, fused=True),
    "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
    "Adam, fused": lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, fused=True),
    "Adam, foreach": lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, foreach=True),
}


class Waits(TorchDispatchMode):
    """Counts the operations that wait for the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counting = False
        self.seen: dict[str, int] = dict.fromkeys(WAITS, 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func.overloadpacket)
        if self.counting and name in self.seen:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))

    def start(self) -> None:
        self.counting = True

    def stop(self) -> None:
        self.counting = False


def waits(loop: Callable[..., None], rule: Rule) -> dict[str, int]:
    torch.manual_seed(0)
    model, mode = Mixed(), Waits()
    step = between(squared(model), 2, STEPS, mode.start, mode.stop)
    with mode:
        loop(model, rule(model), step, batches(16, 4, 12), STEPS)
    return mode.seen


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_tick_waits_for_the_device_where_the_bare_loop_does_not(rule: Rule) -> None:
    assert waits(watched, rule) == waits(bare, rule)


def test_the_figures_of_a_tick_are_read_in_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    read = figures.read

    def counted(*of: Any) -> Any:
        sizes.append(len(found := read(*of)))
        return found

    monkeypatch.setattr(sensor, "read", counted)
    model = Mixed()
    watched(model, RULES["Adam"](model), squared(model), batches(16, 4, 12), STEPS)
    assert len(sizes) == STEPS
    assert len(set(sizes)) > 1  # sampled ticks are among them


def saved(model: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save(model, file)
    return file.getvalue()


def test_a_watched_model_can_be_copied_averaged_and_saved_in_the_train_step() -> None:
    """Sampled ticks included: what is loaded needs no supervisor, and nobody watches the copies."""
    model, data = Mixed(), batches(16, 4, 12)
    average = AveragedModel(model)
    seen: list[nn.Module] = []

    def step(batch: Tensor) -> Tensor:
        loss = squared(model)(batch)
        with torch.no_grad():
            twin, file = copy.deepcopy(model), saved(model)
            assert b"supervisor." not in file
            seen[:] = [twin, torch.load(io.BytesIO(file), weights_only=False)]
            average.update_parameters(model)
            for other in (*seen, average):
                assert other(batch).isfinite().all()
            weights = io.BytesIO()
            torch.save(model.state_dict(), weights)
            weights.seek(0)
            twin.load_state_dict(torch.load(weights, weights_only=True))
        return loss

    watched(model, RULES["Adam"](model), step, data, 15)
    for other in (model, average, *seen):
        assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in other.modules())
    for other in (model, average, seen[0]):
        assert not any(vars(tensor) for tensor in (*other.parameters(), *other.buffers()))


def test_nothing_of_the_supervisor_goes_along_with_a_model_saved_between_the_steps() -> None:
    model, files = Mixed(), []

    def evaluate() -> float:
        files.append(saved(model))
        return 0.0

    options: dict[str, Any] = {"evaluate": evaluate, "evaluate_every": 1}
    watched(model, RULES["Adam"](model), squared(model), batches(16, 4, 12), 15, **options)
    assert len(files) == 15
    assert not any(b"supervisor" in file for file in files)
