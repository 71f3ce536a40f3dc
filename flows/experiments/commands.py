"""The command that says what came of an experiment."""

from pathlib import Path
from typing import Annotated

import typer

from flows.experiments.analysis import Comparison, Rules
from flows.experiments.arms import analyse
from flows.experiments.outcomes import Metric, read_feeds
from flows.experiments.shadows import read_shadow_scores
from flows.options import Json
from flows.replay import SHADOW_SCORES
from flows.terminal import bar, console, print_json, refusals, rows_table


def experiment(
    feeds: Annotated[Path, typer.Argument(help="the folder of a replay, or JSON Lines of the topic feeds")],
    engagements: Annotated[Path, typer.Option(help="the log that says what viewers did")],
    metric: Annotated[str, typer.Option(help="an action, or dwell_s")] = "favorite",
    name: Annotated[str, typer.Option(help="the experiment, where feeds are of several")] = "",
    control: Annotated[str, typer.Option(help="the arm that others are held against")] = "",
    shadow: Annotated[
        Path | None, typer.Option(help="JSON Lines of the topic shadow-scores; those of the replay if left out")
    ] = None,
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5, help="how often intervals may miss")] = 0.05,
    margin: Annotated[float, typer.Option(min=0, help="share of control's mean that makes no difference")] = 0.01,
    effect: Annotated[float, typer.Option(min=0.0001, help="share to be found soonest; choose it beforehand")] = 0.1,
    as_json: Json = False,
) -> None:
    """Compare the arms of an experiment by what viewers did: means, differences for looking at daily, a decision.

    A viewer is the unit, and what is counted is the metric per feed: actions within an hour on posts that the feed
    shows. Where there are shadow scores, models are compared by how well they foretold it.

    Example: `run_flow.py experiment out/replay --engagements out/demo/log.jsonl.zst --metric favorite`
    """
    with refusals():
        meant = Metric(metric)
        rules = Rules(alpha=alpha, margin=margin, effect=effect, lower_is_better=meant.lower_is_better)
        given = shadow or feeds / SHADOW_SCORES
        scores = [] if shadow is None and not given.is_file() else read_shadow_scores(given)
        with bar(f"reading {engagements.name}", as_json) as progress:
            found = analyse(read_feeds(feeds), engagements, meant, rules, name, control, scores, progress)
    if as_json:
        print_json(found)
        return
    if found.arms is not None:
        show_comparison(f"{found.experiment}: {metric} per feed", found.arms)
    if found.shadows is not None:
        compared = found.shadows
        told = f"shadow scores of {compared.posts:,} posts shown in {compared.requests:,} feeds"
        for title, one in (("pairs in the right order", compared.order), ("error per post", compared.error)):
            if one is not None:
                show_comparison(f"{told}: {metric}, {title}", one)


def show_comparison(title: str, comparison: Comparison) -> None:
    """Print a table of arms, and what to do about each."""
    rows = [
        {"arm": arm.name, "viewers": arm.viewers, "mean": arm.mean, "interval": _interval(arm.low, arm.high)}
        for arm in comparison.arms
    ]
    console.print(rows_table(title, rows))
    for one in comparison.contrasts:
        share = "" if one.share is None else f" ({one.share:+.1%})"
        interval = f"{_interval(one.low, one.high)} however often looked at, p {one.p_value:.2g}"
        told = f"{one.name} against {comparison.arms[0].name}: {one.difference:+.4g}{share}, {interval}: {one.decision}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def _interval(low: float | None, high: float | None) -> str:
    return "unknown" if low is None or high is None else f"{low:.4g} to {high:.4g}"


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(experiment)
