"""What a person reads on the MLflow page of a run: description, tags, parameters, the table of decisions."""

from __future__ import annotations

import html
import json
from typing import Any, Final

from supervisor.journal import Entry
from supervisor.recording.incidents import (
    Attempt,
    Fact,
    Incident,
    attempts_of,
    course_of,
    incidents_of,
    result_of,
    runs_of,
)
from supervisor.recording.trials import cost, headline_of
from supervisor.recording.wording import became, changes, headline, listing, measured, number, trouble

NOTE_LIMIT: Final = 8000  # characters; MLflow cuts off the rest
PARAM_LIMIT: Final = 500
ROWS: Final = 1000  # in the table of decisions
INCIDENTS: Final = 20  # in the description
DIVIDER: Final = "\n\n---\n\n#### Supervisor\n\n"

PARAMS: Final = (
    "policy", "policy_hash", "model", "parameters", "optimizer", "lr", "steps", "epochs", "accumulate", "seed",
    "device",
)  # fmt: skip
COLUMNS: Final = (
    "id", "tick", "pathology", "remedy", "verdict", "reason", "seen", "layers", "cause", "params", "rung", "outcome",
    "changes", "became", "step",
)  # fmt: skip


def params_of(start: Entry) -> dict[str, str]:
    """Return the parameters of a run. Prefixed: a user's own `lr` in the same run must stay free to log."""
    given = {name: start[name] for name in PARAMS if start.get(name) is not None}
    versions = {f"version.{name}": version for name, version in start.get("versions", {}).items()}
    return {f"supervisor.{name}": str(value)[:PARAM_LIMIT] for name, value in (given | versions).items()}


def tags_of(story: Fact) -> dict[str, str]:
    """Return the tags of a run, by which runs are found and compared."""
    pathologies = dict.fromkeys(str(finding["pathology"]) for finding in story["findings"])
    return {
        "supervisor.health": str(story["health"]),
        "supervisor.status": str(story["status"]),
        "supervisor.policy": str(story["policy"]),
        "supervisor.interventions": str(len(story["interventions"])),
        "supervisor.pathologies": ",".join(pathologies),
        "supervisor.trials": str(len(story["trials"])),
        "supervisor.run_dir": str(story["run_dir"]),
    }


def table_of(story: Fact) -> dict[str, Any]:
    """Return the newest decisions, one a row, as MLflow's table artifact."""
    rows = [_row(attempt, decision) for attempt in attempts_of(story)[-ROWS:] for decision in attempt.decisions]
    return {"columns": list(COLUMNS), "data": rows}


def _row(attempt: Attempt, decision: Fact) -> list[Any]:
    finding = decision["finding"]
    own = tuple(outcome for outcome in attempt.outcomes if outcome["decision"] == decision["id"])
    outcome = f"{own[-1]['status']}{': ' if own[-1]['why'] else ''}{own[-1]['why']}" if own else ""
    verdict = str(attempt.verdict["status"]) if attempt.verdict is not None else ""
    changed = changes(Attempt((decision,), own, None))
    return [
        decision["id"], decision["tick"], finding["pathology"], decision["remedy"], verdict, decision["reason"],
        measured(finding), listing(finding["where"], most=12), finding["cause"], json.dumps(decision["params"]),
        int(decision["rung"]) + 1, outcome, changed, became(attempt), decision["step"],
    ]  # fmt: skip


def describe(story: Fact, picture: str | None, limit: int = NOTE_LIMIT) -> str:
    """Return the description in markdown: the verdict, the incidents, the timeline, each decision with its reason.

    `picture` is the address of the timeline, None while there is none. What exceeds `limit` characters is left
    out by whole lines, and said.
    """
    incidents = incidents_of(story)
    lines = [f"**{_cell(headline(story))}**", ""]
    if incidents:
        lines += ["| | incident | became | done | suspected cause | seen |", "| --- " * 6 + "|"]
        lines += [_incident(n, incident) for n, incident in enumerate(incidents[:INCIDENTS], start=1)]
        if len(incidents) > INCIDENTS:
            lines.append(f"| | and {len(incidents) - INCIDENTS} more | | | | |")
        lines.append("")
    if picture:
        lines += [f"![timeline]({picture})", ""]
    decisions = [line for incident in incidents for line in _course(incident)]
    lines += ["**Decisions**", "", *decisions, ""] if decisions else []
    lines += [f"The {cost(story)}; all arms are in trials.json.", ""] if cost(story) else []
    policy, folder = _cell(story["policy"]), _cell(story["run_dir"])
    lines.append(f"Policy {policy}. All decisions are in decisions.json, the record is in {folder}.")
    return _cut(lines, limit)


def _incident(position: int, incident: Incident) -> str:
    first = incident.findings[0]
    done = ", then ".join(group[0].remedies for group in runs_of(incident.attempts)) or "nothing"
    what = f"tick {first['tick']}: {measured(first)}"
    cells = (position, incident.pathology, incident.status, done, first["cause"], what)
    return "| " + " &nbsp; | ".join(_cell(cell) for cell in cells) + " |"  # MLflow sets cells without a gap


def _course(incident: Incident) -> list[str]:
    """Return the trials and decisions of an incident, a bullet each."""
    lines = []
    for trials, group in course_of(incident):
        lines += [f"- tick {trial['tick']}: {_cell(headline_of(trial))}" for trial in trials]
        lines += _decision(group) if group else []
    return lines


def _decision(group: list[Attempt]) -> list[str]:
    first, last = group[0], group[-1]
    times = f" {len(group)} times, to tick {last.tick}," if len(group) > 1 else ""
    changed = "; ".join(filter(None, (changes(first), trouble(first))))
    text = f"- tick {first.tick}: **{_cell(first.remedies)}**{times} (rung {first.rung + 1}). {_cell(first.reason)}"
    return [f"{text}{' *' + _cell(changed) + '*' if changed else ''} → {_cell(became(result_of(group)))}"]


def _cell(value: object) -> str:
    """Return text that can break neither a table nor the page."""
    text = html.escape(" ".join(number(value).split()), quote=False)
    for mark in ("|", "*", "`", "_", "[", "]"):
        text = text.replace(mark, f"\\{mark}")
    return text


def _cut(lines: list[str], limit: int) -> str:
    text = "\n".join(lines)
    if len(text) <= limit:
        return text
    ending = "\n\n(shortened: all decisions are in decisions.json)"
    kept = text[: limit - len(ending)].rpartition("\n")[0]
    return kept + ending


def beneath(existing: str, story: Fact, picture: str | None) -> str:
    """Return the description put beneath one the user wrote, or `existing` where there is no room left."""
    own = existing.partition(DIVIDER)[0]
    if not own:
        return describe(story, picture)
    room = NOTE_LIMIT - len(own) - len(DIVIDER)
    return own + DIVIDER + describe(story, picture, room) if room > len(headline(story)) + 200 else existing
