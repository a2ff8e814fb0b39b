"""The plot of an examination: what happens over the depth of the network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from supervisor.errors import UsageError

if TYPE_CHECKING:
    from supervisor.checklists.figures import Examination, LayerFigures

BLUE: Final = "#1f6feb"
ORANGE: Final = "#d9730d"
GREY: Final = "#57606a"
NAMED: Final = 24  # layers whose names fit below the axis


def draw(examination: Examination, path: Path) -> Path:
    """Draw an examination into an image file. Raises UsageError where the folder is missing or the format unknown."""
    if not path.parent.is_dir():
        message = f"{path}: there is no folder {str(path.parent)!r}. Make it first"
        raise UsageError(message)
    layers = [layer for layer in examination.layers if layer.kind in ("linear", "conv", "recurrent", "embedding")]
    figure = Figure(figsize=(max(7.0, min(16.0, 0.45 * len(layers) + 4.0)), 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    flow, units, steps = figure.subplots(3, 1, sharex=True)
    places = list(range(len(layers)))
    _lines(flow, {"gradient at the layer's output (rms)": [layer.flow for layer in layers],
                          "signal that leaves it (std)": [layer.std for layer in layers]})  # fmt: skip
    flow.set_title("Through the depth", loc="left", fontweight="bold")
    _bars(units, places, layers)
    _lines(steps, {"next update / weights": [layer.update_ratio for layer in layers]})
    steps.axhspan(1e-4, 1e-1, color=BLUE, alpha=0.07, lw=0)
    steps.set_title("Update-to-weight ratio (shaded: usual)", loc="left", fontweight="bold")
    _name(steps, layers)
    told = ", ".join(dict.fromkeys(finding.pathology for finding in examination.findings)) or "nothing was found"
    figure.suptitle(f"{examination.batches} batches, loss {examination.loss:.3g}: {told}", x=0.01, ha="left")
    try:
        figure.savefig(path, dpi=120)
    except ValueError as error:
        message = f"{path}: {error}. Name it .png, .svg or .pdf"
        raise UsageError(message) from None
    return path


def _lines(axes: Any, series: dict[str, list[float]]) -> None:  # noqa: ANN401 - matplotlib's Axes
    """Draw positive figures on a logarithmic axis; a zero leaves a gap, what is unknown is passed over."""
    for (label, values), colour, mark in zip(series.items(), (BLUE, ORANGE), ("o", "s"), strict=False):
        known = [
            (place, value if value > 0 else math.nan) for place, value in enumerate(values) if not math.isnan(value)
        ]
        places, figures = [place for place, _ in known], [value for _, value in known]
        axes.plot(places, figures, color=colour, marker=mark, ms=4, lw=1.5, label=label)
    axes.set_yscale("log")
    axes.grid(axis="y", color=GREY, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)


def _bars(axes: Any, places: list[int], layers: list[LayerFigures]) -> None:  # noqa: ANN401
    silent = [0.0 if math.isnan(layer.silent) else 100 * layer.silent for layer in layers]
    pinned = [0.0 if math.isnan(layer.saturated) else 100 * layer.saturated for layer in layers]
    axes.bar([place - 0.2 for place in places], silent, 0.4, color=BLUE, label="silent units")
    axes.bar([place + 0.2 for place in places], pinned, 0.4, color=ORANGE, label="saturated outputs")
    axes.set_ylim(0, 100)
    axes.set_ylabel("%")
    axes.set_title("Silent units and saturated outputs", loc="left", fontweight="bold")
    if not any(silent + pinned):
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _name(axes: Any, layers: list[LayerFigures]) -> None:  # noqa: ANN401
    every = max(1, math.ceil(len(layers) / NAMED))
    chosen = list(range(0, len(layers), every))
    names = [layers[i].name if len(layers[i].name) <= 18 else "..." + layers[i].name[-15:] for i in chosen]
    axes.set_xticks(chosen, names, rotation=45, ha="right", fontsize=8)
