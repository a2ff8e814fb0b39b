"""Where MLflow keeps its runs, which run is ours, and how a person opens it."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient

PROBE: Final = 1.0  # seconds to wait for a server to accept a connection
UI: Final = "http://127.0.0.1:5000"  # where `mlflow ui` answers unless told otherwise


@dataclass(frozen=True)
class Store:
    """A tracking store, by a URI that means the same from every directory."""

    uri: str

    @staticmethod
    def current() -> Store:
        """Return the user's store: set_tracking_uri, MLFLOW_TRACKING_URI, or MLflow's default."""
        return Store(absolute(mlflow.get_tracking_uri()))

    @property
    def local(self) -> bool:
        """Whether it is a file on this machine."""
        return urlsplit(self.uri).scheme in ("sqlite", "file", "")

    def client(self) -> MlflowClient:
        """Return a client; the first one of a new SQLite store creates its tables, which takes a second."""
        return MlflowClient(tracking_uri=self.uri)

    def probe(self) -> None:
        """Raise OSError if the server does not accept a connection, or the database has no place to be.

        MLflow itself would retry a dead server for four minutes before it says so, a missing folder for one. Behind a
        proxy, and for other kinds of stores, there is nothing to try: they pass.
        """
        parts = urlsplit(self.uri)
        if parts.scheme == "sqlite" and not Path(parts.path[1:]).parent.is_dir():
            message = f"no folder {Path(parts.path[1:]).parent}"
            raise FileNotFoundError(message)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return
        if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname):
            return
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=PROBE).close()

    def how_to_open(self, run_id: str | None, experiment_id: str | None) -> str:
        """Return the store, the command that opens it and the address of the run, a line each."""
        served = urlsplit(self.uri).scheme in ("http", "https")
        page = self.uri.rstrip("/") if served else UI
        # A fresh browser opens MLflow's view for language models; the parameter asks for the one with curves.
        place = f"/#/experiments/{experiment_id}/runs/{run_id}" if run_id and experiment_id else "/#/experiments"
        lines = [f"MLflow store: {self.public}"]
        if not served:
            lines.append(f"open it with: mlflow ui --backend-store-uri {shlex.quote(self.uri)}")
        return "\n".join([*lines, f"then look at: {_without_password(page)}{place}?workflowType=machine_learning"])

    @property
    def public(self) -> str:
        """The URI without a password."""
        return _without_password(self.uri)


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def absolute(uri: str) -> str:
    """Return a store URI that still points to the same file after a change of directory."""
    prefix = "sqlite:///"
    if uri.startswith(prefix):
        path, question, query = uri.removeprefix(prefix).partition("?")
        return uri if path in ("", ":memory:") else f"{prefix}{Path(path).resolve()}{question}{query}"
    return uri if urlsplit(uri).scheme else str(Path(uri).resolve())


def chosen_run() -> tuple[str, str | None] | None:
    """Return (run id, experiment id if known) of the run the caller has open, or named by MLFLOW_RUN_ID.

    To be called on the caller's own thread: an active run is invisible to all others.
    """
    active = mlflow.active_run()
    if active is not None:
        return active.info.run_id, active.info.experiment_id
    named = os.environ.get("MLFLOW_RUN_ID")
    return (named, None) if named else None


def create_run(client: MlflowClient, name: str) -> tuple[str, str]:
    """Create a run in the experiment the user has chosen; return (run id, experiment id)."""
    tags = {"mlflow.source.name": sys.argv[0] or "python", "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
    run = client.create_run(_experiment(), run_name=name, tags=tags)
    return run.info.run_id, run.info.experiment_id


def _experiment() -> str:
    # MLflow has no public way to ask which experiment set_experiment or the environment has chosen.
    from mlflow.tracking import fluent  # noqa: PLC0415

    choose = getattr(fluent, "_get_experiment_id", None)
    return str(choose()) if choose else os.environ.get("MLFLOW_EXPERIMENT_ID", "0")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def folder_of(run_id: str) -> Path | None:
    """Return the folder a supervised run was recorded in, None if it was not supervised."""
    store = Store.current()
    store.probe()
    folder = store.client().get_run(run_id).data.tags.get("supervisor.run_dir")
    return Path(folder) if folder else None
