"""Outcomes of earlier runs reorder a ladder; where little is known, the policy's own order holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from supervisor.policy import Policy, Rung, Treatment
from supervisor.policy.learned import WEIGHTS, Counts, reordered, signature, tell
from supervisor.policy.loader import loads
from tests.policies.running import LADDER, Run, finding, policy, rung

CAUSE = finding().cause
ONCE: Counts = {"won": 1, "resolved": 1}  # it won a trial, and was judged to have helped
OFTEN: Counts = {"won": 4, "resolved": 3, "persisted": 1}


def learned(rules: Policy, told: dict[str, Counts], cause: str = CAUSE) -> Policy:
    return reordered(rules, {"dead_units": {cause: told}})


def turns(rules: Policy) -> list[str]:
    return [str(rules.respond["dead_units"][turn.rung]) for turn in rules.turns(finding())]


def test_without_earlier_runs_the_order_is_the_policy_s() -> None:
    assert reordered(policy(), {}) == policy()
    assert turns(learned(policy(), {})) == list(LADDER)


def test_what_helped_often_comes_first_and_what_was_lost_falls_back() -> None:
    ladder = (rung("raise_lr"), rung("lower_lr"), rung("rollback"))
    told: dict[str, Counts] = {"rollback": OFTEN, "raise_lr": {"lost": 3, "persisted": 2}}
    assert turns(learned(policy("dead_units", *ladder), told)) == ["rollback", "lower_lr", "raise_lr"]


def test_one_run_does_not_overturn_the_policy_s_order_but_two_alike_do() -> None:
    ladder = policy("dead_units", rung("lower_lr"), rung("rollback"))
    assert turns(learned(ladder, {"lower_lr": {"lost": 1}, "rollback": ONCE})) == ["lower_lr", "rollback"]
    twice: dict[str, Counts] = {"lower_lr": {"lost": 2}, "rollback": {"won": 2, "resolved": 2}}
    assert turns(learned(ladder, twice)) == ["rollback", "lower_lr"]


def test_a_verdict_counts_more_than_a_trial_and_harm_more_than_no_help() -> None:
    ladder = policy("dead_units", rung("raise_lr"), rung("lower_lr"))
    assert turns(learned(ladder, {"raise_lr": {"lost": 2}})) == ["raise_lr", "lower_lr"]
    assert turns(learned(ladder, {"raise_lr": {"persisted": 2}})) == ["raise_lr", "lower_lr"]
    assert turns(learned(ladder, {"raise_lr": {"worsened": 2}})) == ["lower_lr", "raise_lr"]


def test_reflexes_keep_their_place_and_nothing_passes_a_stop_or_advice() -> None:
    ladder = (rung("lower_lr"), rung("clip_norm"), rung("raise_lr"), rung("advise"), rung("rollback"), rung("stop"))
    told = {"raise_lr": OFTEN, "clip_norm": OFTEN, "rollback": OFTEN, "stop": OFTEN}
    expected = ["raise_lr", "clip_norm", "lower_lr", "advise", "rollback", "stop"]
    assert turns(learned(policy("dead_units", *ladder), told)) == expected


def test_outcomes_count_for_the_cause_they_were_seen_under_alone() -> None:
    other = learned(policy(), {"rollback": OFTEN}, "inputs out of scale")
    assert turns(other) == list(LADDER)
    assert other.turns(replace(finding(), cause="inputs out of scale"))[1].rung == 2


def test_rungs_that_differ_in_a_parameter_are_told_apart() -> None:
    tenth, half = (Rung((Treatment("lower_lr", {"factor": factor}),)) for factor in (0.1, 0.5))
    rules = policy("dead_units", tenth, half)
    by = learned(rules, {signature(half): OFTEN})
    assert [rules.respond["dead_units"][turn.rung] for turn in by.turns(finding())] == [half, tenth]
    assert signature(tenth) == 'lower_lr {"factor": 0.1}'


def test_the_reason_of_a_decision_holds_the_evidence_and_the_rung_s_own_number() -> None:
    ladder = (rung("raise_lr"), rung("lower_lr"), rung("rollback"))
    run = Run(learned(policy("dead_units", *ladder), {"rollback": OFTEN}))
    (decision,) = run.see(finding())
    assert (decision.remedy, decision.rung) == ("rollback", 2)
    told = "(rung 3 of 3; learned order: helped 3 of 4 times, won 4 of 4 trials in earlier runs)"
    assert decision.reason.endswith(told)


def test_the_ladder_is_climbed_in_the_learned_order_and_each_rung_once() -> None:
    ladder = (rung("raise_lr"), rung("lower_lr", budget=2), rung("rollback"))
    run = Run(learned(policy("dead_units", *ladder), {"rollback": OFTEN}))
    assert run.story("dead_units", range(100, 700, 100)) == ["rollback", "raise_lr", "lower_lr", "lower_lr", "advise"]


def test_what_worked_in_this_run_comes_before_what_earlier_runs_tell() -> None:
    ladder = (rung("raise_lr"), rung("lower_lr"), rung("rollback", budget=2))
    run = Run(learned(policy("dead_units", *ladder), {"lower_lr": OFTEN, "rollback": {"won": 1}}))
    run.ledger.worked["dead_units"] = 2
    assert [d.remedy for d in run.see(finding(tick=2000))] == ["rollback"]


def test_evidence_in_words_names_what_there_is() -> None:
    assert tell({}) == ""
    assert tell({"lost": 2, "undecided": 1}) == "won 0 of 3 trials in earlier runs"
    assert tell({"resolved": 1, "worsened": 1}) == "helped 1 of 2 times in earlier runs"


def test_the_order_is_inherited_replaced_and_written_out() -> None:
    Path("base.yaml").write_text("name: base\norder: learned\n", encoding="utf-8")
    child = loads("name: child\nextends: ./base.yaml\n")
    assert child.order == "learned"
    assert loads("name: child\nextends: ./base.yaml\norder: policy\n").order == "policy"
    assert loads(child.to_yaml()) == child
    assert Policy.load("default").order == "policy"


COUNTS = st.dictionaries(st.sampled_from(sorted(WEIGHTS)), st.integers(0, 1000))
NAMES = ("lower_lr", "clip_norm", "raise_lr", "advise", "rollback", "skip_batches", "stop")


@given(ladder=st.permutations(NAMES), told=st.dictionaries(st.sampled_from(NAMES), COUNTS))
def test_every_rung_has_its_turn_exactly_once_whatever_is_told(ladder: list[str], told: dict[str, Counts]) -> None:
    rules = learned(policy("dead_units", *map(rung, ladder)), told)
    assert sorted(turn.rung for turn in rules.turns(finding())) == list(range(len(NAMES)))
    for kept in ("clip_norm", "stop", "advise"):
        assert turns(rules).index(kept) == ladder.index(kept)
