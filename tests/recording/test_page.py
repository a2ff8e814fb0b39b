from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from supervisor.recording.page import write_page


class Tags(HTMLParser):
    """Collects the elements of a page and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_tells_verdict_incidents_and_policy(troubled_run: Any, tmp_path: Path) -> None:
    troubled_run.end()
    parser = Tags()
    parser.feed(write_page(troubled_run.folder, tmp_path / "review.html").read_text(encoding="utf-8"))
    text = "\n".join(parser.text)
    assert "recovered after 8 interventions" in text
    assert "gradient decay over the depth 5.31 decades, limit 3" in text
    assert "persisted at tick 110" in text
    assert "sigmoid -> relu in 3 places (net.1, net.3, net.5)" in text
    assert "limits: {interventions: 20}" in text
    assert parser.seen.count("article") == 2


def test_the_page_needs_no_network_and_runs_no_script(troubled_run: Any, tmp_path: Path) -> None:
    troubled_run.end()
    page = write_page(troubled_run.folder, tmp_path / "review.html").read_text(encoding="utf-8")
    assert re.findall(r"(?:https?:)?//[a-z]", re.sub(r"base64,[^\"]*", "", page)) == []
    assert "<script" not in page
    assert "data:image/png;base64," in page


def test_what_the_user_wrote_cannot_become_markup(start_run: Callable[..., Any], tmp_path: Path) -> None:
    evil = "<script>alert('x')</script><img src=x onerror=y>"
    run = start_run(policy=evil, policy_yaml=evil, model=evil, optimizer=evil)
    run.ticks(1, 5)
    run.decide(run.find(5, evil, evil, value=evil, limit=evil), 5, evil, changes={evil: (evil, evil)})
    run.line("note", 5, {"text": evil})
    run.line("model_change", 5, {"change": evil})
    parser = Tags()
    parser.feed(write_page(run.folder, tmp_path / "review.html").read_text(encoding="utf-8"))
    assert "script" not in parser.seen
    assert parser.seen.count("img") == 1  # the timeline
    assert "".join(parser.text).count(evil) > 5


def test_a_killed_run_has_a_page(troubled_run: Any, tmp_path: Path) -> None:
    page = write_page(troubled_run.folder, tmp_path / "review.html").read_text(encoding="utf-8")
    assert "running or killed" in page
