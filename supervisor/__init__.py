"""An autonomous training supervisor for PyTorch: `from supervisor import supervise`.

The public names are loaded when they are first used (PEP 562), so that the command line's help needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisor.checklists import diagnose, initialize_, preflight
    from supervisor.entry import Training, supervise
    from supervisor.entry.selftest import selftest
    from supervisor.errors import (
        JournalError,
        NotYetError,
        PolicyError,
        RemedyRefused,
        SupervisorError,
        TrainingStopped,
        TrainStepError,
        UnknownNameError,
        UsageError,
    )
    from supervisor.policy import Policy
    from supervisor.recording.report import Report
    from supervisor.remedies.rebuild import rebuild
    from supervisor.verification.branches import in_trial

__version__ = "0.1.0"

_HOMES = {
    "supervise": "entry",
    "Training": "entry",
    "selftest": "entry.selftest",
    "preflight": "checklists",
    "diagnose": "checklists",
    "initialize_": "checklists",
    "Policy": "policy",
    "Report": "recording.report",
    "rebuild": "remedies.rebuild",
    "in_trial": "verification.branches",
    "SupervisorError": "errors",
    "UsageError": "errors",
    "TrainStepError": "errors",
    "NotYetError": "errors",
    "PolicyError": "errors",
    "UnknownNameError": "errors",
    "RemedyRefused": "errors",
    "JournalError": "errors",
    "TrainingStopped": "errors",
}

__all__ = [
    "JournalError",
    "NotYetError",
    "Policy",
    "PolicyError",
    "RemedyRefused",
    "Report",
    "SupervisorError",
    "TrainStepError",
    "Training",
    "TrainingStopped",
    "UnknownNameError",
    "UsageError",
    "diagnose",
    "in_trial",
    "initialize_",
    "preflight",
    "rebuild",
    "selftest",
    "supervise",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    """Import a public name on first use."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
