from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field

from supervisor.registry import DETECTORS
from supervisor.tuning.space import current_params, legible, search_space


@dataclass(frozen=True)
class Everything:
    """One field of every kind."""

    share: Annotated[float, Field(ge=0.1, le=0.9)] = 0.5
    tiny: Annotated[float, Field(ge=1e-8, le=1e-2)] = 1e-5
    window: Annotated[int, Field(ge=10, le=500)] = 50
    inside: Annotated[int, Field(gt=0, lt=8)] = 4
    half_open: Annotated[float, Field(gt=0, le=1)] = 0.2
    robust: bool = True
    kind: Literal["mean", "median"] = "median"
    limit: Annotated[float | None, Field(gt=0, le=10)] = None
    endless: Annotated[float, Field(ge=0)] = 1.0
    label: str = "x"


def space(**given: object) -> dict[str, BaseDistribution]:
    return search_space(Everything, current_params(Everything, given))


def test_bounds_become_the_space_and_two_decades_a_log_scale() -> None:
    assert space() == {
        "share": FloatDistribution(0.1, 0.9),
        "tiny": FloatDistribution(1e-8, 1e-2, log=True),
        "window": IntDistribution(10, 500),
        "inside": IntDistribution(1, 7),
        "half_open": FloatDistribution(0.01, 1.0),
        "robust": CategoricalDistribution((False, True)),
        "kind": CategoricalDistribution(("mean", "median")),
    }


def test_a_field_without_both_bounds_is_not_tuned() -> None:
    assert not {"endless", "label"} & set(space())


def test_a_mode_that_is_off_stays_off_and_one_that_is_on_is_tuned() -> None:
    assert "limit" not in space()
    assert space(limit=3.0)["limit"] == FloatDistribution(0.1, 10.0)


def test_the_space_holds_the_value_it_starts_from() -> None:
    """A policy may come closer to an excluded bound than the search does."""
    assert space(half_open=0.001)["half_open"] == FloatDistribution(0.001, 1.0)


def test_the_policy_goes_before_the_default() -> None:
    assert current_params(Everything, {"window": 20})["window"] == 20
    assert current_params(Everything, None)["window"] == 50


def test_a_float_is_shortened_only_within_its_bounds() -> None:
    assert legible(0.123456, FloatDistribution(0.1, 0.9)) == 0.1235
    assert legible(0.123456, FloatDistribution(0.123451, 0.123459)) == 0.123456
    assert legible(123456, IntDistribution(1, 200000)) == 123456


@pytest.mark.parametrize("name", DETECTORS.names())
def test_every_detector_has_a_space_around_its_defaults(name: str) -> None:
    """What a detector's file says is enough to tune it."""
    current = current_params(DETECTORS[name], None)

    for field, distribution in search_space(DETECTORS[name], current).items():
        assert distribution._contains(distribution.to_internal_repr(current[field])), field
