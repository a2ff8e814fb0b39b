"""Whether a training has got nowhere, told from one that has arrived."""

from __future__ import annotations

from typing import Final, Literal

from supervisor.diagnoses.past import Past

SOLVED: Final = 0.05  # of the initial loss

Standing = Literal["where it began", "below it", ""]


def standing(past: Past, window: int) -> Standing:
    """Return where the loss stands: near where it began, below that but unsolved, or "" if it moves or is solved.

    Below where it began says less: a regression may only have found the mean of its targets, a classifier with large
    first scores only have calmed down; or it may have learned all there is. Whoever asks needs stronger evidence then.
    """
    if not past.stands(window):
        return ""
    level, began = past.level(window // 2), past.initial_loss
    if not level < 0.5 * began:
        return "where it began"
    return "below it" if level > SOLVED * began else ""
