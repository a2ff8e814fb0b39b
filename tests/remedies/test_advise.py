"""Advice leaves the training alone."""

from __future__ import annotations

from supervisor.remedies.advise import Advise
from tests.remedies.sick import decision, fingerprint, sick_run


def test_advice_changes_nothing() -> None:
    run = sick_run()
    before = fingerprint(run)
    assert not Advise().apply(run, decision()).changes
    assert fingerprint(run) == before
