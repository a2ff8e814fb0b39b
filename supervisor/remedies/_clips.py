"""What the two clips share: how long a limit holds, what is usual, and never loosening a limit that holds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from supervisor.errors import RemedyRefused
from supervisor.records import Decision
from supervisor.remedies.base import Effect
from supervisor.run import Clip, TrainingRun
from supervisor.settings import FOREVER

Hold = Annotated[
    Annotated[int, Field(ge=0)] | Literal["run"] | None,
    Field(description="further ticks the limit holds; run: to the end of the run; left out: the probation"),
]


def refuse_if_pointless(run: TrainingRun, hold: int | str | None) -> None:
    """Raise RemedyRefused where there is nothing to clip, or where clipping would do harm."""
    if run.voided and not hold:
        message = f"this tick's step is not taken ({run.voided}), so there is nothing to clip; set hold"
        raise RemedyRefused(message)
    if not run.voided and not _finite_gradients(run):
        message = "the gradients are not finite: scaled down, an Inf becomes a NaN; skip the step instead"
        raise RemedyRefused(message)


def usual_norm(run: TrainingRun, decision: Decision, parameter: str, otherwise: float | None = None) -> float:
    """Return the largest gradient norm that is usual: what the finding says of it, or what the run knows.

    Where neither knows, `otherwise`; refused where that is None.
    """
    said = decision.finding.evidence.get("usual_max")
    for known in (said, run.usual_norm):
        if isinstance(known, (int, float)) and math.isfinite(known) and known > 0:
            return float(known)
    if otherwise is not None:
        return otherwise
    message = (
        f"{parameter}: auto needs the largest usual norm; the finding says {said!r}, the run {run.usual_norm:.3g}; "
        "set a number"
    )
    raise RemedyRefused(message)


def arm(run: TrainingRun, kind: str, limit: float, hold: int | str | None, *, auto: bool = False) -> Effect:
    """Set a limit from this tick on. One of its kind that holds and is tighter stays: it is prolonged at most.

    With `auto`, a limit that holds to the end of the run follows what is usual.
    """
    tick, before = run.clock.tick, run.settings.clip
    until = FOREVER if hold == "run" else tick + int(hold or 0)
    standing = before if before is not None and before.until >= tick else None
    changes: dict[str, tuple[Any, Any]] = {}
    if standing is not None and standing.kind == kind:
        if standing.limit <= limit and standing.until >= until:
            message = (
                f"a limit of {standing.limit:.3g} holds {_when(standing)} already, which the asked {limit:.3g} would "
                "loosen or repeat; ask for a tighter or longer one"
            )
            raise RemedyRefused(message)
        if standing.limit < limit:
            changes["kept the tighter limit, not"] = (limit, standing.limit)
        limit, until = min(limit, standing.limit), max(until, standing.until)
    elif standing is not None:
        changes[_name(standing.kind)] = (standing.limit, None)
    clip = Clip(kind, limit, until, auto=auto and until == FOREVER)
    run.settings = replace(run.settings, clip=clip)

    def undo() -> None:
        run.settings = replace(run.settings, clip=before)

    changes[_name(kind)] = (before.limit if before and before.kind == kind else None, limit)
    changes["clipped until tick"] = (before.until if before else None, until)
    return Effect(changes, undo)


def _name(kind: str) -> str:
    return "max_norm" if kind == "norm" else "clip_value"


def _when(clip: Clip) -> str:
    return "to the end of the run" if clip.until == FOREVER else f"until tick {clip.until}"


def _finite_gradients(run: TrainingRun) -> bool:
    """Read whether this tick's gradients are finite: one host sync, on ticks with a decision only."""
    gradients = [_values(p.grad) for p in run.parameters if p.grad is not None]
    if not gradients:
        return True
    norms = torch._foreach_norm(gradients)  # noqa: SLF001 - the fused form has no public name
    return math.isfinite(float(torch.stack([norm.to(run.device) for norm in norms]).sum()))


def _values(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def usual_elements(run: TrainingRun) -> int:
    """Return how many gradient elements are not 0: rows that a batch does not touch have no share in its norm."""
    gradients = [_values(p.grad) for p in run.parameters if p.grad is not None]
    alive = int(torch.stack([g.count_nonzero().to(run.device) for g in gradients]).sum()) if gradients else 0
    return alive or sum(p.numel() for p in run.parameters)
