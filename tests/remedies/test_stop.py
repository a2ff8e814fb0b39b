"""Ending the training."""

from __future__ import annotations

from supervisor.remedies.stop import Stop
from tests.remedies.sick import decision, sick_run


def test_stop_gives_the_findings_words() -> None:
    run = sick_run()
    Stop().apply(run, decision("plateau", "fc1", "fc2", tick=40))
    assert run.stop_reason == "plateau at tick 40 in fc1, fc2: activation functions"
