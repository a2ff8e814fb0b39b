"""Every error a user can meet, each with place, value and remedy in its message."""

from __future__ import annotations


class SupervisorError(Exception):
    """The base of all errors raised by the supervisor itself."""


class UsageError(SupervisorError, ValueError):
    """An argument does not fit: raised before the first step, with nothing changed."""


class TrainStepError(UsageError):
    """`train_fn` did not return what the form it has requires."""


class NotYetError(UsageError):
    """The contract names it, this version does not build it yet."""


class PolicyError(SupervisorError, ValueError):
    """A policy file is wrong. `problems` holds one line each: place, what was found, what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnknownNameError(SupervisorError, LookupError):
    """A name that nothing is registered under; the message offers the nearest one."""


class RemedyRefused(SupervisorError):  # noqa: N818 - a refusal is an answer, not a fault
    """A remedy cannot be applied here. Raised before it changed anything; the message says why."""


class JournalError(SupervisorError):
    """A journal or a metrics file cannot be read."""


class TrainingStopped(BaseException):
    """The policy stopped the training.

    A BaseException, so that a user's `except Exception` around the step does not swallow it.
    """
