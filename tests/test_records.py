"""The records are plain, frozen, and can be written down."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.records import (
    PATHOLOGIES,
    SILENCE_LENGTHS,
    UPSETTING,
    Anatomy,
    Decision,
    Finding,
    Layer,
    Outcome,
    Sample,
    Site,
    Snapshot,
    Verdict,
    plain,
)  # fmt: skip

FINDING = Finding("non_finite", 3, 2, ("a",), 1.0, "bad batch", {"value": np.float32(1.5), "limit": math.inf})
RECORDS = [
    Layer("a", "linear", 3),
    Site("b", "relu", "b", (), "a", 3, hidden=True, gate=False),
    Anatomy((Layer("a", "linear", 3),)),
    FINDING,
    Decision("d1", "skip_step", {}, FINDING, 0, "because", 3, 2),
    Outcome("d1", "skip_step", "applied", 3, 2, changes={"step": (1, None)}),
    Verdict(("d1",), "non_finite", "resolved", 8, 7, "gone", {"loss": math.nan}),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_frozen_and_can_be_written_as_json(record: object) -> None:
    assert dataclasses.is_dataclass(record)
    first = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, first, None)
    assert json.loads(json.dumps(plain(record), allow_nan=False)) == plain(record)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.floats(width=32).map(np.float32),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=8,
)


@given(json_like)
def test_anything_plain_is_json(value: object) -> None:
    json.dumps(plain(value), allow_nan=False)


def test_numbers_that_are_none_are_said_in_words() -> None:
    assert plain([math.nan, math.inf, -math.inf, np.float32("nan")]) == ["nan", "inf", "-inf", "nan"]


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (1.0, math.inf), (-math.inf, math.nan)])
def test_a_snapshot_with_a_non_finite_figure_is_not_finite(loss: float, norm: float) -> None:
    assert not Snapshot(1, 1, loss, 0.1, norm, np.zeros(0, np.float32), Anatomy(())).finite


def test_update_ratios_are_unknown_where_either_norm_is() -> None:
    norms = np.array([2.0, 0.0, np.nan, 1.0, np.inf], np.float32)
    moved = np.array([1.0, 1.0, 1.0, np.nan, np.inf], np.float32)
    ratios = Sample.blank(5, 0, weight_norms=norms, update_norms=moved).update_ratios
    assert ratios[0] == 0.5
    assert np.isnan(ratios[1:]).all()


def test_the_words_are_ordered_by_urgency() -> None:
    assert set(PATHOLOGIES[:3]) == UPSETTING
    assert PATHOLOGIES[0] == "non_finite"
    assert list(SILENCE_LENGTHS) == sorted(SILENCE_LENGTHS)


def test_advice_is_no_intervention() -> None:
    assert not Decision("d1", "advise", {}, FINDING, 0, "", 1, 1).intervention
    assert Decision("d1", "stop", {}, FINDING, 0, "", 1, 1).intervention
