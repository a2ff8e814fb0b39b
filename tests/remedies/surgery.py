"""Models that structural remedies find something to do in, and what every surgery promises."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.registry import REMEDIES
from supervisor.remedies._wrapping import Done
from supervisor.remedies.rebuild import rebuild
from supervisor.run import TrainingRun
from tests.remedies.sick import OPTIMIZERS, decision, fingerprint, seen, take_step


class Loop(nn.Module):
    """Linear layers in a ModuleList, their sigmoids functional."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return self.head(x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        return self.o(mixed)  # type: ignore[no-any-return]


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(F.relu(self.wide(x)))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """Attention and MLP blocks of the user's own, with or without skip connections."""

    def __init__(self, *, skips: bool = False) -> None:
        super().__init__()
        self.embed, self.head, self.skips = nn.Linear(4, 8), nn.Linear(8, 2), skips
        self.blocks = nn.ModuleList([Attention(), Mlp(), Attention(), Mlp()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)[:, None] * torch.tensor([[1.0], [0.5], [-1.0]])
        for block in self.blocks:
            x = x + block(x) if self.skips else block(x)
        return self.head(x.mean(1))  # type: ignore[no-any-return]


def sequence() -> nn.Sequential:
    relu = nn.ReLU(inplace=True)
    hidden = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), relu)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), hidden, nn.Linear(8, 8), relu, nn.Linear(8, 2))


def images() -> nn.Sequential:
    conv = [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    start = [nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 8, 3, padding=1), nn.Sigmoid()]
    return nn.Sequential(*start, *conv, nn.Flatten(), nn.Linear(32, 2))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "loop": Loop, "tokens": Tokens, "sequence": sequence, "images": images,
}  # fmt: skip


def x(batch: int = 32) -> Tensor:
    return torch.randn(batch, 4, generator=torch.Generator().manual_seed(5))


def replayed(run: TrainingRun, inputs: Tensor) -> TrainingRun:
    """Return `run`, able to run its batch again, buffers put back as the owned form does."""

    def replay() -> Tensor:
        kept = [buffer.clone() for buffer in run.model.buffers()]
        with torch.no_grad():
            loss = run.model(inputs).square().mean()
            for buffer, value in zip(run.model.buffers(), kept, strict=True):
                buffer.copy_(value)
        return loss  # type: ignore[no-any-return]

    run.replay = replay
    return run


def ill(make: Callable[[], nn.Module], optimizer: str = "adam", batch: int = 32) -> TrainingRun:
    """Return a run of `make()` after two steps, with gradients, that can run its batch again."""
    torch.manual_seed(0)
    model = make()
    parameters = [p for p in model.parameters() if p.requires_grad]
    run = seen(model, x(batch), optimizer=OPTIMIZERS[optimizer](parameters))
    for _ in range(2):
        take_step(run, x(batch))
    run.model(x(batch)).square().mean().backward()
    return replayed(run, x(batch))


def promises(name: str, make: Callable[[], nn.Module], optimizer: str, **params: Any) -> None:
    """Hold the surgery `name` to what all of them promise."""
    run = ill(make, optimizer)
    before, states = fingerprint(run), _states(run)
    keys = list(run.model.state_dict())
    effect = REMEDIES[name](**params).apply(run, decision())
    changes = json.loads(json.dumps([surgery.change for surgery in run.surgeries]))
    assert changes
    assert effect.changes
    assert [key for key in run.model.state_dict() if key in keys] == keys
    assert {key: value for key, value in _states(run).items() if key in states} == states
    held = [p for o in run.optimizers for group in o.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in run.model.parameters()} == {id(p) for p in run.parameters}
    assert len(run.optimizers[0].param_groups) == 1
    done = fingerprint(run)
    effect.undo()
    assert fingerprint(run) == before
    again = REMEDIES[name].operate(run.model, changes[0])
    again()
    assert fingerprint(run) == before
    effect = REMEDIES[name](**params).apply(run, decision())
    same_again(run, done)
    take_step(run, x())
    assert all(id(p) in {id(k) for k in run.optimizers[0].state} for p in run.parameters)
    rebuilds(run, make)
    effect.undo()
    take_step(run, x())


def same_again(run: TrainingRun, done: dict[str, Any]) -> None:
    """Hold a surgery to coming back with the very same objects after it was taken back."""
    surgery = run.surgeries[-1]
    now = fingerprint(run)
    assert isinstance(surgery.undo, Done)
    surgery.undo()
    surgery.undo.redo()
    assert fingerprint(run) == now
    assert now["weights"] == done["weights"]


def rebuilds(run: TrainingRun, make: Callable[[], nn.Module]) -> None:
    """Hold the changed model to being rebuilt, copied and pickled, with bit-identical outputs."""
    changes = json.loads(json.dumps([surgery.change for surgery in run.surgeries]))
    run.model.eval()
    expected = run.model(x())
    fresh = rebuild(make(), changes).eval()
    fresh.load_state_dict(run.model.state_dict())
    file = io.BytesIO()
    torch.save(run.model, file)
    file.seek(0)
    for twin in (fresh, copy.deepcopy(run.model), torch.load(file, weights_only=False)):
        assert torch.equal(twin(x()), expected)
    run.model.train()


def _states(run: TrainingRun) -> dict[str, Any]:
    """Return the optimizer's state by name of the parameter, tensors as bytes."""
    state = run.optimizers[0].state
    return {
        name: {key: v.clone().numpy().tobytes() if isinstance(v, Tensor) else v for key, v in state[p].items()}
        for name, p in run.model.named_parameters()
        if p in state
    }
