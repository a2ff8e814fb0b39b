"""Names meet their classes here."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.errors import UnknownNameError
from supervisor.records import PATHOLOGIES
from supervisor.registry import DETECTORS, SERVICES, Registry, nearest, service


def fresh() -> Registry[Any]:
    return Registry("detector", "supervisor.policy", "none")


def test_a_class_is_found_by_the_name_it_registered_under() -> None:
    registry = fresh()

    @registry.register("loud")
    class Loud: ...

    assert registry["loud"] is Loud
    assert "loud" in registry
    assert "quiet" not in registry
    assert registry.names() == ("loud",)


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown detector 'dead_unit'. Did you mean 'dead_units'\?"):
        DETECTORS["dead_unit"]


def test_two_classes_cannot_share_a_name_but_a_module_may_be_loaded_again() -> None:
    registry = fresh()

    def make() -> type:
        class Loud: ...

        return Loud

    registry.register("loud")(make())
    registry.register("loud")(make())
    with pytest.raises(ValueError, match="'loud' is registered twice"):
        registry.register("loud")(int)


def test_all_shipped_detectors_bear_names_of_pathologies() -> None:
    assert {"non_finite", "exploding_gradients", "vanishing_gradients", "dead_units"} <= set(DETECTORS.names())
    assert set(DETECTORS.names()) <= set(PATHOLOGIES)


def test_an_outsiders_detector_comes_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "theirs"

        @staticmethod
        def load() -> type:
            return dict

    monkeypatch.setattr("supervisor.registry.entry_points", lambda group: [Point] if group == "none" else [])
    assert fresh()["theirs"] is dict


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_can_be_imported(name: str) -> None:
    assert isinstance(service(name), type)


def test_an_unknown_service_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown service 'mlfow'\. Did you mean 'mlflow'"):
        service("mlfow")


def test_a_word_that_resembles_nothing_gets_no_hint() -> None:
    assert nearest("xyz", ["rollback"]) == ""
