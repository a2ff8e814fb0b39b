"""From findings to decisions: a pure function, one rung at a time, within the policy's bounds."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from supervisor.diagnoses.causes import suspect
from supervisor.policy.decide import contenders, decide, guard
from supervisor.policy.model import Limits, Policy, Rung, Treatment, Verify, When
from supervisor.records import plain
from tests.diagnoses.shots import shot
from tests.policies.running import LADDER, Run, finding, policy, rung


def test_it_changes_nothing_and_answers_the_same_twice() -> None:
    run = Run(policy())
    run.story("dead_units", range(100, 400, 100))
    before = copy.deepcopy(vars(run.ledger))
    first = decide(run.policy, [finding(tick=400)], run.ledger)
    assert decide(run.policy, [finding(tick=400)], run.ledger) == first
    assert plain(vars(run.ledger)) == plain(before)


def test_the_ladder_is_climbed_and_ends_in_advice_once() -> None:
    assert Run(policy()).story("dead_units", range(100, 900, 100)) == [*LADDER, "advise"]


def test_a_budget_is_spent_before_the_next_rung() -> None:
    run = Run(policy("dead_units", rung("reinit_dead_units", budget=3), rung("lower_lr")))
    assert run.story("dead_units", range(100, 700, 100)) == ["reinit_dead_units"] * 3 + ["lower_lr", "advise"]


def test_a_rung_of_several_is_decided_as_one() -> None:
    run = Run(policy("dead_units", rung("swap_activation", "reinit_weights")))
    decisions = run.see(finding())
    assert [(d.id, d.remedy, d.rung) for d in decisions] == [("d1", "swap_activation", 0), ("d2", "reinit_weights", 0)]
    run.do(decisions)
    run.judge("dead_units", "persisted", 100)
    assert [d.id for d in run.see(finding(tick=200))] == ["d3"]


def test_a_forbidden_rung_is_passed_over_whole() -> None:
    ladder = (rung("swap_activation", "reinit_weights"), rung("lower_lr"))
    run = Run(policy("dead_units", *ladder, forbid=frozenset({"reinit_weights"})))
    assert run.story("dead_units", range(100, 400, 100)) == ["lower_lr", "advise"]


@pytest.mark.parametrize("status", ["refused", "failed"])
def test_a_rung_that_could_not_be_applied_is_not_tried_again(status: str) -> None:
    run = Run(policy("dead_units", rung("reinit_dead_units", budget=3), rung("lower_lr", budget=2)))
    assert run.story("dead_units", range(100, 106), status=status) == ["reinit_dead_units", "lower_lr", "advise"]


def test_a_rung_that_made_it_worse_is_not_tried_again() -> None:
    run = Run(policy("dead_units", rung("lower_lr", budget=5), rung("rollback")))
    assert run.story("dead_units", range(100, 400, 100), verdict="worsened") == ["lower_lr", "rollback", "advise"]


def test_the_most_urgent_finding_is_answered_first_and_alone() -> None:
    rules = Policy("test", respond={"dead_units": (rung("lower_lr"),), "exploding_gradients": (rung("clip_norm"),)})
    run = Run(rules)
    decisions = run.see(finding("dead_units"), finding("exploding_gradients"))
    assert [d.remedy for d in decisions] == ["clip_norm"]


def test_while_a_rung_is_on_probation_less_urgent_illnesses_wait() -> None:
    rules = Policy("test", respond={"dead_units": (rung("lower_lr"),), "exploding_gradients": (rung("clip_norm"),) * 2})
    run = Run(rules)
    run.do(run.see(finding("exploding_gradients")))
    assert run.see(finding("dead_units", 11)) == ()
    assert run.see(finding("exploding_gradients", 12)) == ()
    run.judge("exploding_gradients", "resolved", 60)
    assert [d.remedy for d in run.see(finding("dead_units", 200))] == ["lower_lr"]


def test_a_more_urgent_illness_does_not_wait_for_a_probation() -> None:
    rules = Policy("test", respond={"dead_units": (rung("lower_lr"),), "non_finite": (rung("skip_step"),)})
    run = Run(rules)
    run.do(run.see(finding("dead_units")))
    assert [d.remedy for d in run.see(finding("non_finite", 11))] == ["skip_step"]


@pytest.mark.parametrize(
    ("pathology", "waits"),
    [("dead_units", True), ("vanishing_gradients", True), ("exploding_gradients", False), ("non_finite", False)],
)
def test_only_what_does_no_harm_at_every_tick_waits_for_the_cooldown(pathology: str, waits: bool) -> None:  # noqa: FBT001
    run = Run(policy(pathology, limits=Limits(cooldown=25)))
    run.ledger.quiet_until = 100
    assert bool(run.see(finding(pathology, 99))) != waits
    assert run.see(finding(pathology, 100))


def test_a_verdict_begins_a_cooldown_but_that_of_a_reflex_does_not() -> None:
    run = Run(policy("dead_units", rung("lower_lr")))
    run.do(run.see(finding()))
    run.judge("dead_units", "persisted", 60)
    assert run.ledger.quiet_until == 85
    reflex = Run(policy("exploding_gradients", rung("clip_norm")))
    reflex.do(reflex.see(finding("exploding_gradients")))
    reflex.judge("exploding_gradients", "persisted", 60)
    assert reflex.ledger.quiet_until == 0


NON_FINITE = (rung("skip_step", budget=3), rung("rollback"), rung("stop"))


def test_the_guard_skips_a_non_finite_step_with_the_ladder_at_its_end_and_only_where_skips_are_allowed() -> None:
    run = Run(policy("non_finite", rung("skip_step"), rung("rollback")))
    assert run.story("non_finite", range(10, 13)) == ["skip_step", "rollback", "advise"]
    nan = finding("non_finite", 13)
    assert run.see(nan) == ()
    assert [(d.remedy, d.rung) for d in guard(run.policy, [nan], run.ledger)] == [("skip_step", 2)]
    assert guard(policy("non_finite", rung("rollback")), [nan], run.ledger) == ()
    assert guard(run.policy, [finding("dead_units", 13)], run.ledger) == ()
    forbidden = policy("non_finite", rung("skip_step"), forbid=frozenset({"skip_step"}))
    assert guard(forbidden, [nan], run.ledger) == ()


def test_too_many_skips_in_a_row_stop_the_training() -> None:
    run = Run(policy("non_finite", rung("skip_step", budget=50), limits=Limits(consecutive_skips=5)))
    assert run.story("non_finite", range(10, 16)) == ["skip_step"] * 5 + ["stop"]
    assert "5 steps in a row were skipped" in run.see(finding("non_finite", 17))[0].reason


def test_a_finite_tick_between_skips_begins_the_count_anew() -> None:
    run = Run(policy("non_finite", rung("skip_step", budget=50), limits=Limits(consecutive_skips=2)))
    for tick in range(10, 20):
        run.ledger.note_tick(shot(tick))
        assert run.story("non_finite", range(tick, tick + 1)) == ["skip_step"]


def test_a_skip_is_useless_where_the_parameters_are_ruined() -> None:
    run = Run(policy("non_finite", *NON_FINITE))
    assert [d.remedy for d in run.see(finding("non_finite", origin="parameters"))] == ["rollback"]


def test_where_skipping_is_forbidden_nothing_is_skipped() -> None:
    run = Run(policy("non_finite", *NON_FINITE, forbid=frozenset({"skip_step", "stop"})))
    assert run.story("non_finite", range(10, 15)) == ["rollback", "advise"]


def test_the_limit_of_interventions_leaves_only_advice_and_stop() -> None:
    ladder = (rung("lower_lr", budget=9), rung("stop"))
    run = Run(policy("dead_units", *ladder, limits=Limits(interventions=2, cooldown=1)))
    assert run.story("dead_units", range(100, 500, 100)) == ["lower_lr", "lower_lr", "stop", "advise"]


def test_reflexes_do_not_count_as_interventions() -> None:
    run = Run(policy("non_finite", rung("skip_step", budget=9), limits=Limits(interventions=1)))
    assert run.story("non_finite", range(10, 15)) == ["skip_step"] * 5
    assert run.ledger.interventions == 0


def test_advice_is_given_once_in_an_incident() -> None:
    rules = Policy("test", respond={"dead_units": (rung("advise"),), "vanishing_gradients": ()})
    run = Run(rules)
    assert run.story("dead_units", range(10, 20)) == ["advise"]
    assert run.see(finding("vanishing_gradients")) == ()


def test_a_pathology_without_a_ladder_is_left_alone() -> None:
    assert Run(Policy("test")).see(finding("non_finite")) == ()


def test_a_clip_holds_for_the_probation_unless_told_otherwise() -> None:
    told = Rung((Treatment("clip_norm", {"hold": 7, "max_norm": 1.0}),))
    rules = Policy(
        "test", respond={"exploding_gradients": (rung("clip_norm"),), "dead_units": (told,)}, verify=Verify(33)
    )
    assert Run(rules).see(finding("exploding_gradients"))[0].params == {"hold": 33}
    assert Run(rules).see(finding("dead_units"))[0].params == {"hold": 7, "max_norm": 1.0}


def test_the_reason_is_a_sentence_a_person_understands() -> None:
    run = Run(policy("dead_units", rung("clip_norm"), rung("lower_lr", budget=2)))
    first = run.see(finding())[0]
    assert first.reason == (
        "dead_units 0.9, limit 0.5 in fc1; suspected cause: large learning rate: clip_norm (rung 1 of 2)"
    )
    run.do((first,))
    run.judge("dead_units", "persisted", 60)
    second = run.see(finding(tick=200))[0]
    assert second.reason.endswith("lower_lr (rung 2 of 2, after clip_norm did not end it)")
    run.do((second,))
    run.judge("dead_units", "persisted", 260)
    assert run.see(finding(tick=300))[0].reason.endswith("lower_lr (rung 2 of 2, again: 1 of 2 used)")


def test_the_reason_says_what_helped_before() -> None:
    run = Run(policy("exploding_gradients"))
    run.do(run.see(finding("exploding_gradients")))
    run.judge("exploding_gradients", "resolved", 60)
    assert run.see(finding("exploding_gradients", 5000))[0].reason.endswith(
        "(rung 1 of 3, which helped before in this run)"
    )


def test_for_a_trial_the_rungs_that_name_the_likeliest_cause_come_first_and_keep_their_places() -> None:
    """A trial may not be able to pay for all of them; stop and advice are no contenders."""
    ladder = (
        rung("rollback"),
        Rung((Treatment("lower_lr"),), when=When(cause=("large learning rate",))),
        Rung((Treatment("reinit_weights"),), when=When(cause=("poor initialization",))),
        rung("advise"),
    )
    run = Run(policy("dead_units", *ladder))
    ill = replace(finding(), cause="poor initialization", causes=(suspect("poor initialization", 0.9),))
    both = replace(ill, causes=(*ill.causes, suspect("large learning rate", 0.8)))
    for told, order in ((ill, [2, 0]), (both, [2, 0, 1])):
        run.ledger.note_findings([told])
        assert [rung[0].rung for rung in contenders(run.policy, told, run.ledger)] == order
