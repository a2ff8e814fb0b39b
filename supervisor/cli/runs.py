"""`supervise review` and `supervise tune`: what recorded runs tell."""
# ruff: noqa: PLC0415 - what a command needs is imported inside it, so that --help answers within 0.3 s

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from supervisor.cli.terminal import as_json_option, print_json, print_table
from supervisor.errors import UsageError


class _ManyRuns(click.Command):
    """Lets `--healthy a b` stand for `--healthy a --healthy b`, so that a shell pattern can name the runs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args` with the option repeated before each of its values."""
        return super().parse_args(ctx, list(_spread(args, ("--healthy", "--faulty"))))


def _spread(args: Iterable[str], many: tuple[str, ...]) -> Iterator[str]:
    option, fresh = "", False
    for arg in args:
        if arg.startswith("-"):
            option, fresh = (arg, True) if arg in many else ("", False)
            yield arg
        else:
            yield from (arg,) if fresh or not option else (option, arg)
            fresh = False


@click.command()
@click.argument("run", required=False)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the page.")
@as_json_option
def review(run: str | None, html: Path | None, *, as_json: bool) -> None:
    """Tell the story of a run, and write it as one HTML page (default: review.html in the run's folder).

    RUN is a run's folder or an MLflow run id; left out, the newest run under ./supervisor_runs.

    Example: supervise review supervisor_runs/deep-sigmoid
    """
    from supervisor.recording.page import write_page
    from supervisor.recording.review import find_run, story_of
    from supervisor.recording.story import tell

    run_dir = find_run(run)
    story = story_of(run_dir)
    if as_json:
        print_json(story)
    else:
        click.echo(tell(story))
    if html or not as_json:
        page = write_page(run_dir, html or run_dir / "review.html")
        click.echo(f"\nThe story as a page: {page}", err=as_json)


@click.command(cls=_ManyRuns)
@click.argument("detector")
@click.option("--healthy", multiple=True, metavar="RUN...", help="Runs in which it must keep silent.")
@click.option(
    "--faulty", multiple=True, required=True, metavar="RUN[@TICK]...", help="Runs ill from TICK on (default: 0)."
)
@click.option("--policy", "start", default="default", show_default=True, help="Whose thresholds to start from.")
@click.option("--trials", type=click.IntRange(1), default=100, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--storage", help="Keeps the study: an Optuna URL or a journal file.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The policy file to write.")
@as_json_option
def tune(
    detector: str, healthy: tuple[str, ...], faulty: tuple[str, ...], start: str, trials: int, seed: int,
    storage: str | None, out: Path, *, as_json: bool,
) -> None:  # fmt: skip
    """Re-fit a detector's thresholds on recorded runs, and write them as a policy file.

    Example: supervise tune dead_units --healthy runs/good-* --faulty runs/bad-1@120 runs/bad-2@80 --out tuned.yaml
    """
    from supervisor.policy import Policy
    from supervisor.recording.review import find_run
    from supervisor.records import plain
    from supervisor.tuning.study import tune_detector

    _must_be_new(out)
    good = [find_run(run) for run in healthy]
    bad = [(find_run(run), tick) for run, tick in map(_onset, faulty)]
    result = tune_detector(detector, good, bad, Policy.load(start), trials, seed, storage)
    out.write_text(result.policy_text, encoding="utf-8")
    if as_json:
        facts = {"params": result.params, "before": result.before, "after": result.after, "file": str(out)}
        print_json(plain(facts))
        return
    if not result.improved:
        click.echo(f"Nothing better than the thresholds of {start!r} was found.")
    rows = [(name, f"{value:.4g}", f"{result.after[name]:.4g}") for name, value in result.before.items()]
    print_table(("figure", "before", "after"), rows)
    click.echo(f"Wrote {out}: supervise(..., policy={str(out)!r})")


def _must_be_new(out: Path) -> None:
    """Raise UsageError before hours of work whose result could not be written."""
    if out.exists() or not out.parent.is_dir():
        message = f"{out}: exists already. Remove it, or give --out another name."
        raise UsageError(message if out.exists() else f"{out}: there is no folder {str(out.parent)!r}. Make it first.")


def _onset(run: str) -> tuple[str, int]:
    """Return run and tick of `RUN@TICK`; a folder may have an @ in its name."""
    folder, _, tick = run.rpartition("@")
    return (folder, int(tick)) if folder and tick.isdecimal() and not Path(run).exists() else (run, 0)
