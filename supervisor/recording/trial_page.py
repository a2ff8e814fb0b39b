"""A trial on the page: the loss curves of its arms over those of doing nothing, and a table that is their legend."""

from __future__ import annotations

import math
from html import escape
from typing import Final

from supervisor.recording.incidents import Fact
from supervisor.recording.trial_picture import picture_of, style_of
from supervisor.recording.trials import FIGURES, Arm, Told, headline_of, measure, told_of
from supervisor.recording.wording import counted, number

NONE: Final = "-"
RESULTS: Final = {"carried out": "won, carried out", "won": "beat doing nothing"}


def trial_html(trial: Fact) -> str:
    """Return what a person is to see of a trial. All text of the user's is escaped."""
    told = told_of(trial)
    head = f'<span class="soft">tick {int(trial["tick"])}, trial {escape(str(trial["id"]))}</span>'
    line = f"<p>{head}<br>{escape(headline_of(trial))}</p>"
    return f'<section class="attempt trial">{line}{picture_of(told)}{_table(trial, told)}</section>'


def _table(trial: Fact, told: Told) -> str:
    by_figure = any(math.isfinite(arm.branch.figure) for arm in told.arms)
    figure = FIGURES.get(str(trial["pathology"]), "figure")
    heads = ["arm", "result", f"{measure(told)} at the end", *([figure] if by_figure else []), "why"]
    rows = "".join(_row(told, arm, int(trial["steps"]), by_figure=by_figure) for arm in told.arms)
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(told: Told, arm: Arm, steps: int, *, by_figure: bool) -> str:
    taken, drawn = len(arm.branch.losses), bool(arm.branch.losses)
    ended = f"{arm.ended} after {counted(taken, 'step')}" if taken != steps else arm.ended
    figure = number(arm.branch.figure) if math.isfinite(arm.branch.figure) else NONE
    result = RESULTS.get(arm.result, arm.result)
    cells = [result, ended if drawn else NONE, *([figure] if by_figure else []), arm.reason]
    line = f'<path class="{style_of(told, arm)}" d="M0 4H28"/>' if drawn else ""
    name = f'<th><svg class="swatch" viewBox="0 0 28 8">{line}</svg>{escape(arm.label)}</th>'
    rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr class="{escape(arm.result.replace(" ", "-"))}">{name}{rest}</tr>'
