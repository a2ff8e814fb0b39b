from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from supervisor.background.beside import Beside
from supervisor.registry import service


@pytest.fixture
def beside() -> Iterator[Beside]:
    beside = Beside()
    yield beside
    beside.shutdown(1.0)


def test_a_job_is_called_again_and_again(beside: Beside) -> None:
    calls: list[int] = []
    thrice = threading.Event()

    def job() -> None:
        calls.append(1)
        if len(calls) == 3:
            thrice.set()

    beside.every(0.02, job, "count")
    assert thrice.wait(5.0)


def test_nothing_runs_before_the_first_job() -> None:
    before = threading.active_count()
    Beside().shutdown(0.1)
    assert threading.active_count() == before


def test_what_a_job_raises_is_logged_once_and_the_job_goes_on(beside: Beside, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    thrice = threading.Event()

    def job() -> None:
        calls.append(1)
        if len(calls) == 3:
            thrice.set()
        message = "the disk is full"
        raise OSError(message)

    with caplog.at_level(logging.WARNING):
        beside.every(0.02, job, "flush")
        assert thrice.wait(5.0)
        beside.shutdown(1.0)
    assert len(caplog.messages) == 1
    assert "background job flush failed" in caplog.messages[0]
    assert "the disk is full" in caplog.messages[0]


def test_a_slow_job_never_runs_twice_at_a_time_and_nobody_complains(
    beside: Beside, caplog: pytest.LogCaptureFixture
) -> None:
    running, most = [0], [0]

    def job() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.15)
        running[0] -= 1

    with caplog.at_level(logging.WARNING):
        beside.every(0.02, job, "slow")
        time.sleep(0.5)
    assert most[0] == 1
    assert caplog.messages == []


def test_shutdown_waits_for_a_running_job_but_not_for_a_stuck_one(caplog: pytest.LogCaptureFixture) -> None:
    begun, release = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        release.wait(20.0)

    beside = Beside()
    beside.every(0.02, job, "stuck")
    assert begun.wait(5.0)
    began = time.monotonic()
    beside.shutdown(0.3)
    assert time.monotonic() - began < 1.0
    assert "left behind" in caplog.text
    release.set()


def test_nothing_is_called_after_the_shutdown(beside: Beside) -> None:
    calls: list[int] = []
    beside.every(0.02, lambda: calls.append(1), "count")
    time.sleep(0.1)
    beside.shutdown(1.0)
    count = len(calls)
    time.sleep(0.1)
    assert len(calls) == count


def test_a_stuck_job_does_not_keep_the_program_from_ending() -> None:
    program = (
        "import time; from supervisor.background.beside import Beside\n"
        "beside = Beside(); beside.every(0.01, lambda: time.sleep(60), 'stuck'); time.sleep(0.3)"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert time.monotonic() - began < 10.0


def test_the_loop_finds_the_scheduler_by_name() -> None:
    assert service("background") is Beside
