"""Giving gradients a way around blocks of equal shape."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.registry import REMEDIES
from supervisor.remedies.add_residual import AddResidual
from tests.remedies.sick import OPTIMIZERS, decision, fingerprint, seen
from tests.remedies.surgery import MODELS, Loop, Tokens, ill, images, promises, rebuilds, sequence, x


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_it_is_exact_reversible_and_can_be_rebuilt(model: str, optimizer: str) -> None:
    promises("add_residual", MODELS[model], optimizer)


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (Loop, {"layers.0", "layers.1", "layers.2", "layers.3"}),
        (Tokens, {"blocks.0", "blocks.1", "blocks.2", "blocks.3"}),
        (sequence, {"2", "3"}),
        (images, {"3", "5"}),
    ],
)
def test_whole_blocks_first_then_layers_with_their_activations(make: type[nn.Module], where: set[str]) -> None:
    assert set(AddResidual().apply(ill(make), decision()).changes) == where


def test_the_identity_path_is_clean_around_functional_activations() -> None:
    """The sum stands behind the sigmoid, not before it: gradients pass unhindered."""
    run = ill(Loop)
    AddResidual().apply(run, decision())
    model, h = run.model, torch.sigmoid(run.module("first")(x()))
    assert isinstance(model, Loop)
    for layer in model.layers:
        h = h + 0.25 * torch.sigmoid(layer(h))
    assert torch.equal(model(x()), model.head(h))


def test_around_layer_norm_and_activation_module_as_one() -> None:
    run = ill(images)
    AddResidual().apply(run, decision())
    model = run.model.eval()
    assert isinstance(model, nn.Sequential)
    h = model[2](model[1](model[0](x())))
    h = h + 0.5 * F.relu(model[3](h))
    h = h + 0.5 * F.relu(model[6](model[5](h)))
    assert torch.allclose(model(x()), model[9](model[8](h)), atol=1e-6)


class Wide(nn.Module):
    """Sums and concatenations of branches are ways around already, wherever they are written."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.embed = kind, nn.Linear(4, 8)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(16 if kind == "cat" else 8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.embed(x))
        branch = torch.tanh(self.two(torch.tanh(self.one(x))))
        return self.head(torch.cat([x, branch], -1) if self.kind == "cat" else x + branch)  # type: ignore[no-any-return]


class Twice(nn.Module):
    """One layer that is run several times, and one whose output is multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.again, self.gate = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.embed(x))
        for _ in range(3):
            x = torch.tanh(self.again(x))
        return self.head(x * torch.sigmoid(self.gate(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tokens(skips=True),
        lambda: Wide("cat"),
        lambda: Wide("sum"),
        Twice,
        lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        lambda: nn.Sequential(nn.Linear(4, 4)),
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0), 2, enable_nested_tensor=False),
    ],
)
def test_outputs_gates_repeated_layers_and_what_has_a_way_around_are_spared(make: object) -> None:
    assert callable(make)
    run = ill(make)
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match="no hidden block"):
        AddResidual().apply(run, decision())
    assert fingerprint(run) == before


class Scaled(nn.Module):
    """A block that begins with a normalization written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.narrow(F.relu(self.wide(x)))  # type: ignore[no-any-return]


def test_a_tensor_multiplied_with_its_own_size_is_no_gate() -> None:
    run = ill(lambda: nn.Sequential(nn.Linear(4, 8), Scaled(), Scaled(), nn.Linear(8, 2)))
    assert set(AddResidual().apply(run, decision()).changes) == {"1", "2"}


def test_a_parametrized_layer_is_left_and_the_others_are_done() -> None:
    normed = nn.utils.parametrizations.spectral_norm
    hidden = [nn.Linear(4, 8), nn.Tanh(), normed(nn.Linear(8, 8)), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()]
    run = ill(lambda: nn.Sequential(*hidden, nn.Linear(8, 2)))
    assert set(AddResidual().apply(run, decision()).changes) == {"4"}


def test_without_a_batch_to_run_again_it_refuses() -> None:
    run = ill(Loop)
    run.replay = None
    with pytest.raises(RemedyRefused, match="cannot run a batch again"):
        AddResidual().apply(run, decision())


def test_a_second_time_there_is_nothing_left_to_do() -> None:
    run = ill(Tokens)
    AddResidual().apply(run, decision())
    with pytest.raises(RemedyRefused, match="no way around it yet"):
        AddResidual().apply(run, decision())


@pytest.mark.parametrize("model", MODELS)
def test_surgeries_compose_rebuild_in_order_and_are_taken_back_last_in_first_out(model: str) -> None:
    run = ill(MODELS[model])
    prints = [fingerprint(run)]
    for name, params in (("swap_activation", {"to": "prelu"}), ("insert_norm", {}), ("add_residual", {})):
        if name == "swap_activation" and model == "tokens":
            continue  # it has rectifiers only, and nothing there is dead
        REMEDIES[name](**params).apply(run, decision())
        prints.append(fingerprint(run))
        rebuilds(run, MODELS[model])
    while run.surgeries:
        prints.pop()
        run.surgeries.pop().undo()
        now = fingerprint(run)
        assert [key for key in now if now[key] != prints[-1][key] and key not in {"set", "random"}] == []


def test_gradients_reach_the_first_of_many_sigmoid_layers() -> None:
    """What identity paths are for (He et al., 2016)."""
    hidden = [m for _ in range(12) for m in (nn.Linear(16, 16), nn.Sigmoid())]
    run = ill(lambda: nn.Sequential(nn.Linear(4, 16), nn.Sigmoid(), *hidden, nn.Linear(16, 2)))

    def first() -> float:
        run.model.zero_grad()
        run.model(x()).square().mean().backward()
        gradient = next(iter(run.model.parameters())).grad
        assert gradient is not None
        return float(gradient.norm())

    before = first()
    AddResidual().apply(run, decision())
    assert first() > 1e4 * before
    assert seen(run.model, x()).anatomy.skips > 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_compiled_model_computes_the_same() -> None:
    run = ill(Tokens)
    AddResidual().apply(run, decision())
    compiled = torch.compile(run.model, backend="eager")
    assert torch.allclose(compiled(x()), run.model(x()), atol=1e-6)
