"""One MLflow run that mirrors a record: all that is ever sent to a store, for a background thread to call.

Every method may raise whatever MLflow, its store or the network raises; called again, it does what is missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from supervisor.journal import FILE_NAME, Entry
from supervisor.recording import trials
from supervisor.recording.description import beneath, params_of, table_of, tags_of
from supervisor.recording.incidents import Fact
from supervisor.recording.mlflow_points import Point
from supervisor.recording.mlflow_store import Store, create_run
from supervisor.recording.page import write_page
from supervisor.recording.timeline import draw_timeline

ENDS: Final = {"completed": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
TABLES_TAG: Final = "mlflow.loggedArtifacts"
NOTE_TAG: Final = "mlflow.note.content"


class MirrorRun:
    """A run in the user's store: theirs, then it is left as it was found, or one of our own."""

    def __init__(self, store: Store, start: Entry, run_dir: Path, chosen: tuple[str, str | None] | None) -> None:
        self.store, self.start, self.run_dir = store, start, run_dir
        self.run_id: str | None = chosen[0] if chosen else None
        self.experiment_id: str | None = chosen[1] if chosen else None
        self.owned = chosen is None
        self._client: MlflowClient | None = None
        self._introduced = False
        self._tables: list[dict[str, str]] = []  # what the run lists as tables
        self._pictured = False

    @property
    def client(self) -> MlflowClient:
        """The client, made on first use."""
        if self._client is None:
            self._client = self.store.client()
        return self._client

    def ensure(self) -> str:
        """Return the run's id; create the run if it is to be our own."""
        if self.run_id is None:
            self.run_id, self.experiment_id = create_run(self.client, self.run_dir.name)
        return self.run_id

    def introduce(self) -> None:
        """Send what is known from the start: parameters, the resolved policy, where the record lies."""
        if self._introduced:
            return
        run_id = self.ensure()
        run = self.client.get_run(run_id)
        self.experiment_id = run.info.experiment_id
        # A parameter cannot change: what an earlier supervised training wrote into this run stays.
        params = {name: value for name, value in params_of(self.start).items() if name not in run.data.params}
        self._tables = json.loads(run.data.tags.get(TABLES_TAG, "[]"))
        tags = {"supervisor.status": "running", "supervisor.run_dir": str(self.run_dir)}
        tags |= self._listed("decisions.json")
        self.client.log_batch(run_id, params=[Param(*item) for item in params.items()], tags=_tags(tags))
        self.client.log_text(run_id, str(self.start.get("policy_yaml", "")), "policy.yaml")
        self._introduced = True

    def _listed(self, path: str) -> dict[str, str]:
        """Return the tag by which MLflow knows its tables, with `path` among them."""
        ours = {"path": path, "type": "table"}
        self._tables += [] if ours in self._tables else [ours]
        return {TABLES_TAG: json.dumps(self._tables)}

    def tell(self, story: Fact, extra: dict[str, str]) -> None:
        """Send the story as it stands: tags, description, the tables of decisions and of trials."""
        run_id = self.ensure()
        picture = f"/get-artifact?path=timeline.png&run_uuid={run_id}" if self._pictured else None
        existing = "" if self.owned else self.client.get_run(run_id).data.tags.get(NOTE_TAG, "")
        self.client.log_dict(run_id, table_of(story), "decisions.json")
        if story["trials"]:
            self.client.log_dict(run_id, trials.table_of(story), "trials.json")
            extra = extra | self._listed("trials.json")
        note = {NOTE_TAG: beneath(existing, story, picture)}
        self.client.log_batch(run_id, tags=_tags(tags_of(story) | extra | note))

    def send(self, points: list[Point]) -> None:
        """Send metrics, 1,000 at the most. Sent twice they are there once."""
        self.client.log_batch(self.ensure(), metrics=[Metric(*point) for point in points])

    def illustrate(self, story: Fact) -> None:
        """Draw the timeline and write the page beside the journal, and send them with it."""
        run_id = self.ensure()
        picture, page = self.run_dir / "timeline.png", self.run_dir / "review.html"
        draw_timeline(self.run_dir, picture)
        write_page(self.run_dir, page, story=story)
        for path in (picture, page, self.run_dir / FILE_NAME):
            if path.is_file() and not path.is_symlink():  # a link could carry any file of this machine into the store
                self.client.log_artifact(run_id, str(path))
        self._pictured = True

    def end(self, status: str) -> None:
        """Set the run's final status, if the run is our own."""
        if self.owned:
            self.client.set_terminated(self.ensure(), ENDS.get(status, "FINISHED"))


def _tags(tags: dict[str, str]) -> list[RunTag]:
    return [RunTag(name, value) for name, value in tags.items()]
