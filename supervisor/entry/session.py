"""One supervised training from its first batch to its report.

Nothing is recorded before the first forward and backward went well: a `train_fn` that returns no loss costs
nothing and leaves nothing behind. From then on the record is closed on every way out.
"""

from __future__ import annotations

import math
from itertools import chain, islice
from typing import Any, Final

import click
import torch

from supervisor.checkpoints.state import restore_rng
from supervisor.entry.batches import groups, planned_steps
from supervisor.entry.evaluation import Evaluation
from supervisor.entry.keeping import Keeping
from supervisor.entry.learned import earlier_runs
from supervisor.entry.owned import OwnedForm
from supervisor.entry.progress import Progress
from supervisor.entry.start import new_run_dir, recorders_of, start_facts, write_capabilities
from supervisor.entry.training import Training
from supervisor.errors import UsageError
from supervisor.journal import Tape
from supervisor.loop import Supervisor
from supervisor.policy import Policy
from supervisor.policy.learned import reordered
from supervisor.recording.report import Health, Report, Status
from supervisor.records import Snapshot
from supervisor.registry import service
from supervisor.run import TrainingRun

TICKS_PER_STEP: Final = 1.5
"""A training that needs more attempts than this for each step it was asked for only repeats itself."""


class Session:
    """Holds what one call of `supervise()` needs."""

    def __init__(self, training: Training, rng: dict[str, Any]) -> None:
        """Check what can be checked without running anything; nothing is changed.

        `rng` is the state of the random numbers to return to if the first step turns out to be none.
        """
        assert training.model is not None
        assert training.data is not None
        self.training, self._rng = training, rng
        self.policy = training.policy if isinstance(training.policy, Policy) else Policy.load(training.policy)
        self.run_dir = new_run_dir(training)
        self.run = TrainingRun(training.model, training.optimizers, training.scheduler)
        self.run.data_control = True
        self.run.can_rewind = lambda tick: self.supervisor.recent.since(tick) is not None
        self.batches = groups(
            training.data, steps=training.steps, epochs=training.epochs, accumulate=training.accumulate,
        )  # fmt: skip
        self.evaluation = Evaluation(training.evaluate, training.evaluate_every)
        self.form = OwnedForm(training.train_fn, self.run)
        self.tape = Tape(self.run_dir, recorders_of(training), self.run.clock)
        self.form.planned, self.form.quick_score = planned_steps(training), self.evaluation.quick_score
        self.earlier = earlier_runs(self.policy, self.run_dir)
        self.supervisor = Supervisor(self.run, reordered(self.policy, self.earlier.table), self.tape, self.form)
        self.keeping = Keeping(self.run, self.supervisor.ring, self.tape)
        self.background = service("background")()
        self.last: Snapshot | None = None
        self.final_loss, self.best_loss = math.nan, math.nan

    def train(self) -> Report:
        """Train to the end and return the report."""
        status: Status = "failed"
        reason = ""
        try:
            with Progress(self.training.progress, self.training.steps) as progress:
                status, reason = self._loop(progress)
        except KeyboardInterrupt:
            status, reason = "interrupted", "interrupted from the keyboard"
            if not self.tape.opened:
                self._open()
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            if not self.tape.opened and not isinstance(error, UsageError):
                self._open()
            raise
        finally:
            report = self._close(status, reason)
        return report

    def _loop(self, progress: Progress) -> tuple[Status, str]:
        end: tuple[Status, str] | None = None
        while (group := self._next()) is not None:
            self.last = now = self.supervisor.step(lambda group=group: self._compute(group), group)  # type: ignore[misc]
            if now.finite:
                self.final_loss = now.loss
                self.best_loss = now.loss if math.isnan(self.best_loss) else min(self.best_loss, now.loss)
            self.keeping.now_and_then()
            progress.show(now, self.run.clock.step, self.supervisor)
            self._evaluate(due=self.evaluation.due(self.run.clock.step))
            if (end := self._end()) is not None:
                break
        self._evaluate(due=self.evaluation.due_at_end(self.run.clock.step))
        return end or ("completed", "the data ended")

    def _next(self) -> list[Any] | None:
        """Return the batches of the next tick, None at the data's end: what a remedy asked for comes first."""
        run = self.run
        if run.rewind is not None:
            again = self.supervisor.recent.since(run.rewind[0] - 1) or []
            self.batches = chain(again, self.batches)
        skipped, run.rewind, run.batches_to_skip = run.batches_to_skip, None, 0
        return next(islice(self.batches, skipped, None), None)

    def _compute(self, group: list[Any]) -> list[torch.Tensor]:
        """Run forward and backward. Until the first loss is known to be one, everything can be and is put back."""
        if self.tape.opened:
            return self.form.compute(group)
        try:
            losses = self.form.compute(group)
        except UsageError:
            self.supervisor.guard.put_back()
            self.run.drop_gradients()
            restore_rng(self._rng)
            raise
        self._open()
        return losses

    def _open(self) -> None:
        self.tape.open(start_facts(self.training, self.run, self.policy, self.run_dir) | self.earlier.start)
        write_capabilities(self.tape, self.run, self.policy)
        for note in self.earlier.notes:
            self.tape.note(note)
        self._announce()
        for recorder in self.tape.recorders:
            self.background.every(1.0, recorder.flush, f"flush {type(recorder).__name__}")

    def _announce(self) -> None:
        """Tell the person at the terminal what is watched, and where to look."""
        if self.training.progress is False:
            return
        run, places = self.run, [getattr(recorder, "open_command", "") for recorder in self.tape.recorders]
        what = f"{type(run.model).__name__}, {sum(p.numel() for p in run.parameters)} trained parameters"
        lines = [
            f"supervising {what}, form: owned, policy: {self.policy.name}",
            f"record: {self.run_dir}",
            *"\n".join(filter(None, places)).splitlines(),
        ]
        for line in lines:
            click.echo(f"supervisor: {line}", err=True)

    def _end(self) -> tuple[Status, str] | None:
        """Return how the run ended, or None if it goes on."""
        steps, clock = self.training.steps, self.run.clock
        if self.run.stop_reason:
            return "stopped", self.run.stop_reason
        if steps is not None and clock.step >= steps:
            return "completed", f"all {steps} steps were taken"
        if steps is not None and clock.tick > TICKS_PER_STEP * steps:
            return "completed", f"{clock.tick} ticks, more than {TICKS_PER_STEP} times the {steps} steps asked for"
        return None

    def _evaluate(self, *, due: bool) -> None:
        if due:
            self.tape.line("evaluation", self.evaluation.evaluate(self.run.clock))

    def _close(self, status: Status, reason: str) -> Report:
        self.background.shutdown(timeout=2.0)
        if self.last is not None and self.tape.opened:
            self.supervisor.verify(self.last, over=True)
            if lost := self._lost_ground():
                self.tape.note(lost)
            if status != "completed" and (kept := self.keeping.at_the_end()):
                reason = f"{reason}; {kept}"
        report = self._report(status, reason)
        if self.tape.opened:
            self.tape.line("end", {k: v for k, v in report.to_dict().items() if k not in _TOLD_BEFORE})
            self.tape.close(report)
        return report

    def _lost_ground(self) -> str:
        """Return a sentence where the training ended near where it began although it had learned, else nothing.

        It may come too late in a run to be named. Treated and ended so, a run has not recovered, whatever the verdicts.
        """
        past = self.supervisor.examiner.past
        began, ended = past.initial_loss, past.level(20)
        if began - self.best_loss > 0.5 * abs(began) and not ended < began - 0.25 * (began - self.best_loss):
            text = f"the loss ended at {ended:.4g}, where it had begun ({began:.4g}); its best was {self.best_loss:.4g}"
            return f"{text}: what had been learned was lost"
        return ""

    def _health(self) -> Health:
        if self.supervisor.ledger.incidents:
            return "unresolved"
        if not any(outcome.intervened for outcome in self.supervisor.outcomes):
            return "healthy"
        return "unresolved" if self._lost_ground() else "recovered"

    def _report(self, status: Status, reason: str) -> Report:
        mirror = next((r for r in self.tape.recorders if r.run_id is not None), None)
        return Report(
            status=status,
            health=self._health(),
            ticks=self.run.clock.tick,
            steps=self.run.clock.step,
            final_loss=self.final_loss,
            best_loss=self.best_loss,
            stop_reason=reason,
            policy=self.policy.name,
            run_dir=self.run_dir,
            run_id=mirror.run_id if mirror is not None else None,
            tracking_uri=getattr(mirror, "tracking_uri", None),
            how_to_open=getattr(mirror, "open_command", ""),
            findings=self.supervisor.findings,
            decisions=self.supervisor.decisions,
            outcomes=self.supervisor.outcomes,
            verdicts=self.supervisor.verdicts,
            model_changes=[surgery.change for surgery in self.run.surgeries],
            notes=self.tape.notes,
            evaluations=self.evaluation.history,
            trials=self.supervisor.prover.held,
            trial_passes=self.supervisor.prover.passes,
        )


_TOLD_BEFORE: Final = (
    "notes", "findings", "decisions", "outcomes", "verdicts", "trials", "evaluations", "interventions",
)  # fmt: skip
"""Fields of the report whose records have lines of their own."""
