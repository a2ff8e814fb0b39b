"""The story of a run as text: the verdict first, then every incident with what was seen, done and became of it."""

from __future__ import annotations

from collections import Counter

from supervisor.recording.incidents import Attempt, Fact, Incident, course_of, incidents_of, result_of
from supervisor.recording.trials import cost, headline_of, rest_of
from supervisor.recording.wording import became, changes, counted, headline, seen, suspected, trouble, why


def tell(story: Fact) -> str:
    """Return the story of a run; `story` is what `Report.to_dict()` gives."""
    lines = [headline(story), *_notes(story)]
    for number, incident in enumerate(incidents_of(story), start=1):
        lines += ["", *_incident(number, incident)]
    if story["model_changes"]:
        places = counted(len(story["model_changes"]), "place")
        lines += [
            "",
            f"The model was changed in {places}; supervisor.rebuild(model, changes) repeats it on a fresh one.",
        ]
    lines += ["", f"policy {story['policy']}; record in {story['run_dir']}"]
    if story["run_id"]:
        lines.append(f"MLflow run {story['run_id']}")
    if story.get("how_to_open"):
        lines.append(story["how_to_open"])
    if spent := cost(story):
        lines.append(spent)
    return "\n".join(lines)


def _notes(story: Fact) -> list[str]:
    """Return the notes; one that came again and again is told once."""
    times: Counter[str] = Counter(story["notes"])
    return [f"note: {note}" + (f" ({n} times)" if n > 1 else "") for note, n in times.items()]


def _incident(number: int, incident: Incident) -> list[str]:
    first = incident.findings[0]
    again = len(incident.findings) - 1
    repeated = f"; seen {counted(again, 'more time')} to tick {incident.findings[-1]['tick']}" if again else ""
    lines = [
        f"{number}. {incident.pathology}: {incident.status}",
        f"   tick {first['tick']}: {seen(first)}{repeated}",
        f"   suspected cause: {suspected(first)}",
    ]
    for trials, group in course_of(incident):
        lines += [line for trial in trials for line in _trial(trial)]
        lines += _attempts(group) if group else []
    if incident.closed is not None and not incident.closed["decisions"]:
        lines.append(f"   over at tick {incident.closed['tick']}: {incident.closed['reason']}")
    return lines


def _trial(trial: Fact) -> list[str]:
    return [f"   tick {trial['tick']}: {headline_of(trial)}", *(f"      {line}" for line in rest_of(trial))]


def _attempts(group: list[Attempt]) -> list[str]:
    first, last = group[0], group[-1]
    times = f" {len(group)} times, to tick {last.tick}" if len(group) > 1 else ""
    changed = changes(first)
    done = f"   tick {first.tick}: {first.remedies}{times} ({why(first)})"
    lines = [done + (f": {changed}" if changed else "")]
    if problems := trouble(first):
        lines.append(f"      not done: {problems}")
    else:
        lines.append(f"      became: {became(result_of(group))}")
    return lines
