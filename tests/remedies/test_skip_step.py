"""Not taking a step."""

from __future__ import annotations

from supervisor.remedies.skip_step import SkipStep
from tests.remedies.sick import decision, sick_run


def test_a_skip_says_why_and_keeps_the_first_reason() -> None:
    run = sick_run()
    SkipStep().apply(run, decision("non_finite"))
    assert run.voided == "non_finite: activation functions"
    SkipStep().apply(run, decision("exploding_gradients"))
    assert run.voided == "non_finite: activation functions"


def test_the_undo_of_a_skip_ends_with_its_tick() -> None:
    """A later tick is voided for reasons of its own."""
    run = sick_run()
    effect = SkipStep().apply(run, decision())
    run.clock.tick += 1
    run.voided = "another reason"
    effect.undo()
    assert run.voided == "another reason"
