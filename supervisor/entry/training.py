"""The keyword arguments of `supervise()` as one frozen dataclass, checked before anything is touched."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from supervisor.errors import NotYetError, UsageError
from supervisor.journal import Recorder
from supervisor.policy import Policy
from supervisor.policy.context import unmatched
from supervisor.registry import nearest

TrainFn = Callable[..., Any]
Evaluate = Callable[[], "float | Mapping[str, float]"]


@dataclass(frozen=True)
class Training:
    """A training as `supervise()` takes it. Field by field the arguments of that function."""

    train_fn: TrainFn
    model: nn.Module | None = None
    optimizer: Optimizer | Sequence[Optimizer] | None = None
    data: Iterable[Any] | None = None
    scheduler: LRScheduler | ReduceLROnPlateau | None = None
    scaler: Any = None
    steps: int | None = None
    epochs: int | None = None
    accumulate: int = 1
    evaluate: Evaluate | None = None
    evaluate_every: int | None = None
    policy: str | Path | Policy = "default"
    context: str | Mapping[str, Any] | None = None
    tracking: str | Recorder | None = "mlflow"
    run_dir: str | Path | None = None
    resume: bool = False
    seed: int | None = None
    progress: bool | None = None

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers as a tuple."""
        if isinstance(self.optimizer, Optimizer):
            return (self.optimizer,)
        return tuple(self.optimizer or ())

    def check(self) -> None:
        """Raise UsageError for the first argument that does not fit. Touches nothing."""
        self._check_built()
        self._check_train_fn()
        if not isinstance(self.model, nn.Module):
            message = f"model: expected a torch.nn.Module, got {kind_of(self.model)}. Pass model=your_model"
            raise UsageError(message)
        if not self.optimizers or not all(isinstance(o, Optimizer) for o in self.optimizers):
            message = f"optimizer: expected a torch.optim.Optimizer or several, got {kind_of(self.optimizer)}"
            raise UsageError(message)
        self._check_steps()
        if not isinstance(self.data, Iterable):
            message = f"data: expected an iterable of batches, such as a DataLoader, got {kind_of(self.data)}"
            raise UsageError(message)
        self._check_counts()
        if isinstance(self.tracking, str) and self.tracking != "mlflow":
            message = f'tracking: expected "mlflow", None or a Recorder, got {self.tracking!r}.'
            raise UsageError(message + nearest(self.tracking, ["mlflow"]))
        self._check_context()

    def declared_policy(self) -> Policy:
        """Return the policy, with what `context` declares. Raises PolicyError or UsageError; touches nothing."""
        policy = self.policy if isinstance(self.policy, Policy) else Policy.load(self.policy)
        return policy if self.context is None else policy.within(self.context)

    def _check_context(self) -> None:
        """Refuse a context that is none, and frozen layers that this model does not have."""
        if self.context is None:
            return
        assert self.model is not None
        names = [name or "model" for name, _ in self.model.named_modules()]
        for pattern in unmatched(Policy("none").within(self.context).context.frozen, names):
            message = f"context.frozen: no layer of the model is called {pattern!r}.{nearest(pattern, names)}"
            raise UsageError(message)

    def _check_built(self) -> None:
        """Refuse what the contract names and this version does not build."""
        named = {
            "resume": (self.resume, "start the run anew, in another run_dir"),
            "scaler": (self.scaler is not None, "train in float32 or bfloat16, or without the supervisor"),
        }
        for name, (given, instead) in named.items():
            if given:
                message = f"{name}: not yet available in this version; {instead}"
                raise NotYetError(message)

    def _check_train_fn(self) -> None:
        given: object = self.train_fn
        if not callable(given):
            message = f"train_fn: expected a function of one batch that returns the loss, got {kind_of(given)}"
            raise UsageError(message)
        try:
            inspect.signature(self.train_fn).bind(object())
        except TypeError:
            message = (
                "train_fn: cannot be called with one batch. The form that holds the user's whole loop is not yet "
                "available in this version; pass a function of one batch that returns the loss"
            )
            raise NotYetError(message) from None
        except ValueError:
            return  # a builtin without a signature: the first call will tell

    def _check_steps(self) -> None:
        for optimizer in self.optimizers:
            closure = inspect.signature(optimizer.step).parameters.get("closure")
            if closure is not None and closure.default is inspect.Parameter.empty:
                message = (
                    f"optimizer: {type(optimizer).__name__} needs a closure that computes the loss several times a "
                    "step, which is not yet available in this version; take Adam or SGD"
                )
                raise NotYetError(message)

    def _check_counts(self) -> None:
        for name in ("steps", "epochs", "accumulate", "evaluate_every"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
            if not whole and not (value is None and name != "accumulate"):
                message = f"{name}: expected a whole number of at least 1, got {value!r}"
                raise UsageError(message)
        if self.evaluate_every is not None and self.evaluate is None:
            message = "evaluate_every: there is nothing to evaluate; pass evaluate=a function that returns a loss"
            raise UsageError(message)


def kind_of(value: Any) -> str:  # noqa: ANN401 - anything a user may pass
    """Return what `value` is, for an error message."""
    return "None" if value is None else f"{type(value).__name__} {value!r:.80}"
