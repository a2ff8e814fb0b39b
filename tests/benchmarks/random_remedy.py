"""A rival for the clinic: a random remedy wherever a training is seen to go wrong.

It sees with the detectors of the default policy, as a supervised run does. At the first finding it draws from all
remedies there are (but `advise` and `stop`, which treat nothing) until one can be applied, with its default
parameters; after 50 ticks of probation, wherever a finding is seen still or again, it draws another one, five times
in all. It proves nothing beforehand, takes nothing back, and has no reflex unless it draws one.
Not from a paper: published comparisons of repair tools found random search on a par with them.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from supervisor.checkpoints.state import rng_state
from supervisor.clinic.case import Case
from supervisor.clinic.plain import seed_all
from supervisor.clinic.runs import Ran, build, run_reported
from supervisor.entry.session import Session
from supervisor.loop import Supervisor
from supervisor.records import Decision, Finding, Snapshot
from supervisor.registry import REMEDIES

PROBATION: Final = 50  # ticks
MOST: Final = 5  # remedies a run


class AtRandom(Supervisor):
    """A supervisor that decides by lot."""

    def draw_from(self, lot: random.Random) -> None:
        """Draw from `lot`."""
        self._lot = lot
        self._names = sorted(set(REMEDIES.names()) - {"advise", "stop"})
        self._applied = 0
        self._quiet_until = 0  # tick

    def respond(self, now: Snapshot, findings: Sequence[Finding]) -> None:
        """Apply a random remedy to the most urgent finding."""
        if not findings or now.tick < self._quiet_until or self._applied == MOST:
            return
        self.run.silent_units = self.sensor.silent_units()
        self._tell_run()
        for name in self._lot.sample(self._names, len(self._names)):
            identity, about = f"d{len(self.decisions) + 1}", findings[0]
            decision = Decision(identity, name, {}, about, 0, "drawn by lot", now.tick, now.step)
            self._note(decisions=[decision])
            outcomes = self.act(now, [decision])
            self._note(outcomes=outcomes)
            if outcomes[0].status == "applied":
                self._applied, self._quiet_until = self._applied + 1, now.tick + PROBATION
                return


def at_random(case: Case, seed: int) -> Ran:
    """Train a case under random remedies; the same seed draws the same."""
    program = build(case.build, seed)
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "run"
        training = replace(program.training, policy="default", tracking=None, run_dir=where, progress=False)
        training.check()
        seed_all(training.seed)
        session = Session(replace(training, policy=training.declared_policy()), rng_state(torch.device("cpu")))
        supervisor = AtRandom(session.run, session.policy, session.tape, session.form)
        supervisor.draw_from(random.Random(f"{case.name} {seed}"))
        session.supervisor = supervisor
        return run_reported(program, session.train())
