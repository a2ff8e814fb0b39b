"""What a training declares to be normal: masked by kind, by layer and by step, and told to whoever reviews the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor import Report, supervise
from supervisor.errors import UsageError
from supervisor.journal import read_journal
from supervisor.policy import Policy
from supervisor.policy.context import KINDS, NORMAL, Context, covers, unmatched
from supervisor.policy.fields import parameters_of
from supervisor.policy.loader import from_dict, load, loads
from supervisor.records import PATHOLOGIES, Finding
from supervisor.registry import DETECTORS
from tests.diagnoses.trainings import digits_like

DEFAULT = Policy.load("default")


def finding(pathology: str, *where: str, step: int = 50) -> Finding:
    return Finding(pathology, step, step, where, 0.5, "unknown", {"value": 1.0, "limit": 0.5})


@pytest.mark.parametrize("kind", KINDS)
def test_each_line_of_the_table_names_a_rule_its_thresholds_and_a_reason(kind: str) -> None:
    """A threshold is given only where the larger number is the wider one, and the detector accepts it."""
    for pathology, (rule, reason) in NORMAL[kind].items():
        assert pathology in PATHOLOGIES
        assert len(reason.split()) >= 5
        for name, value in (rule or {}).items():
            parameter = parameters_of(DETECTORS[pathology])[name]
            assert parameter.accept(value) == value
            assert parameter.default is None or value > parameter.default


def test_a_nan_is_normal_nowhere() -> None:
    assert all("non_finite" not in rules for rules in NORMAL.values())
    everything = Context("gan", ("*",), warmup=10**6)
    assert everything.admit(seen := finding("non_finite", "a")) is seen


def test_a_kind_switches_rules_off_and_widens_others_and_leaves_the_rest_alone() -> None:
    detecting = DEFAULT.within("gan").detecting
    assert detecting["unstable_training"] is None
    assert detecting["plateau"] is None
    assert detecting["exploding_gradients"] == {"ratio": 100.0}
    assert "dead_units" not in detecting
    assert DEFAULT.detecting == DEFAULT.detect


def test_a_context_only_widens_what_a_policy_sets_and_never_switches_on() -> None:
    policy = from_dict({"detect": {"dead_units": {"fraction": 0.95, "window": 40}, "exploding_gradients": None}})
    assert policy.within("finetune").detecting["dead_units"] == {"fraction": 0.95, "window": 40}
    assert policy.within("gan").detecting["exploding_gradients"] is None


def test_the_argument_wins_over_the_policy_key_by_key() -> None:
    policy = from_dict({"context": {"kind": "gan", "frozen": ["base"], "warmup": 10}})
    assert policy.within("rl").context == Context("rl", ("base",), 10)
    assert policy.within({"frozen": ["head.*"]}).context == Context("gan", ("head.*",), 10)
    assert policy.within({"kind": None}).detecting == policy.detect


def test_a_context_is_inherited_key_by_key_and_survives_yaml() -> None:
    Path("base.yaml").write_text("name: base\ncontext: {kind: finetune, warmup: 20}\n", encoding="utf-8")
    text = "name: child\nextends: ./base.yaml\ncontext: {frozen: [encoder], warmup: 30}\n"
    Path("child.yaml").write_text(text, encoding="utf-8")
    child = load("./child.yaml")
    assert child.context == Context("finetune", ("encoder",), 30)
    assert loads(child.to_yaml()) == child


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("finetun", "context.kind: unknown kind 'finetun'. Did you mean 'finetune'?"),
        ({"kidn": "gan"}, "context.kidn: unknown key 'kidn'. Did you mean 'kind'?"),
        ({"warmup": "long"}, "context.warmup: expected a whole number of at least 0, found 'long'"),
        ({"frozen": "encoder"}, "context.frozen: expected a list, found 'encoder'"),
        ({"frozen": [""]}, "context.frozen: expected names or patterns of layers, found ''"),
        (["gan"], "context: expected 'gan', 'rl', 'contrastive', 'finetune', or a mapping of kind, frozen and warmup"),
    ],
)
def test_a_context_that_is_none_is_told_with_place_value_and_the_nearest_word(given: Any, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        DEFAULT.within(given)
    assert str(caught.value).startswith(told)


def test_a_frozen_layer_is_named_in_no_finding() -> None:
    context = Context(frozen=("encoder", "head.*.bias"))
    mixed = context.admit(finding("dead_units", "encoder.0", "encoder.1.fc", "decoder"))
    assert mixed is not None
    assert mixed.where == ("decoder",)
    assert context.admit(finding("dead_units", "encoder.0")) is None
    assert context.admit(of_all := finding("unstable_training")) is of_all


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("encoder", "encoder", True), ("encoder", "encoder.layers.0", True), ("encoder", "encoder2", False),
        ("encoder.*", "encoder.layers.0", True), ("*.norm", "layers.3.norm", True), ("norm", "layers.3.norm", False),
        ("layers.[01]", "layers.1.fc", True), ("layers.[01]", "layers.10", False),
    ],
)  # fmt: skip
def test_a_pattern_means_a_module_and_what_lies_below_it(pattern: str, name: str, *, meant: bool) -> None:
    assert covers(pattern, name) is meant
    assert unmatched([pattern], [name]) == ([] if meant else [pattern])


def test_the_course_of_the_loss_is_not_judged_before_the_warm_up_is_over() -> None:
    context = Context(warmup=100)
    for pathology in ("plateau", "unstable_training"):
        assert context.admit(finding(pathology, step=99)) is None
        assert context.admit(finding(pathology, step=100)) is not None
    assert context.admit(finding("exploding_gradients", step=1)) is not None


class Halves(nn.Module):
    """A body and a head; the body's units are all dead."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(20, 32), nn.Linear(32, 4)
        nn.init.constant_(self.body.bias, -100.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))  # type: ignore[no-any-return]


