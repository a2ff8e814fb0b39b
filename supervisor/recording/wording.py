"""Facts as sentences a tired person understands; used by the story, the page and the MLflow description."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from supervisor.recording.incidents import Attempt, Fact

QUANTITY: Final = {
    "exploding_gradients": ("gradient norm", ""),
    "vanishing_gradients": ("gradient decay over the depth", " decades"),
    "dead_units": ("share of dead units", ""),
    "saturation": ("share of saturated units", ""),
}
"""What `evidence["value"]` measures where the evidence has no "figure" of its own, and its unit."""

ENDING: Final = {
    "healthy": "healthy: nothing had to be done",
    "recovered": "recovered",
    "unresolved": "unresolved",
}


def number(value: Any) -> str:  # noqa: ANN401 - JSON in, text out
    """Return a figure with three digits: 41.3, 3e-4, 12000; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return listing(value) if isinstance(value, (list, tuple)) else str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def listing(words: Iterable[Any], most: int = 3) -> str:
    """Return "a, b, c and 9 more"."""
    texts = [number(word) for word in words]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def counted(amount: int, noun: str) -> str:
    """Return "1 step" or "3 steps"."""
    return f"{amount} {noun}" + ("" if amount == 1 else "s")


def layers(where: Sequence[str]) -> str:
    """Return "layer a", "layers a, b" or ""."""
    names = [name or "(the model itself)" for name in where]
    return f"layer{'s' if len(names) > 1 else ''} {listing(names)}" if names else ""


def seen(finding: Fact) -> str:
    """Return what was measured, against which limit and where: "gradient norm 41.3, limit 6.2 (name, layers a, b)"."""
    pathology = str(finding["pathology"])
    return f"{measured(finding)} ({', '.join(filter(None, (pathology, layers(finding['where']))))})"


def measured(finding: Fact) -> str:
    """Return what was measured, and against which limit."""
    evidence, pathology = finding["evidence"], str(finding["pathology"])
    if pathology == "non_finite":
        values = (("loss", evidence.get("loss")), ("gradient norm", evidence.get("grad_norm")))
        told = ", ".join(f"{name} {number(value)}" for name, value in values if value is not None)
        return told or "a value that is not finite"
    if "value" not in evidence:
        return pathology.replace("_", " ")
    label, unit = QUANTITY.get(pathology, ("value", ""))
    label, unit = (str(evidence["figure"]), "") if "figure" in evidence else (label, unit)
    limit = f", limit {number(evidence['limit'])}" if evidence.get("limit") is not None else ""
    return f"{label} {number(evidence['value'])}{unit}{limit}"


def suspected(finding: Fact, *, evidence: bool = False) -> str:
    """Return the ranked causes of a finding, the likeliest first; with what speaks for each where asked."""
    named = finding.get("causes") or [{"name": finding["cause"], "weight": 1.0, "evidence": {}}]
    if not evidence:
        return "; less likely: ".join(filter(None, (named[0]["name"], listing(c["name"] for c in named[1:]))))
    told = (f"{cause['name']} ({number(cause['weight'])}: {figures(cause['evidence'])})" for cause in named)
    return "; ".join(told) if finding.get("causes") else str(finding["cause"])


def figures(evidence: Fact, without: Iterable[str] = ("value", "limit", "figure")) -> str:
    """Return the remaining evidence as "window 20, loss 3.1"; mappings by their size."""
    parts = []
    for name, value in evidence.items():
        if name in set(without) or value in (None, ""):
            continue
        text = f"{len(value)} entries" if isinstance(value, Mapping) else number(value)
        parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)


def changes(attempt: Attempt, most: int = 3) -> str:
    """Return what an attempt changed: "lr 3e-4 -> 1.5e-4"; equal changes in many places are told once."""
    places: dict[str, dict[str, None]] = {}  # what changed so, in order
    for outcome in attempt.outcomes:
        for what, change in outcome["changes"].items():
            pair = change if isinstance(change, (list, tuple)) and len(change) == 2 else (None, change)
            text = number(pair[1]) if pair[0] is None else f"{number(pair[0])} -> {number(pair[1])}"
            places.setdefault(text, {})[str(what)] = None
    parts = [
        f"{next(iter(names))} {text}" if len(names) == 1 else f"{text} in {len(names)} places ({listing(names)})"
        for text, names in places.items()
    ]
    return "; ".join(parts[:most]) + (f"; and {len(parts) - most} more" if len(parts) > most else "")


def trouble(attempt: Attempt) -> str:
    """Return why remedies of an attempt were refused or failed, or ""."""
    return "; ".join(
        f"{outcome['remedy']} {outcome['status']}: {outcome['why']}"
        for outcome in attempt.outcomes
        if outcome["status"] != "applied"
    )


def became(attempt: Attempt) -> str:
    """Return what became of an attempt, with the figures of its verdict."""
    verdict = attempt.verdict
    if verdict is None:
        return "no verdict yet" if attempt.status == "no verdict" else attempt.status
    undone = "; undone" if verdict["undone"] else ""
    details = figures(verdict["figures"], without=())
    told = f"{verdict['status']} at tick {verdict['tick']}: {verdict['reason']}"
    return told + (f" ({details})" if details else "") + undone


def why(attempt: Attempt) -> str:
    """Return which rung of the ladder it was and what had been tried: the reason's last words."""
    return attempt.reason.rpartition(" (")[2].removesuffix(")") or f"rung {attempt.rung + 1}"


def headline(story: Fact) -> str:
    """Return the verdict over the whole run in one line."""
    done = counted(len(story["interventions"]), "intervention")
    health = ENDING.get(str(story["health"]), str(story["health"]))
    verdict = health if story["health"] == "healthy" else f"{health} after {done}"
    length = counted(int(story["steps"]), "step")
    ticks = f" ({counted(int(story['ticks']), 'tick')})" if story["ticks"] != story["steps"] else ""
    loss = f"final loss {number(story['final_loss'])}, best {number(story['best_loss'])}"
    ended = "" if story["status"] == "completed" else f"; {story['status']}"
    why = f": {story['stop_reason']}" if story["status"] != "completed" and story["stop_reason"] else ""
    return f"{verdict}; {loss} after {length}{ticks}{ended}{why}"
