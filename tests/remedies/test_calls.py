"""Swapping chosen activation calls in one module's forward."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.errors import RemedyRefused
from supervisor.remedies._calls import Swap, swap_calls


class Three(nn.Module):
    """Three sigmoid calls in three spellings; the differences of what they return tell which were swapped."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        x = self.fc(x) * scale
        return torch.stack([torch.sigmoid(x), F.sigmoid(x), x.clone().sigmoid_()])


class Parent(nn.Module):
    """Calls relu itself before and after children that call it too."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.ReLU()
        self.custom = Custom()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([F.relu(x), self.module(x), self.custom(x), self.helper(x), F.relu(x)])

    def helper(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


def swapped(before: Tensor, after: Tensor) -> list[int]:
    return [i for i in range(len(before)) if not torch.equal(before[i], after[i])]


@pytest.mark.parametrize("calls", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_only_the_named_calls_are_swapped_in_every_forward(calls: tuple[int, ...]) -> None:
    model, x = Three(), torch.randn(4, 2)
    before = model(x)
    swap_calls(model, Swap("sigmoid", calls, "relu"))
    for _ in range(2):
        after = model(x)
        assert swapped(before, after) == list(calls)
        assert torch.equal(after[calls[0]], F.relu(model.fc(x)))


@pytest.mark.parametrize(("calls", "positions"), [((0,), [0]), ((1,), [3]), ((2,), [4]), ((0, 1, 2), [0, 3, 4])])
@pytest.mark.parametrize("hooked", [False, True])
def test_calls_of_children_are_neither_counted_nor_swapped(
    calls: tuple[int, ...], positions: list[int], *, hooked: bool
) -> None:
    model, x = Parent(), torch.randn(4, 2)
    if hooked:  # a module with hooks takes another way through Module.__call__
        model.register_forward_hook(lambda *_: None)
        model.custom.register_forward_hook(lambda *_: None)
    before = model(x)
    swap_calls(model, Swap("relu", calls, "elu"))
    assert swapped(before, model(x)) == positions


def test_a_childs_swap_leaves_its_parent_alone() -> None:
    model, x = Parent(), torch.randn(4, 2)
    before = model(x)
    swap_calls(model.custom, Swap("relu", (0,), "elu"))
    assert swapped(before, model(x)) == [2]


def test_forward_called_directly_is_swapped_as_well() -> None:
    model, x = Parent(), torch.randn(4, 2)
    before = model.forward(x)
    swap_calls(model, Swap("relu", (0,), "elu"))
    assert swapped(before, model.forward(x)) == [0]


def test_later_swaps_count_what_earlier_ones_left() -> None:
    model, x = Three(), torch.randn(4, 2)
    swap_calls(model, Swap("sigmoid", (0, 2), "relu"))
    swap_calls(model, Swap("relu", (1,), "gelu"))
    first, second, third = model(x)
    h = model.fc(x)
    assert torch.equal(first, F.relu(h))
    assert torch.equal(second, torch.sigmoid(h))
    assert torch.equal(third, F.gelu(h))


@pytest.mark.parametrize("to", ["relu", "leaky_relu", "elu", "gelu"])
def test_an_in_place_call_still_writes_in_place_and_its_gradient_is_right(to: str) -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = x * 2
            h.tanh_()
            return h

    model, x = InPlace(), torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    swap_calls(model, Swap("tanh", (0,), to))
    expected = getattr(F, to)(x * 2)
    assert torch.equal(model(x), expected)
    assert torch.autograd.gradcheck(model, (x,))


def test_take_back_in_any_order_restores_class_attributes_and_outputs() -> None:
    model, x = Three(), torch.randn(4, 2)
    attributes, before = set(vars(model)), model(x)
    first = swap_calls(model, Swap("sigmoid", (0,), "relu"))
    second = swap_calls(model, Swap("sigmoid", (0,), "relu"))
    first()
    assert swapped(before, model(x)) == [0]
    second()
    assert type(model) is Three
    assert set(vars(model)) == attributes
    assert torch.equal(before, model(x))


def test_keys_names_signature_and_isinstance_stay() -> None:
    model = Three()
    keys = list(model.state_dict())
    signature = inspect.signature(model.forward)
    swap_calls(model, Swap("sigmoid", (0,), "relu"))
    assert list(model.state_dict()) == keys
    assert isinstance(model, Three)
    assert inspect.signature(model.forward) == signature
    model(torch.randn(3, 2), scale=2.0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_carry_the_swap_and_are_independent(copied: object) -> None:
    model, x = Three(), torch.randn(4, 2)
    take_back = swap_calls(model, Swap("sigmoid", (1,), "relu"))
    assert callable(copied)
    twin = copied(model)
    expected = model(x)
    take_back()
    assert torch.equal(twin(x), expected)
    assert twin.fc.weight is not model.fc.weight
    assert not torch.equal(model(x), expected)


def test_an_exception_in_forward_leaves_the_next_forward_whole() -> None:
    class Fragile(Three):
        broken = False

        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            out = super().forward(x, scale)
            if self.broken:
                raise RuntimeError("no")  # noqa: EM101
            return out

    model, x = Fragile(), torch.randn(4, 2)
    swap_calls(model, Swap("sigmoid", (2,), "relu"))
    expected = model(x)
    model.broken = True
    with pytest.raises(RuntimeError):
        model(x)
    model.broken = False
    assert torch.equal(model(x), expected)
    assert torch.equal(torch.sigmoid(x), x.sigmoid())


def test_a_forward_bound_to_the_instance_is_refused() -> None:
    model = Three()
    model.forward = lambda x: x  # type: ignore[method-assign,assignment,misc]
    with pytest.raises(RemedyRefused, match="bound to the instance"):
        swap_calls(model, Swap("sigmoid", (0,), "relu"))
    assert type(model) is Three


def test_it_survives_compilation_in_full_where_the_children_are_plain_layers() -> None:
    class Plain(Three):
        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            x = self.fc(x) * scale
            return torch.stack([torch.sigmoid(x), x.sigmoid(), x.clone().sigmoid_()])

    model, x = Plain(), torch.randn(4, 2)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    before = compiled(x)
    swap_calls(model, Swap("sigmoid", (0, 2), "relu"))
    assert swapped(before, compiled(x)) == [0, 2]
    assert torch.equal(compiled(x), model(x))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compiled_with_children_that_call_activations_it_stays_right() -> None:
    model, x = Parent(), torch.randn(4, 2)
    swap_calls(model, Swap("relu", (1,), "elu"))
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(compiled(x), model(x))
