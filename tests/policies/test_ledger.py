"""What decisions remember: incidents, budgets and clocks that never roll back."""

from __future__ import annotations

import pytest

from supervisor.policy.ledger import RELAPSE, Ledger
from supervisor.policy.model import Limits, Policy, Rung, Treatment
from supervisor.records import Decision, Finding, Outcome, Verdict
from tests.policies.running import Run, finding, policy, rung

ILL = "vanishing_gradients"


def cured(*ladder: Rung, at: int = 100) -> Run:
    """Return a run whose first rung has just cured its illness."""
    run = Run(policy(ILL, *ladder, limits=Limits(cooldown=1)))
    run.do(run.see(finding(ILL, at - 50)))
    run.judge(ILL, "resolved", at)
    return run


def test_only_the_finding_that_opens_an_incident_is_news() -> None:
    ledger = Ledger()
    assert ledger.note_findings([finding(ILL, 10)]) == [finding(ILL, 10)]
    assert ledger.note_findings([finding(ILL, 20)]) == []
    assert (ledger.incidents[ILL].finding.tick, ledger.incidents[ILL].last_seen) == (10, 20)


def test_sightings_during_a_probation_are_counted() -> None:
    run = Run(policy(ILL))
    run.do(run.see(finding(ILL, 10)))
    for tick in (11, 12, 13):
        run.see(finding(ILL, tick))
    probation = run.ledger.incidents[ILL].probation
    assert probation is not None
    assert (probation.began, probation.sightings, probation.loss_before, probation.loss_noise) == (10, 3, 1.0, 0.1)


def test_a_resolved_incident_is_closed_and_a_later_one_begins_with_what_helped() -> None:
    run = cured(rung("lower_lr", budget=2), rung("rollback"))
    assert run.ledger.incidents == {}
    assert [d.remedy for d in run.see(finding(ILL, 101 + RELAPSE))] == ["lower_lr"]


def test_a_relapse_goes_on_where_the_incident_stood() -> None:
    run = cured(rung("lower_lr"), rung("rollback"))
    (again,) = run.see(finding(ILL, 100 + RELAPSE))
    assert (again.remedy, again.rung) == ("rollback", 1)


def test_after_a_relapse_budgets_go_on_counting_over_several_cures() -> None:
    run = Run(policy(ILL, rung("lower_lr", budget=2), rung("rollback"), limits=Limits(cooldown=1)))
    assert run.story(ILL, range(100, 500, 100), verdict="resolved") == ["lower_lr", "lower_lr", "rollback", "advise"]


def test_a_burst_that_a_reflex_ended_is_no_relapse() -> None:
    run = Run(policy("non_finite", rung("skip_step", budget=2), rung("rollback")))
    for tick in range(10, 100, 10):
        decisions = run.see(finding("non_finite", tick))
        assert [d.remedy for d in decisions] == ["skip_step"]
        run.do(decisions)
        run.judge("non_finite", "resolved", tick + 5)


def test_a_verdict_without_a_treatment_closes_the_incident() -> None:
    ledger = Ledger()
    ledger.note_findings([finding(ILL, 10)])
    ledger.note_verdict(Verdict((), ILL, "resolved", 110, 110, ""), cooldown=25)
    assert ledger.incidents == {}
    assert ledger.quiet_until == 0


def test_a_clip_that_did_not_hold_it_is_not_tried_again_but_another_rung_may_be() -> None:
    for remedy, again in (("clip_norm", "rollback"), ("lower_lr", "lower_lr")):
        run = Run(policy("exploding_gradients", rung(remedy, budget=2), rung("rollback")))
        run.do(run.see(finding("exploding_gradients", 10)))
        run.judge("exploding_gradients", "persisted", 60)
        assert [d.remedy for d in run.see(finding("exploding_gradients", 61))] == [again]


@pytest.mark.parametrize(
    ("remedies", "counted"),
    [(("skip_step",), 0), (("clip_norm",), 0), (("lower_lr",), 1), (("clip_norm", "lower_lr"), 1)],
)
def test_what_counts_as_an_intervention(remedies: tuple[str, ...], counted: int) -> None:
    run = Run(policy(ILL, rung(*remedies)))
    run.do(run.see(finding(ILL)))
    assert run.ledger.interventions == counted


def test_what_was_not_applied_is_on_no_probation_and_costs_no_intervention() -> None:
    run = Run(policy(ILL))
    run.do(run.see(finding(ILL)), "refused")
    assert run.ledger.incidents[ILL].probation is None
    assert run.ledger.interventions == 0


def test_decisions_are_numbered_without_a_gap() -> None:
    run = Run(policy(ILL, rung("swap_activation", "reinit_weights"), rung("lower_lr")))
    ids = []
    for tick in (100, 200, 300):
        decisions = run.see(finding(ILL, tick))
        ids += [decision.id for decision in decisions]
        run.do(decisions)
        if run.ledger.incidents[ILL].probation:
            run.judge(ILL, "persisted", tick + 50)
    assert ids == ["d1", "d2", "d3", "d4"]


def test_the_same_records_read_again_give_the_same_ledger() -> None:
    def told() -> Ledger:
        ledger = Ledger()
        seen = Finding(ILL, 5, 5, (), 1.0, "")
        ledger.note_findings([seen])
        decisions = (Decision("d1", "lower_lr", {}, seen, 0, "", 5, 5),)
        ledger.note_decisions(decisions)
        ledger.note_outcomes(decisions, [Outcome("d1", "lower_lr", "applied", 5, 5)], (1.0, 0.1))
        ledger.note_verdict(Verdict(("d1",), ILL, "persisted", 55, 55, ""), cooldown=25)
        return ledger

    assert repr(vars(told())) == repr(vars(told()))


def test_a_rung_is_told_by_its_remedies() -> None:
    assert str(Rung((Treatment("swap_activation"), Treatment("reinit_weights")))) == "swap_activation + reinit_weights"
    allowed = Policy("p", respond={ILL: (rung("lower_lr"), rung("stop"))}, forbid=frozenset({"stop"}))
    assert allowed.remedies == {"lower_lr"}
