"""Where activations are applied, what role they play, who reads them, and which of their units are silent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.signals.watching import (
    FunctionalMlp,
    Recurrent,
    TiedAutoencoder,
    Transformer,
    cnn,
    images,
    mlp,
    sites,
    vectors,
)  # fmt: skip

WeightNorm = Callable[[nn.Module], nn.Module]


def test_module_activations_are_seen_with_producer_consumers_and_units() -> None:
    first, second = sites(mlp(), vectors()).values()
    assert (first.name, first.function, first.owner, first.calls) == ("1", "relu", "1", ())
    assert (first.producer, first.consumers, first.units, first.hidden, first.gate) == ("0", ("2",), 16, True, False)
    assert (second.name, second.producer, second.consumers, second.units) == ("3", "2", ("4",), 12)


def test_functional_activations_are_seen_the_same_way() -> None:
    first, second = sites(FunctionalMlp(), vectors()).values()
    assert (first.name, first.function, first.owner, first.calls) == (":relu:0", "relu", "", (0,))
    assert (first.producer, first.consumers, first.units, first.hidden) == ("a", ("b",), 16, True)
    assert (second.name, second.calls, second.producer, second.consumers) == (":relu:1", (1,), "b", ("c",))


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("relu", F.relu), ("relu", torch.relu), ("relu", Tensor.relu), ("relu", Tensor.relu_),
        ("relu", lambda x: x.clamp(min=0)), ("relu", lambda x: F.relu(x, inplace=True)), ("relu6", F.relu6),
        ("leaky_relu", F.leaky_relu), ("elu", F.elu), ("gelu", F.gelu), ("silu", F.silu), ("softplus", F.softplus),
        ("sigmoid", torch.sigmoid), ("sigmoid", Tensor.sigmoid), ("tanh", Tensor.tanh_), ("tanh", F.tanh),
        ("hardtanh", F.hardtanh),
    ],
)  # fmt: skip
def test_every_spelling_has_one_name(function: str, call: Callable[[Tensor], Tensor]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(call(self.a(x)))  # type: ignore[no-any-return]

    (site,) = sites(Net(), vectors()).values()
    assert (site.function, site.producer, site.consumers, site.hidden) == (function, "a", ("b",), True)


@pytest.mark.parametrize(
    "module", [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.PReLU]
)
def test_every_module_is_one_site(module: type[nn.Module]) -> None:
    (site,) = sites(nn.Sequential(nn.Linear(6, 8), module(), nn.Linear(8, 3)), vectors()).values()
    assert (site.name, site.function, site.calls) == ("1", module.__name__.lower().replace("leaky", "leaky_"), ())


def test_units_of_a_convolution_are_its_channels_through_its_norm() -> None:
    first, second = sites(cnn(), images()).values()
    assert (first.producer, first.units, first.consumers) == ("0", 8, ("3",))
    assert (second.producer, second.units, second.consumers) == ("3", 4, ("7",))


def test_an_output_activation_is_not_hidden() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())
    found = sites(model, vectors())
    assert [(site.name, site.hidden, site.consumers) for site in found.values()] == [
        ("1", True, ("2",)),
        ("3", False, ()),
    ]


def test_a_recurrent_layer_is_a_producer() -> None:
    (site,) = (s for s in sites(Recurrent(), torch.randn(8, 5, 6)).values() if not s.gate)
    assert (site.producer, site.consumers, site.units) == ("lstm", ("head",), 10)


def test_a_transformer_shows_its_feed_forward_activations() -> None:
    found = {k: s for k, s in sites(Transformer(), torch.randint(0, 11, (8, 5))).items() if not s.gate}
    layers = [f"encoder.layers.{i}" for i in range(2)]
    assert [site.producer for site in found.values()] == [f"{layer}.linear1" for layer in layers]
    assert [site.consumers for site in found.values()] == [(f"{layer}.linear2",) for layer in layers]
    assert all(site.units == 16 and site.hidden and not site.gate for site in found.values())


def test_a_weight_that_is_used_transposed_is_still_that_layer() -> None:
    hidden, output = sites(TiedAutoencoder(), vectors()).values()
    assert (hidden.producer, hidden.consumers, hidden.hidden) == ("encoder", ("encoder",), True)
    assert (output.function, output.hidden) == ("sigmoid", False)


@pytest.mark.parametrize("normalize", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_normalized_weight_is_still_a_layer(normalize: WeightNorm) -> None:
    layers = [normalize(nn.Linear(6, 6)) for _ in range(3)]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    found = [(site.producer, site.consumers) for site in sites(model, vectors()).values()]
    owners = [f"{i}.parametrizations.weight" for i in (0, 2, 4)]
    assert found == [(owners[0], (owners[1],)), (owners[1], (owners[2],))]


def test_one_module_reused_after_several_layers_is_one_site_for_each() -> None:
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 5), act, nn.Linear(5, 3))
    found = sites(model, vectors())
    assert list(found) == ["1", "1@2"]
    assert [(site.owner, site.producer, site.units) for site in found.values()] == [("1", "0", 8), ("1", "2", 5)]


def test_a_layer_used_several_times_in_one_forward_is_one_site() -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.recur, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros(x.shape[0], 8)
            for _ in range(4):
                h = torch.tanh(self.inner(x) + self.recur(h))
            return self.head(h)  # type: ignore[no-any-return]

    (site,) = sites(Unrolled(), vectors()).values()
    assert (site.calls, site.producer, site.consumers) == ((0, 1, 2, 3), "recur", ("recur", "head"))


class Block(nn.Module):
    """A residual sum, whichever way round it is written, before the activation."""

    def __init__(self, *, branch_first: bool) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.branch_first = branch_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        total = self.branch(x) + x if self.branch_first else x + self.branch(x)
        return self.head(torch.relu(total))  # type: ignore[no-any-return]


@pytest.mark.parametrize("branch_first", [True, False])
def test_a_residual_sum_stems_from_its_last_layer(branch_first: bool) -> None:  # noqa: FBT001
    (site,) = sites(Block(branch_first=branch_first), vectors()).values()
    assert (site.producer, site.consumers) == ("branch", ("head",))


class Gated(nn.Module):
    def __init__(self, mix: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(8))
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.a(x), self.b(x)) * self.scale[None])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("mix", "gates"),
    [
        (lambda a, b: a * torch.sigmoid(b), {"sigmoid"}),
        (lambda a, b: F.silu(a) * b, {"silu"}),
        (lambda a, b: F.relu(a) * b, {"relu"}),
        (lambda a, b: F.relu(a).mul(torch.sigmoid(b)), {"sigmoid"}),
        (lambda a, b: F.relu(a + b), set()),
        (lambda a, b: F.relu(a) * (torch.rand(8) > 0.5), set()),
        (lambda a, b: 2.0 * F.relu(a + b), set()),
        (lambda a, b: F.dropout(F.relu(a + b), 0.5), set()),
    ],
    ids=["GLU", "SwiGLU", "ReGLU", "a trunk and its gate", "a sum", "a mask", "a number", "dropout"],
)
def test_gates_are_told_from_masks_and_scales(mix: Callable[[Tensor, Tensor], Tensor], gates: set[str]) -> None:
    found = sites(Gated(mix), vectors())
    assert {site.function for site in found.values() if site.gate} == gates
    assert all(site.hidden for site in found.values())


class SqueezeExcitation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down, self.up = nn.Conv2d(1, 8, 3), nn.Linear(8, 4), nn.Linear(4, 8)
        self.head = nn.Conv2d(8, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        weight = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return self.head(x * weight[:, :, None, None])  # type: ignore[no-any-return]


def test_squeeze_excitation_has_one_gate() -> None:
    found = {site.producer: site for site in sites(SqueezeExcitation(), images()).values()}
    assert {producer for producer, site in found.items() if site.gate} == {"up"}
    assert found["conv"].consumers == ("down", "head")


def test_a_frozen_layer_reads_units_too() -> None:
    """Units behind it belong to it: nobody may take the columns of the next trained layer for theirs."""
    model = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8).requires_grad_(requires_grad=False), nn.Linear(8, 3)
    )
    (site,) = sites(model, vectors()).values()
    assert (site.producer, site.consumers, site.hidden) == ("0", ("2",), True)


def test_a_network_that_is_not_the_model_has_no_sites_in_it() -> None:
    teacher = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
    model = mlp()
    found = sites(model, vectors(), loss=lambda x: model(teacher(x)).square().mean())
    assert list(found) == ["1", "3"]


def test_activation_checkpointing_does_not_add_calls() -> None:
    class Recomputed(FunctionalMlp):
        def forward(self, x: Tensor) -> Tensor:
            hidden = F.relu(self.a(x))
            return self.c(checkpoint(lambda h: F.relu(self.b(h)), hidden, use_reentrant=False))  # type: ignore[no-any-return]

    found = sites(Recomputed(), vectors())
    assert [site.calls for site in found.values()] == [(0,), (1,)]
