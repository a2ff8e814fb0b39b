"""What a state consists of besides numbers: modules, optimizers and other things with a state, each by name.

What is registered with a run is kept by what it is: a module as the model is (an EMA's parameters and buffers return
in place), an optimizer as the run's own, a generator by its state, and anything else by `state_dict` and
`load_state_dict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from supervisor.checkpoints.rng import generator_state, restore_generator
from supervisor.errors import UsageError
from supervisor.run import TrainingRun


@dataclass(frozen=True, eq=False)
class Homes:
    """Where parameters hang, as columns; one that is shared has several homes.

    Columns and no rows: a tuple for each of thousands of parameters would wake the garbage collector.
    """

    modules: list[nn.Module]
    names: list[str]
    parameters: list[nn.Parameter]

    def hang_back(self) -> None:
        """Hang every parameter where it was, if another of its name hangs there now."""
        for module, name, parameter in zip(self.modules, self.names, self.parameters, strict=True):
            hanging = module._parameters  # noqa: SLF001 - __setattr__ would check what is known
            if name in hanging and hanging[name] is not parameter:
                hanging[name] = parameter


@dataclass(frozen=True)
class Members:
    """The parts of a run, by the names that a person would look for."""

    modules: dict[str, nn.Module]  # "" is the model; roots only
    optimizers: dict[str, Optimizer]
    others: dict[str, Any]  # scheduler, scaler, registered things


def members_of(run: TrainingRun) -> Members:
    """Return the parts of `run`."""
    modules: dict[str, nn.Module] = {"": run.model}
    several = len(run.optimizers) > 1
    optimizers = {f"optimizer[{i}]" if several else "optimizer": o for i, o in enumerate(run.optimizers)}
    things = {"scheduler": run.scheduler, "scaler": getattr(run, "scaler", None)}
    others = {name: thing for name, thing in things.items() if thing is not None}
    registered: dict[str, Any] = getattr(run, "registered", {})
    for name, thing in registered.items():
        home: dict[str, Any] = others
        if isinstance(thing, nn.Module):
            home = modules
        elif isinstance(thing, Optimizer):
            home = optimizers
        home[f"registered.{name}"] = thing
    return Members(modules, optimizers, others)


def parameters_of(members: Members) -> tuple[list[nn.Module], Homes, list[Tensor]]:
    """Return all modules, the homes of their parameters, and all parameters once, strays of optimizers included.

    UsageError where a lazy module has not seen its first batch: its parameters have no values yet.
    """
    modules = list({id(m): m for root in members.modules.values() for m in root.modules()}.values())
    hung = [(m, m._parameters) for m in modules if m._parameters]  # noqa: SLF001 - at a third of the price
    homes = Homes(
        [module for module, held in hung for p in held.values() if p is not None],
        [name for _, held in hung for name, p in held.items() if p is not None],
        [p for _, held in hung for p in held.values() if p is not None],
    )
    _refuse_uninitialized(homes)
    own: dict[int, Tensor] = dict(zip(map(id, homes.parameters), homes.parameters, strict=True))
    for optimizer in members.optimizers.values():
        for group in optimizer.param_groups:
            own |= zip(map(id, group["params"]), group["params"], strict=True)
    return modules, homes, list(own.values())


def _refuse_uninitialized(homes: Homes) -> None:
    if not any(issubclass(kind, UninitializedParameter) for kind in {*map(type, homes.parameters)}):
        return
    for module, name, parameter in zip(homes.modules, homes.names, homes.parameters, strict=True):
        if isinstance(parameter, UninitializedParameter):
            message = (
                f"model: {name!r} of a {type(module).__name__} has no values yet, so there is no state to keep. Run "
                "one batch through the model before the optimizer is built: model(batch)"
            )
            raise UsageError(message)


def state_of(thing: Any) -> Any:  # noqa: ANN401 - anything registered
    """Return the state of something that is neither a module nor an optimizer."""
    state = generator_state(thing)
    return thing.state_dict() if state is None else state


def load_into(thing: Any, state: Any) -> None:  # noqa: ANN401
    """Put that state back."""
    if generator_state(thing) is None:
        thing.load_state_dict(state)
    else:
        restore_generator(thing, state)


def module_names(members: Members) -> dict[int, str]:
    """Return the dotted path of every module; "" is the model itself."""
    names: dict[int, str] = {}
    for root, module in members.modules.items():
        for path, one in module.named_modules():
            names.setdefault(id(one), ".".join(filter(None, (root, path))))
    return names


def parameter_names(members: Members) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, parameter): of the modules by path, of strays by their place in the optimizer."""
    seen: set[int] = set()
    for root, module in members.modules.items():
        for path, parameter in module.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield ".".join(filter(None, (root, path))), parameter
    for name, optimizer in members.optimizers.items():
        for i, group in enumerate(optimizer.param_groups):
            for j, parameter in enumerate(group["params"]):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield f"{name}.group[{i}].params[{j}]", parameter
