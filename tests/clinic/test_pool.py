"""The pool gives every job an answer, whatever becomes of its process."""

from __future__ import annotations

import os
import time

import pytest

from supervisor.clinic.pool import Failure, attempt, work
from supervisor.errors import SupervisorError
from tests.clinic.errands import run


def answers(errands: list[str], workers: int, limit: float = 30.0) -> dict[str, str | Failure]:
    return dict(work(run, errands, workers, lambda _: limit))


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_job_is_done_once_and_by_as_many_processes_as_asked_for() -> None:
    errands = [f"nap {n}" for n in range(8)]
    done = answers(errands, workers=2)
    assert sorted(done) == errands
    assert len({str(answer).rsplit(" ", 1)[-1] for answer in done.values()} - {str(os.getpid())}) == 2


def test_a_job_that_takes_its_process_with_it_is_a_failure_and_the_others_go_on() -> None:
    done = answers(["one", "die", "two"], workers=1)
    assert done["die"] == Failure("its process died with exit code 7")
    assert all(str(done[name]).startswith(f"{name} done") for name in ("one", "two"))


def test_a_job_that_takes_too_long_is_ended() -> None:
    done = answers(["linger", "one"], workers=1, limit=1.0)
    assert done["linger"] == Failure("ended after 1 s")
    assert str(done["one"]).startswith("one done")


def test_an_error_is_one_line_with_its_place() -> None:
    assert answers(["fail"], workers=1)["fail"] == Failure("ValueError: no such luck (errands.py:17)")
    assert attempt(run, "fail") == Failure("ValueError: no such luck (errands.py:17)")


def test_who_leaves_early_leaves_no_process_behind() -> None:
    results = work(run, ["one", "linger"], 2, lambda _: 30.0)
    _, answer = next(results)
    process = int(str(answer).rsplit(" ", 1)[-1])
    began = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert not alive(process)
    assert time.monotonic() - began < 10


def test_processes_that_cannot_start_are_an_error_not_a_loop() -> None:
    with pytest.raises(SupervisorError, match="ended at its start"):
        list(work(_Unpicklable(), ["one"], 1, lambda _: 30.0))


class _Unpicklable:
    """It can be pickled here and not be loaded there."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (3,)

    def __call__(self, errand: str) -> str:
        return errand
