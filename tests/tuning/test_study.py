from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml

from supervisor.errors import UnknownNameError, UsageError
from supervisor.policy import Policy
from supervisor.tuning.study import TuneResult, tune_detector
from tests.tuning.recorded import exploding, record, restless

DEFAULT = Policy.load("default")


def tune(tmp_path: Path, policy: Policy = DEFAULT, *, trials: int = 30, storage: str | None = None) -> TuneResult:
    healthy, faulty = tmp_path / "healthy", tmp_path / "faulty"
    if not healthy.exists():
        restless(healthy)
        exploding(faulty, onset=150)
    return tune_detector("exploding_gradients", [healthy], [(faulty, 150)], policy, trials, storage=storage)


def test_tuning_silences_false_alarms_and_misses_no_fault(tmp_path: Path) -> None:
    result = tune(tmp_path)

    assert result.improved
    assert result.before["false_alarms"] > 0
    assert result.after["false_alarms"] == 0
    assert result.after["missed"] == 0
    assert result.after["latency"] == 0.0


def test_the_same_seed_gives_the_same_result(tmp_path: Path) -> None:
    assert tune(tmp_path) == tune(tmp_path)


def test_the_first_trial_is_the_policy_itself(tmp_path: Path) -> None:
    """So the tuned policy is never worse on these runs."""
    result = tune(tmp_path, trials=1)

    assert not result.improved
    assert result.after == result.before
    assert result.params == {"z": 6.0, "ratio": 10.0, "history": 20, "update_ratio": 0.5, "decades": 3.0}
    assert "Nothing better" in result.policy_text


def test_a_policy_that_is_good_already_is_left_as_it_is(tmp_path: Path) -> None:
    policy = Policy.from_dict({"name": "mine", "detect": {"exploding_gradients": {"ratio": 500, "z": 20}}})

    result = tune(tmp_path, policy)

    assert result.params["ratio"] == 500.0
    assert result.before["cost"] == result.after["cost"] == 0.0


def test_the_policy_file_extends_the_policy_and_says_where_it_came_from(tmp_path: Path) -> None:
    result = tune(tmp_path)

    content = yaml.safe_load(result.policy_text)
    assert content["extends"] == "default"
    assert content["detect"] == {"exploding_gradients": dict(result.params)}
    assert "runs: 1 healthy, 1 faulty, 500 ticks; trials: 30; seed: 0" in result.policy_text


@pytest.mark.parametrize(
    "policy",
    [DEFAULT, Policy.from_dict({"name": "mine", "extends": "default", "limits": {"interventions": 3}})],
    ids=["shipped", "own"],
)
def test_the_policy_file_loads_and_differs_in_the_thresholds_alone(tmp_path: Path, policy: Policy) -> None:
    """The user's own policy has no name that could be extended from anywhere, so it is written out."""
    result = tune(tmp_path, policy)
    path = tmp_path / "tuned.yaml"
    path.write_text(result.policy_text, encoding="utf-8")

    tuned = Policy.load(path)

    given = tuned.detect["exploding_gradients"]
    assert given is not None
    assert dict(result.params).items() <= dict(given).items()
    assert replace(tuned, name=policy.name, detect=policy.detect, description=policy.description) == policy


def test_a_stored_study_goes_on_where_it_ended(tmp_path: Path) -> None:
    """A journal file keeps every trial; the second call draws new ones and does not enqueue the policy again."""
    journal = tmp_path / "studies" / "journal.log"
    tune(tmp_path, trials=5, storage=str(journal))
    tune(tmp_path, trials=5, storage=str(journal))

    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    (study,) = optuna.storages.JournalStorage(backend).get_all_studies()
    trials = optuna.load_study(
        study_name=study.study_name, storage=optuna.storages.JournalStorage(backend)
    ).get_trials()
    assert len({tuple(trial.params.items()) for trial in trials}) == len(trials) == 10


def test_a_storage_may_be_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"

    assert tune(tmp_path, trials=3, storage=url) == tune(tmp_path, trials=3)


def test_a_continued_study_keeps_what_it_found(tmp_path: Path) -> None:
    journal = str(tmp_path / "journal.log")
    first = tune(tmp_path, storage=journal)

    again = tune(tmp_path, trials=1, storage=journal)

    assert again.params == first.params


def test_no_runs_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no recorded runs given"):
        tune_detector("exploding_gradients", [], [], DEFAULT)


def test_only_healthy_runs_would_reward_silence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Add a faulty run"):
        tune_detector("exploding_gradients", [record(tmp_path, 50, {})], [], DEFAULT)


def test_no_healthy_tick_would_reward_noise(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Add a healthy run"):
        tune_detector("exploding_gradients", [], [(record(tmp_path, 50, {}), 1)], DEFAULT)


def test_a_detector_without_bounds_has_nothing_to_tune(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to tune"):
        tune_detector("non_finite", [], [(record(tmp_path, 50, {}), 20)], DEFAULT)


def test_an_unknown_detector_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'dead_units'"):
        tune_detector("dead_unit", [], [(record(tmp_path, 50, {}), 20)], DEFAULT)


def test_no_trials_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trials: 0"):
        tune(tmp_path, trials=0)