def trained(
    run_dir: Path, policy: Any = "observe", *, nan_at: int | None = None, lr: float = 1e-3, ticks: int = 300, **how: Any
) -> Report:
    """Train a dead body and its head, without treating it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Halves()

    def data() -> Iterator[tuple[Tensor, Tensor]]:
        for tick, (x, y) in enumerate(digits_like()):
            yield x * (float("nan") if tick == nan_at else 1.0), y

    return supervise(
        lambda batch: F.cross_entropy(model(batch[0]), batch[1]), model=model, data=data(), steps=ticks,
        optimizer=torch.optim.Adam(model.parameters(), lr=lr), policy=policy, tracking=None, run_dir=run_dir,
        progress=False, **how,
    )  # fmt: skip


def named(report: Report) -> set[str]:
    return {seen.pathology for seen in report.findings}


def test_layers_declared_frozen_are_left_alone_in_a_real_training(tmp_path: Path) -> None:
    assert "dead_units" in named(trained(tmp_path / "bare"))
    assert "dead_units" not in named(trained(tmp_path / "declared", context={"frozen": ["body"]}))


def test_a_policy_file_declares_as_the_argument_does(tmp_path: Path) -> None:
    text = "name: mine\nextends: observe\ncontext: {frozen: [body]}\n"
    Path("mine.yaml").write_text(text, encoding="utf-8")
    assert "dead_units" not in named(trained(tmp_path / "run", "./mine.yaml"))


def test_a_nan_is_found_whatever_was_declared(tmp_path: Path) -> None:
    declared = {"kind": "gan", "frozen": ["*"], "warmup": 10_000}
    assert "non_finite" in named(trained(tmp_path / "run", context=declared, nan_at=20, ticks=30))


def test_what_is_masked_stands_in_the_journal_with_the_reason(tmp_path: Path) -> None:
    report = trained(tmp_path / "run", context={"kind": "gan", "frozen": ["body"], "warmup": 40}, ticks=5)
    lines = list(read_journal(tmp_path / "run"))
    told = [line["text"] for line in lines if line["kind"] == "note"]
    assert any("unstable_training is off: each network's loss rises as the other gets better" in text for text in told)
    assert any("exploding_gradients is wider (ratio at least 100)" in text for text in told)
    assert any("declared frozen: body" in text for text in told)
    assert any("not judged before step 40" in text for text in told)
    assert set(told) <= set(report.notes)
    capability = next(line for line in lines if line["kind"] == "capability")
    assert capability["context"] == {"kind": "gan", "frozen": ["body"], "warmup": 40}
    assert "kind: gan" in next(line for line in lines if line["kind"] == "start")["policy_yaml"]


def test_nothing_is_told_where_nothing_was_declared(tmp_path: Path) -> None:
    assert not any("context" in text for text in trained(tmp_path / "run", ticks=3).notes)
