"""What an examination found: figures by layer, findings with their causes, a table and a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.records import Finding, plain

NAN: Final = math.nan
WIDEST: Final = 32  # characters of a layer's name in the table


@dataclass(frozen=True)
class LayerFigures:
    """One layer over the batches of an examination; NaN where a figure is not known or does not apply."""

    name: str
    kind: str
    size: int  # trainable elements
    activation: str = ""  # what follows
    mean: float = NAN  # of what leaves it, behind its activation
    std: float = NAN
    units: int = 0  # of its activation
    silent: float = NAN  # share of its units that no batch woke
    saturated: float = NAN  # share of its outputs within 1 % of an end
    gradient: float = NAN  # norm of the gradient of its parameters
    flow: float = NAN  # root mean square of the loss's gradient at its output
    amplification: float = NAN  # its flow over that of the next layer: |dz_{i+1}/dz_i|
    update_ratio: float = NAN  # norm of the next step over the norm of its weights
    weight: float = NAN  # root mean square of its weights
    weight_scale: float = NAN  # that over what hands the signal on at its size (He, Glorot)
    steps: float = NAN  # of time
    through_time: float = NAN  # gradient that arrives at its first steps over that at its last


@dataclass(frozen=True)
class Examination:
    """A model as it stands."""

    layers: tuple[LayerFigures, ...]
    findings: tuple[Finding, ...]
    batches: int
    loss: float  # median over the batches
    grad_norm: float  # likewise
    depth: int  # weight matrices on the longest way through
    shortest: int  # and on the shortest: far less with skip connections
    amplification: float  # product over the depth: the gradient at the first layer over that at the last
    bound: float  # the largest product that the squashing activations allow

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        facts: dict[str, Any] = plain(self)
        return {"healthy": self.healthy, **facts}

    def summary(self) -> str:
        """Return table and findings as text."""
        told = [
            f"{self.batches} batches, loss {self.loss:.4g}, norm of all gradients {self.grad_norm:.3g}",
            f"{self.depth} layers deep, the shortest way through passes {self.shortest}; from the last to the first "
            f"the gradient changes by a factor of {_figure(self.amplification)}"
            + (f" (the activations allow {self.bound:.2g})" if self.bound < 1 else ""),
        ]
        findings = [line for finding in self.findings for line in _told(finding)]
        return "\n".join([*told, "", *table(self.layers), "", *(findings or ["nothing was found"])])

    def __str__(self) -> str:
        """Return the summary."""
        return self.summary()

    def plot(self, path: str | Path) -> Path:
        """Draw gradients, signal, silent and saturated shares over the depth into an image file; return its path."""
        from supervisor.checklists.drawing import draw  # noqa: PLC0415 - matplotlib only when something is drawn

        return draw(self, Path(path))


def table(layers: Sequence[LayerFigures]) -> list[str]:
    """Return the figures of all layers as aligned lines."""
    header = ("layer", "then", "mean", "std", "silent", "pinned", "gradient", "amplif.", "update/weight")
    rows = [header, *(_row(layer) for layer in layers)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    return [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _row(layer: LayerFigures) -> tuple[str, ...]:
    name = layer.name if len(layer.name) <= WIDEST else "..." + layer.name[3 - WIDEST :]
    numbers = (layer.mean, layer.std, layer.gradient, layer.amplification, layer.update_ratio)
    mean, std, gradient, factor, ratio = (_figure(number) for number in numbers)
    return (
        name,
        layer.activation or "-",
        mean,
        std,
        _share(layer.silent),
        _share(layer.saturated),
        gradient,
        factor,
        ratio,
    )


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.1e}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def _told(finding: Finding) -> list[str]:
    where = ", ".join(finding.where[:4]) + (f" and {len(finding.where) - 4} more" if len(finding.where) > 4 else "")
    figures = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in finding.evidence.items())
    causes = ", ".join(cause.name for cause in finding.causes) or finding.cause
    return [f"{finding.pathology}: {figures}", f"  where: {where or 'the whole network'}", f"  likely cause: {causes}"]
