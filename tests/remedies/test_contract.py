"""What every remedy promises. New remedies are picked up from the registry."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from pydantic import TypeAdapter

from supervisor.errors import RemedyRefused
from supervisor.records import plain
from supervisor.registry import REMEDIES
from tests.remedies.sick import OPTIMIZERS, bare_run, batch, decision, fingerprint, sick_run, take_step

UNDONE_BY_THE_LOOP = {"rollback"}  # the loop keeps the state it had before it
NEVER_REFUSE = {"skip_step", "stop", "advise"}
PARAMS: dict[str, dict[str, object]] = {  # that fit any pathology
    "swap_activation": {"to": "leaky_relu"},
    "weight_decay": {"add": 1e-3},
}
PATHOLOGIES = ("vanishing_gradients", "dead_units", "exploding_gradients")

every_remedy = pytest.mark.parametrize("name", REMEDIES.names())
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def same(before: dict[str, object], after: dict[str, object], *but: str) -> None:
    differing = [key for key in before if key not in but and before[key] != after[key]]
    assert differing == []


@every_remedy
def test_is_a_frozen_dataclass_of_described_parameters_with_defaults(name: str) -> None:
    cls = REMEDIES[name]
    assert cls.__dataclass_params__.frozen
    properties = TypeAdapter(cls).json_schema().get("properties", {})
    assert set(properties) == {f.name for f in dataclasses.fields(cls)}
    assert all(facts.get("description") and "default" in facts for facts in properties.values())


@every_optimizer
@every_remedy
def test_undo_is_bit_exact(name: str, optimizer: str) -> None:
    run = sick_run(optimizer)
    before = fingerprint(run)
    effect = REMEDIES[name](**PARAMS.get(name, {})).apply(run, decision())
    after = fingerprint(run)
    assert (after == before) == (name == "advise")
    effect.undo()
    if name not in UNDONE_BY_THE_LOOP:
        same(before, fingerprint(run), "random")


@every_remedy
@pytest.mark.parametrize("pathology", PATHOLOGIES)
def test_a_refusal_changes_nothing(name: str, pathology: str) -> None:
    run = bare_run()
    before = fingerprint(run)
    if name in NEVER_REFUSE:
        REMEDIES[name]().apply(run, decision(pathology, "nowhere", usual_max=None))
        return
    with pytest.raises(RemedyRefused, match=r"\w+ \w+"):
        REMEDIES[name]().apply(run, decision(pathology, "nowhere", usual_max=None))
    assert fingerprint(run) == before


@every_remedy
def test_what_it_changed_is_plain_data(name: str) -> None:
    effect = REMEDIES[name](**PARAMS.get(name, {})).apply(sick_run(), decision())
    assert bool(effect.changes) != (name == "advise")
    assert all(len(change) == 2 for change in effect.changes.values())
    assert json.loads(json.dumps(effect.changes)) == plain(effect.changes)


@every_optimizer
@every_remedy
def test_frozen_parameters_and_the_optimizers_own_settings_are_never_written(name: str, optimizer: str) -> None:
    run = sick_run(optimizer)
    frozen = {id(p): p.clone() for p in run.model.parameters() if not p.requires_grad}
    groups = [{k: v for k, v in g.items() if k != "params"} for o in run.optimizers for g in o.param_groups]
    objects = [id(p) for p in run.model.parameters()]
    REMEDIES[name](**PARAMS.get(name, {})).apply(run, decision())
    assert all(torch.equal(p, frozen[id(p)]) for p in run.model.parameters() if not p.requires_grad)
    assert groups == [{k: v for k, v in g.items() if k != "params"} for o in run.optimizers for g in o.param_groups]
    assert set(objects) <= {id(p) for p in run.model.parameters()}  # a surgery adds some


@every_optimizer
@every_remedy
def test_training_goes_on_afterwards_and_after_the_undo(name: str, optimizer: str) -> None:
    run = sick_run(optimizer)
    effect = REMEDIES[name](**PARAMS.get(name, {})).apply(run, decision())
    take_step(run, batch())
    assert all(bool(p.isfinite().all()) for p in run.parameters)
    effect.undo()
    take_step(run, batch())
    assert all(bool(p.isfinite().all()) for p in run.parameters)


@every_remedy
def test_before_the_first_step_of_the_optimizer_it_works_too(name: str) -> None:
    run = sick_run()
    for optimizer in run.optimizers:
        optimizer.state.clear()
    before = fingerprint(run)
    REMEDIES[name](**PARAMS.get(name, {})).apply(run, decision()).undo()
    if name not in UNDONE_BY_THE_LOOP:
        same(before, fingerprint(run), "random")
