"""A recorded run, written with the real journal and the real metrics writer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supervisor.journal import Journal
from supervisor.recording.metrics import MetricsWriter
from supervisor.recording.report import Report
from supervisor.records import Anatomy, Decision, Finding, Layer, Outcome, Sample, Site, Snapshot, Verdict, plain

LAYERS = 4
ANATOMY = Anatomy(
    tuple(Layer(f"net.{2 * i}", "linear", 64) for i in range(LAYERS)),
    tuple(
        Site(f"net.{2 * i + 1}", "sigmoid", "net", (), f"net.{2 * i}", units=8, hidden=True, gate=False)
        for i in range(LAYERS - 1)
    ),
)
START = {
    "policy": "default",
    "policy_hash": "1f0c",
    "policy_yaml": "name: default\nlimits: {interventions: 20}\n",
    "model": "Sequential",
    "parameters": 4_810,
    "optimizer": "Adam",
    "lr": 0.001,
    "steps": 300,
    "epochs": None,
    "accumulate": 1,
    "seed": 7,
    "device": "cpu",
    "versions": {"torch": "2.13.0"},
}


def arm(name: str, rung: int, result: str, loss: float, steps: int = 9, **given: Any) -> dict[str, Any]:
    """Return an arm of a trial as the journal holds it, whose loss is `loss` from first to last."""
    reason = {"control": "", "refused": f"{name} does not fit"}.get(result, f"loss {loss} against 2.3 of doing nothing")
    losses = [] if result == "refused" else [loss] * steps
    figures = {"score": math.nan, "figure": math.nan, "pace": math.nan}
    return {"name": name, "rung": rung, "result": result, "reason": reason, "losses": losses, **figures, **given}


def snapshot(tick: int, step: int | None = None, loss: float | None = None, norm: float = 0.5) -> Snapshot:
    """Return the figures of one tick: a loss that falls, a sample every tenth tick."""
    sampled = tick % 10 == 0
    sample = Sample.blank(
        LAYERS,
        LAYERS - 1,
        weight_norms=np.full(LAYERS, 3.0, np.float32),
        update_norms=np.full(LAYERS, 0.01, np.float32),
        silent=np.full((LAYERS - 1, 8), 0.25, np.float32),
        zeros=np.full(LAYERS - 1, 0.4, np.float32),
    )
    fallen = 2.3 * math.exp(-tick / 120) + 0.02 * math.sin(tick)
    return Snapshot(
        tick=tick,
        step=tick if step is None else step,
        loss=float(np.float32(fallen if loss is None else loss)),
        lr=0.001,
        grad_norm=float(np.float32(norm)),
        grad_norms=np.full(LAYERS, norm / 2, np.float32),
        anatomy=ANATOMY,
        sample=sample if sampled else None,
        origin="" if math.isfinite(fallen if loss is None else loss) else "loss",
    )


class Run:
    """Writes a run as the loop does: journal first, then whoever mirrors it."""

    def __init__(self, folder: Path, recorders: Sequence[Any] = (), **start: Any) -> None:
        self.folder = folder
        self.journal, self.metrics = Journal(folder), MetricsWriter(folder)
        self.recorders = recorders
        self.findings: list[Finding] = []
        self.decisions: list[Decision] = []
        self.outcomes: list[Outcome] = []
        self.verdicts: list[Verdict] = []
        self.evaluations: list[Mapping[str, Any]] = []
        self.trials: list[Mapping[str, Any]] = []
        self.shots: list[Snapshot] = []
        entry = self.journal.append("start", 0, 0, START | start)
        for recorder in recorders:
            recorder.open(entry, folder)

    def line(self, kind: str, tick: int, facts: Any) -> None:
        fields = {key: value for key, value in plain(facts).items() if key not in ("tick", "step")}
        entry = self.journal.append(kind, tick, tick, fields)
        for recorder in self.recorders:
            recorder.record(entry)

    def ticks(self, first: int, last: int, **given: Any) -> None:
        for tick in range(first, last + 1):
            self.tick(snapshot(tick, **given))

    def tick(self, shot: Snapshot) -> None:
        self.shots.append(shot)
        self.metrics.append(shot)
        self.metrics.flush()  # as the background does while a run goes on
        for recorder in self.recorders:
            recorder.snapshot(shot)

    def find(self, tick: int, pathology: str, cause: str = "large learning rate", **evidence: Any) -> Finding:
        finding = Finding(pathology, tick, tick, ("net.0", "net.2"), 0.8, cause, evidence)
        self.findings.append(finding)
        self.line("finding", tick, finding)
        return finding

    def decide(
        self, finding: Finding, tick: int, *remedies: str, rung: int = 0, changes: Any = None, proof: str = "",
    ) -> list[Decision]:  # fmt: skip
        """Decide and apply `remedies` as one rung; `proof` is the trial that it won."""
        reason = f"{finding.pathology} in net.0; suspected cause: {finding.cause} (rung {rung + 1} of 3)"
        reason += f"; trial {proof}: {' + '.join(remedies)} won after 9 steps (at last)" if proof else ""
        decided = []
        for remedy in remedies:
            name = f"d{len(self.decisions) + 1}"
            decision = Decision(name, remedy, {"factor": 0.5}, finding, rung, reason, tick, tick)
            self.decisions.append(decision)
            self.line("decision", tick, decision)
            decided.append(decision)
        for decision in decided:
            outcome = Outcome(decision.id, decision.remedy, "applied", tick, tick, changes=changes or {})
            self.outcomes.append(outcome)
            self.line("outcome", tick, outcome)
        return decided

    def hold(
        self, tick: int, pathology: str, *arms: Mapping[str, Any], winner: int | None = None, steps: int = 9,
    ) -> str:  # fmt: skip
        """Hold a trial of `arms` against doing nothing, and return its id."""
        name, control = f"t{len(self.trials) + 1}", arm("doing nothing", -1, "control", 2.3, steps)
        self.line("trial", tick, {"id": name, "phase": "began", "pathology": pathology, "arms": []})
        reason = next((f"{a['name']} won: {a['reason']}" for a in arms if a["rung"] == winner), "none")
        tried = [control, *arms]
        passes = sum(len(a["losses"]) for a in tried)
        told = {"id": name, "pathology": pathology, "steps": steps, "passes": passes, "winner": winner}
        trial = {"tick": tick, "step": tick, **told, "reason": reason, "arms": tried, "phase": "ended"}
        self.trials.append(trial)
        self.line("trial", tick, trial)
        return name

    def judge(self, decisions: list[Decision], tick: int, status: Any, reason: str = "not seen for 40 ticks") -> None:
        ids = tuple(decision.id for decision in decisions)
        pathology = decisions[0].finding.pathology
        verdict = Verdict(ids, pathology, status, tick, tick, reason, {"loss": 0.31, "loss_before": 2.302})
        self.verdicts.append(verdict)
        self.line("verdict", tick, verdict)

    def evaluate(self, tick: int, **metrics: float) -> None:
        self.evaluations.append({"tick": tick, "step": tick, "metrics": metrics})
        self.line("evaluation", tick, {"metrics": metrics})

    def end(self, status: Any = "completed", health: Any = "recovered", stop_reason: str = "") -> Report:
        losses = [shot.loss for shot in self.shots if math.isfinite(shot.loss)] or [math.nan]
        report = Report(
            status=status,
            health=health,
            ticks=len(self.shots),
            steps=self.shots[-1].step if self.shots else 0,
            final_loss=losses[-1],
            best_loss=min(losses),
            stop_reason=stop_reason,
            policy="default",
            run_dir=self.folder,
            findings=self.findings,
            decisions=self.decisions,
            outcomes=self.outcomes,
            verdicts=self.verdicts,
            evaluations=self.evaluations,
            trials=self.trials,
            trial_passes=sum(trial["passes"] for trial in self.trials),
        )
        lists = ("findings", "decisions", "outcomes", "verdicts", "evaluations", "interventions", "trials", "run_dir")
        scalars = {key: value for key, value in report.to_dict().items() if key not in lists}
        self.line("end", report.ticks, scalars)
        self.metrics.close()
        self.journal.close()
        for recorder in self.recorders:
            recorder.close(report)
        return report


def troubled(run: Run) -> Run:
    """Write 300 ticks with two incidents: one that took two rungs, and a burst of skipped steps."""
    run.ticks(1, 60, loss=2.302, norm=1e-4)
    finding = run.find(60, "vanishing_gradients", "activation functions", value=5.31, limit=3.0, window=40, layers=4)
    first = run.decide(finding, 60, "reinit_weights")
    run.ticks(61, 110, loss=2.301, norm=1e-4)
    run.judge(first, 110, "persisted", "the finding was still seen late in the probation")
    swaps = {f"net.{2 * i + 1}": ("sigmoid", "relu") for i in range(3)}
    second = run.decide(finding, 111, "swap_activation", "reinit_weights", rung=1, changes=swaps)
    run.line("model_change", 111, {"change": "swap_activation", "site": "net.1", "to": "relu"})
    run.ticks(111, 161)
    run.judge(second, 161, "resolved")
    run.evaluate(161, loss=0.9, accuracy=0.71)
    run.ticks(162, 200)
    for tick in range(201, 206):
        run.tick(snapshot(tick, step=200, loss=math.nan, norm=math.inf))
        found = run.find(tick, "non_finite", "bad batch", loss=math.nan, grad_norm=math.inf)
        run.judge(run.decide(found, tick, "skip_step"), tick + 1, "persisted" if tick < 205 else "resolved")
    run.ticks(206, 300)
    run.evaluate(300, loss=0.21, accuracy=0.94)
    return run


@pytest.fixture
def start_run(tmp_path: Path) -> Callable[..., Run]:
    """Return a function that begins a run in a folder of its own."""

    def start(*recorders: Any, folder: Path | None = None, **facts: Any) -> Run:
        return Run(folder or tmp_path / "runs" / "bright-otter", recorders, **facts)

    return start


@pytest.fixture
def troubled_run(start_run: Callable[..., Run]) -> Run:
    """Return a run with two incidents, not ended yet."""
    return troubled(start_run())


@pytest.fixture
def tried_run(start_run: Callable[..., Run]) -> Run:
    """Return a run with a trial that nothing won, one that a rung won, and one in which no rung fitted; not ended."""
    run = start_run()
    run.ticks(1, 40, loss=2.3)
    finding = run.find(40, "dead_units", value=0.6, limit=0.3)
    run.hold(40, "dead_units", arm("lower_lr", 1, "lost", 2.5), arm("reinit_dead_units", 0, "undecided", 2.31))
    run.ticks(41, 80, loss=2.3)
    better = arm("reinit_dead_units", 0, "won", 1.9, figure=0.9)
    slower = (arm("lower_lr", 1, "won", 2.1), arm("lower_lr", 2, "lost", math.inf))
    won = run.hold(82, "dead_units", better, *slower, arm("insert_norm", 3, "refused", 0.0), winner=0)
    run.ticks(81, 130)
    run.judge(run.decide(finding, 80, "reinit_dead_units", proof=won), 130, "resolved")
    run.ticks(131, 200)
    run.find(150, "plateau", value=0.1, limit=0.2)
    run.hold(150, "plateau", arm("raise_lr", 0, "refused", 0.0), steps=0)
    return run


@pytest.fixture
def shot() -> Callable[..., Snapshot]:
    """Return the function that makes the figures of one tick."""
    return snapshot
