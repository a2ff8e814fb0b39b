"""The story of a run as one HTML file that needs no network: for a browser, a phone, a printer or an e-mail.

Whatever came from the user (names of layers, policies, errors) is escaped: MLflow runs scripts in the pages it shows.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Final

from supervisor.journal import Entry, read_journal
from supervisor.recording.incidents import Attempt, Fact, Incident, course_of, incidents_of, result_of
from supervisor.recording.review import story_of
from supervisor.recording.timeline import draw_timeline
from supervisor.recording.trial_page import trial_html
from supervisor.recording.trials import cost
from supervisor.recording.wording import (
    became,
    changes,
    counted,
    figures,
    headline,
    listing,
    number,
    seen,
    suspected,
    trouble,
)

STYLE: Final = Path(__file__).with_name("page.css")
DOCUMENT: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_page(run_dir: Path, out: Path, story: Fact | None = None) -> Path:
    """Write the page of the run recorded in `run_dir` and return its path.

    `story` is what `Report.to_dict()` gives; left out, it is read from the journal.
    """
    story = story_of(run_dir) if story is None else story
    entries = list(read_journal(run_dir))
    start = next((entry for entry in entries if entry["kind"] == "start"), {})
    incidents = incidents_of(story)
    parts = [
        f'<h1 class="{_word(story["health"])}">{escape(headline(story))}</h1>',
        f'<p class="soft">{escape(run_dir.resolve().name)} · policy {escape(str(story["policy"]))}</p>',
        _picture(run_dir, story),
        _facts(story, start),
        "<h2>What happened</h2>",
        *([_incident(n, incident) for n, incident in enumerate(incidents, 1)] or ["<p>Nothing had to be done.</p>"]),
        f"<p>{escape(cost(story).capitalize())}.</p>" if cost(story) else "",
        _notes(entry for entry in entries if entry["kind"] == "note"),
        _changes(story),
        _fold("Policy, with everything it inherits", str(start.get("policy_yaml", ""))),
        _record(run_dir, story),
    ]
    body = "\n".join(filter(None, parts))
    title, style = escape(f"{story['health']}: {run_dir.resolve().name}"), STYLE.read_text(encoding="utf-8")
    out.write_text(DOCUMENT.format(title=title, style=style, body=body), encoding="utf-8")
    return out


def _word(status: object) -> str:
    return escape(str(status).replace(" ", "-"))


def _picture(run_dir: Path, story: Fact) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.png"
        draw_timeline(run_dir, path, dpi=192)  # sharp on a screen with small pixels
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    told = f"Loss and gradient norm over {counted(int(story['ticks']), 'tick')}, interventions marked"
    hint = "A line marks an intervention, a shaded stretch its probation; ✓ resolved, ✗ persisted, ✗✗ worsened."
    tried = " A triangle marks a trial: filled where a rung beat doing nothing." if story["trials"] else ""
    caption = f'<figcaption class="soft">{hint}{tried}</figcaption>' if story["decisions"] or tried else ""
    return f'<figure><img alt="{told}" src="data:image/png;base64,{data}">{caption}</figure>'


def _facts(story: Fact, start: Entry) -> str:
    facts = {
        "status": story["status"],
        "interventions": len(story["interventions"]),
        "steps": story["steps"],
        "ticks": story["ticks"],
        "final loss": number(story["final_loss"]),
        "best loss": number(story["best_loss"]),
        "model": start.get("model"),
        "parameters": f"{start['parameters']:,}" if "parameters" in start else None,
        "optimizer": start.get("optimizer"),
        "learning rate": number(start["lr"]) if start.get("lr") is not None else None,
        "seed": start.get("seed"),
        "device": start.get("device"),
    }
    known = {name: fact for name, fact in facts.items() if fact is not None}
    cells = (f"<div><dt>{name}</dt><dd>{escape(str(fact))}</dd></div>" for name, fact in known.items())
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _incident(position: int, incident: Incident) -> str:
    first = incident.findings[0]
    again = len(incident.findings) - 1
    more = f"; seen {counted(again, 'more time')} to tick {incident.findings[-1]['tick']}" if again else ""
    told = [
        ("seen", f"tick {first['tick']}, step {first['step']}: {seen(first)}{more}"),
        ("cause", suspected(first, evidence=True)),
        ("evidence", figures(first["evidence"])),
        ("over", _over(incident)),
        ("layers", listing((name or "(the model itself)" for name in first["where"]), most=12)),
    ]
    course = [html for trials, group in course_of(incident) for html in (*map(trial_html, trials), _attempt(group))]
    head = f"<h3>{position}. {escape(incident.pathology)}</h3>{_status(incident.status)}"
    return f"<article><header>{head}</header>{_story(told)}{''.join(course)}</article>"


def _over(incident: Incident) -> str:
    """Return when an incident ended that no attempt ended."""
    closed = incident.closed
    return f"tick {closed['tick']}: {closed['reason']}" if closed is not None and not closed["decisions"] else ""


def _attempt(group: list[Attempt]) -> str:
    if not group:
        return ""
    first, last = group[0], group[-1]
    times = f", {len(group)} times to tick {last.tick}" if len(group) > 1 else ""
    params = {decision["remedy"]: decision["params"] for decision in first.decisions if decision["params"]}
    told = [
        ("done", f"tick {first.tick}: {first.remedies}{times} (rung {first.rung + 1})"),
        ("why", first.reason + (f"; it won trial {first.trial}" if first.trial else "")),
        ("with", "; ".join(f"{remedy} {json.dumps(given)}" for remedy, given in params.items())),
        ("changed", changes(first, most=8)),
        ("not done", trouble(first)),
        ("became", became(result_of(group))),
    ]
    return f'<section class="attempt">{_story(told)}</section>'


def _status(status: str) -> str:
    return f'<span class="status {_word(status)}">{escape(status)}</span>'


def _story(told: Iterable[tuple[str, object]]) -> str:
    rows = (f"<dt>{name}</dt><dd>{escape(str(text))}</dd>" for name, text in told if text)
    return f'<dl class="story">{"".join(rows)}</dl>'


def _notes(notes: Iterable[Entry]) -> str:
    ticks: dict[str, list[int]] = {}  # one that came again and again is told once
    for note in notes:
        ticks.setdefault(str(note.get("text", "")), []).append(note["tick"])
    items = "".join(f"<li>tick {listing(when)}: {escape(text)}</li>" for text, when in ticks.items())
    return f"<h2>Notes</h2><ul>{items}</ul>" if items else ""


def _changes(story: Fact) -> str:
    if not story["model_changes"]:
        return ""
    text = "\n".join(json.dumps(change) for change in story["model_changes"])
    return _fold(f"The model was changed in {counted(len(story['model_changes']), 'place')}", text)


def _fold(title: str, text: str) -> str:
    folded = f"<details><summary>show</summary><pre>{escape(text)}</pre></details>"
    return f"<h2>{escape(title)}</h2>{folded}" if text else ""


def _record(run_dir: Path, story: Fact) -> str:
    run = f"<p>MLflow run <code>{escape(str(story['run_id']))}</code></p>" if story["run_id"] else ""
    return f"<h2>The record</h2><p>Journal and figures: <code>{escape(str(run_dir.resolve()))}</code></p>{run}"
