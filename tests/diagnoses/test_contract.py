"""What every detector promises. New detectors are picked up from the registry."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from supervisor.diagnoses.past import Past
from supervisor.recording.metrics import MetricsWriter, read_snapshots
from supervisor.records import PATHOLOGIES, Sample, Snapshot, plain, sample_shapes
from supervisor.registry import DETECTORS
from tests.diagnoses.shots import examined, past_of, sample, shot, usual

every_detector = pytest.mark.parametrize("name", DETECTORS.names())


@every_detector
def test_is_a_frozen_dataclass_of_described_thresholds_whose_defaults_are_valid(name: str) -> None:
    cls = DETECTORS[name]
    assert cls.__dataclass_params__.frozen
    assert name in PATHOLOGIES
    schema = TypeAdapter(cls).json_schema().get("properties", {})
    assert set(schema) == {f.name for f in dataclasses.fields(cls)}
    assert all(facts.get("description") and "default" in facts for facts in schema.values())
    assert TypeAdapter(cls).validate_python(dataclasses.asdict(cls())) == cls()


@every_detector
def test_every_number_has_a_bound(name: str) -> None:
    schema = TypeAdapter(DETECTORS[name]).json_schema().get("properties", {})
    bounds = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    for field, facts in schema.items():
        for kind in facts.get("anyOf", [facts]):
            assert kind["type"] not in ("number", "integer") or bounds & set(kind), field


@every_detector
def test_keeps_no_state(name: str) -> None:
    assert set(vars(DETECTORS[name]())) == {f.name for f in dataclasses.fields(DETECTORS[name])}


any_figure = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0])


def some(*shape: int) -> st.SearchStrategy[Any]:
    count = int(np.prod(shape))
    return st.lists(any_figure, min_size=count, max_size=count).map(lambda v: np.array(v, np.float32).reshape(shape))


samples = st.builds(Sample, **{name: some(*shape) for name, shape in sample_shapes(5, 4).items()})


def mad(tick: int, loss: float, norm: float, norms: Any, shown: Sample | None) -> Snapshot:
    return shot(tick, loss, norm, grad_norms=norms, sample=shown)


mad_shots = st.builds(mad, st.integers(61, 100), any_figure, any_figure, some(5), st.none() | samples)
PASTS = {"empty": [], "usual": usual(60), "mad": [*usual(30), shot(31, math.nan), shot(32, 1e30, 1e30)]}


def frozen(value: Any) -> str:
    """Return everything an object holds, as text."""
    return json.dumps(plain(vars(value)) if isinstance(value, Past) else plain(value), default=repr)


def deeply(past: Past) -> str:
    series = [vars(past.loss), vars(past.log_grad_norm)]
    return repr([series, list(past.losses), [plain(s) for s in past.samples], past._first, past._ill])


@every_detector
@pytest.mark.parametrize("past", PASTS)
@settings(max_examples=40, deadline=None)
@given(now=mad_shots)
def test_inspect_is_pure_and_never_raises(name: str, past: str, now: Snapshot) -> None:
    """Whatever the figures are: the same arguments give the same answer, and nothing is changed by asking."""
    behind = past_of(PASTS[past])
    detector = DETECTORS[name]()
    _ = behind.loss.scale, behind.log_grad_norm.scale  # computed when first asked for
    before = (frozen(now), deeply(behind))
    first, second = detector.inspect(now, behind), detector.inspect(now, behind)
    assert (frozen(now), deeply(behind)) == before
    assert plain(first) == plain(second)
    other = DETECTORS[name]().inspect(copy.deepcopy(now), past_of(PASTS[past]))
    assert plain(first) == plain(other)


@every_detector
@settings(max_examples=40, deadline=None)
@given(now=mad_shots)
def test_a_finding_is_plain_complete_and_of_its_tick(name: str, now: Snapshot) -> None:
    finding = DETECTORS[name]().inspect(now, past_of(usual(60)))
    if finding is None:
        return
    assert (finding.pathology, finding.tick, finding.step) == (name, now.tick, now.step)
    assert 0.0 <= finding.severity <= 1.0
    assert finding.cause
    assert finding.evidence
    assert set(finding.where) <= {layer.name for layer in now.anatomy.layers}
    json.dumps(plain(finding), allow_nan=False)


@every_detector
def test_nothing_is_found_in_finite_figures_without_a_past(name: str) -> None:
    assert DETECTORS[name]().inspect(shot(1, sample=sample()), Past()) is None


@every_detector
def test_nothing_is_found_in_a_quiet_training(name: str) -> None:
    falling = [shot(t, 1.0 + 2.0 * math.exp(-t / 100), 1.0) for t in range(1, 300)]
    assert examined(falling) == []


FIGURES: dict[str, Any] = {
    "loss": lambda bad: {"loss": bad},
    "grad_norm": lambda bad: {"grad_norm": bad},
    "one layer's gradient": lambda bad: {"grad_norms": np.array([1, 1, bad, 1, 1], np.float32)},
    "one layer's weights": lambda bad: {
        "sample": dataclasses.replace(sample(), weight_norms=np.array([1, 1, 1, bad, 1], np.float32))
    },
}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize("figure", FIGURES)
def test_a_non_finite_figure_is_never_taken_for_health(figure: str, past: str, bad: float) -> None:
    finding = DETECTORS["non_finite"]().inspect(
        dataclasses.replace(shot(61), **FIGURES[figure](bad)), past_of(PASTS[past])
    )
    assert finding is not None
    assert finding.severity == 1.0


def eventful() -> list[Snapshot]:
    """Return a run with a spike, a NaN, a dead layer, rewritten weights and a vanishing gradient."""
    shots = usual(100)
    shots[50] = shot(51, 40.0, 900.0)
    shots[60] = shot(61, math.nan, 1.0, origin="input")
    shots[80] = shot(81, 30.0, 1.0, sample=sample(moved=3.0))
    for t in range(84, 100):
        shots[t] = shot(t + 1, 1.0, 1.0, sample=sample(silent=1.0))
    for t in range(100, 160):
        norms = np.array([1e-7, 1e-5, 1e-3, 1e-1, 10.0], np.float32)
        shots.append(shot(t + 1, 1.0, 10.0, grad_norms=norms, sample=sample()))
    return shots


def test_a_recorded_run_gives_the_same_findings(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    for now in eventful():
        writer.append(now)
    writer.close()
    live = examined(eventful())
    assert {finding.pathology for finding in live} == {
        "exploding_gradients",
        "non_finite",
        "dead_units",
        "vanishing_gradients",
    }
    assert plain(examined(read_snapshots(tmp_path))) == plain(live)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_loss_does_not_matter(scale: float) -> None:
    """A sum instead of a mean multiplies losses and gradients alike: the findings are the same."""

    def scaled(now: Snapshot) -> Snapshot:
        loss, norm = float(np.float32(now.loss * scale)), float(np.float32(now.grad_norm * scale))
        return dataclasses.replace(now, loss=loss, grad_norm=norm, grad_norms=now.grad_norms * np.float32(scale))

    found = [(f.pathology, f.tick, f.where, f.cause) for f in examined(eventful())]
    assert [(f.pathology, f.tick, f.where, f.cause) for f in examined(map(scaled, eventful()))] == found
