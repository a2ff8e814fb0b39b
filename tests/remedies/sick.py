"""A small sick run that every remedy finds something to do in, and a fingerprint of everything a remedy may touch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.records import Anatomy, Decision, Finding, Layer, LayerKind, Site, plain
from supervisor.run import TrainingRun
from supervisor.signals import Sensor

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, foreach=False),
    "adam-foreach": lambda p: torch.optim.Adam(p, lr=1e-3, foreach=True),
    "adam-fused": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
    "adam-amsgrad": lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=1e-3, foreach=True),
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "sgd-fused": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, fused=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-3),
}


class Net(nn.Module):
    """Conv, norm, ReLU module, flatten, functional sigmoid, recurrent and embedded parts: a bit of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.fc1 = nn.Linear(4 * 4 * 4, 6)
        self.fc2 = nn.Linear(6, 5)
        self.square = nn.Linear(5, 5)
        self.rnn = nn.LSTM(5, 3, batch_first=True)
        self.table = nn.Embedding(2, 3)
        self.frozen = nn.Linear(3, 3).requires_grad_(requires_grad=False)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x))).flatten(1)
        x = F.relu(self.fc1(x))
        x = self.square(torch.sigmoid(self.fc2(x)))
        out, _ = self.rnn(x[:, None])
        return self.head(self.frozen(out[:, 0]) + self.table.weight[0])  # type: ignore[no-any-return]


KINDS: dict[str, LayerKind] = {
    "conv": "conv", "norm": "norm", "fc1": "linear", "fc2": "linear", "square": "linear", "rnn": "recurrent",
    "table": "embedding", "head": "linear",
}  # fmt: skip
ANATOMY = Anatomy(
    tuple(Layer(name, kind, 1) for name, kind in KINDS.items()),
    (
        Site("act", "relu", "act", (), "conv", 4, hidden=True, gate=False, consumers=("fc1",)),
        Site(":relu:0", "relu", "", (0,), "fc1", 6, hidden=True, gate=False, consumers=("fc2",)),
        Site(":sigmoid:0", "sigmoid", "", (0,), "fc2", 5, hidden=True, gate=False, consumers=("square",)),
    ),
)


@dataclass
class Kept:
    """One good state, kept as a rollback needs it."""

    run: TrainingRun
    tick: int
    step: int
    state: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.state = {key: value.clone() for key, value in self.run.model.state_dict().items()}

    def available(self, before_tick: int) -> bool:
        return self.tick < before_tick

    def target_tick(self, before_tick: int) -> int | None:
        return self.tick if self.tick < before_tick else None

    def rollback(self, before_tick: int) -> tuple[int, int]:
        self.run.model.load_state_dict(self.state)
        return self.tick, self.step

    def keep(self) -> None:
        """Nothing is kept: a rollback changes nothing here."""

    def put_back(self, kept: None) -> None:
        """Nothing was kept."""


def batch() -> Tensor:
    return torch.randn(8, 1, 4, 4)


def sick_run(optimizer: str = "adam") -> TrainingRun:
    """Return a run after two real steps, with gradients of a third, dead units, and a known-good state."""
    torch.manual_seed(3)
    model = Net()
    run = TrainingRun(model, (OPTIMIZERS[optimizer]([p for p in model.parameters() if p.requires_grad]),))
    run.known_good = Kept(run, tick=1, step=1)
    run.data_control = True
    again = batch()
    run.replay = lambda: _replayed(model, again)
    for _ in range(2):
        take_step(run, batch())
    model(batch()).square().mean().backward()
    run.clock.tick, run.clock.step = 5, 5
    run.anatomy = ANATOMY
    run.silent_units = {
        "act": torch.tensor([True, False, True, False]),
        ":relu:0": torch.tensor([True, True, False, False, False, True]),
    }
    return run


@torch.no_grad()
def _replayed(model: nn.Module, inputs: Tensor) -> Tensor:
    """Run a batch again as the owned form does: the buffers are put back."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    loss: Tensor = model(inputs).square().mean()
    for buffer, value in kept:
        buffer.copy_(value)
    return loss


def take_step(run: TrainingRun, inputs: Tensor) -> None:
    for optimizer in run.optimizers:
        optimizer.zero_grad()
    run.model(inputs).square().mean().backward()
    for optimizer in run.optimizers:
        optimizer.step()


def bare_run() -> TrainingRun:
    """Return a run of which nothing is known and in which nothing can be done."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Embedding(3, 2), nn.Flatten())
    return TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=0.0),))


def decision(pathology: str = "vanishing_gradients", *where: str, tick: int = 5, **evidence: Any) -> Decision:
    finding = Finding(pathology, tick, tick, where, 0.9, "activation functions", {"usual_max": 0.5, **evidence})
    return Decision("d1", "any", {}, finding, 0, "because", tick, tick)


def fingerprint(run: TrainingRun) -> dict[str, Any]:
    """Return everything a remedy may touch, tensors as bytes."""
    modules = dict(run.model.named_modules())
    return {
        "weights": {key: _bytes(value) for key, value in run.model.state_dict().items()},
        "objects": [id(p) for p in run.model.parameters()],
        "gradients": [None if p.grad is None else _bytes(p.grad) for p in run.model.parameters()],
        "optimizers": [_frozen(optimizer.state_dict()) for optimizer in run.optimizers],
        "modules": {path: (id(module), type(module)) for path, module in modules.items()},
        "attributes": {path: sorted(vars(module)) for path, module in modules.items()},
        "hooks": {p: [k for k, v in vars(m).items() if "hooks" in k and v] for p, m in modules.items()},
        "training": [module.training for module in modules.values()],
        "anatomy": plain(run.anatomy),
        "set": (run.settings, run.voided, run.stop_reason, tuple(run.surgeries)),
        "asked": (run.batches_to_skip, run.rewind),
        "clock": dataclasses.astuple(run.clock),
        "random": _bytes(torch.get_rng_state()),
    }


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def _frozen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _bytes(value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return [_frozen(item) for item in value] if isinstance(value, (list, tuple)) else value


def seen(model: nn.Module, *batches: Tensor, optimizer: Optimizer | None = None) -> TrainingRun:
    """Return a run whose anatomy and silent units the real sensor has read off forward passes of `batches`."""
    run = TrainingRun(model, (optimizer or torch.optim.Adam(model.parameters(), lr=1e-3),))
    sensor = Sensor(run, activations_every=1)
    for inputs in batches:
        run.clock.tick += 1
        with sensor.watching():
            loss = model(inputs).square().mean()
        loss.backward()
        sensor.snapshot([loss.detach()], [inputs])
    run.silent_units = sensor.probe.silent_units(len(batches))
    return run
