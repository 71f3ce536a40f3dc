"""What people look at: a feed with its reasons, and tables of what happened."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.replay import Summary
from infra.logs.reader import LogReader
from operators.pipeline.filters import PRE_SCORING
from operators.pipeline.scorers.steps import OPERATIONS
from schemas.codec import Refused, decode
from schemas.events import PostCreated
from schemas.feeds import Feed, FeedItem, Module, ScoreExplanation, ScoreStep
from schemas.ids import Id

_CREATED: Final = b'"post_created"'
# Contributions smaller than this share of the largest are left out of the picture; JSON has them all.
SHOWN_SHARE: Final = 0.02


def posts_of(log: Path, wanted: set[Id]) -> dict[Id, PostCreated]:
    """Return posts of a log by id: feeds carry ids, the log has the texts."""
    found: dict[Id, PostCreated] = {}
    for batch in LogReader(log).batches():
        for line in batch.raw:
            if _CREATED not in line:
                continue
            try:
                event = decode(line)
            except Refused:
                continue
            if isinstance(event, PostCreated) and event.post in wanted:
                found.setdefault(event.post, event)
    return found


def related_posts(feeds: Iterable[Feed]) -> set[Id]:
    """Return the posts whose texts a picture of these feeds needs."""
    return {post for feed in feeds for item in feed.items for post in (item.post, item.repost_of) if post is not None}


def feed_picture(feed: Feed, posts: dict[Id, PostCreated], explain: bool = False) -> RenderableType:
    """Return a feed as a person reads it; with `explain`, how each score came about and what was dropped why."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for name, justify in (("#", "right"), ("score", "right"), ("", "left"), ("post", "left"), ("why", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    modules = {one.position: one for one in feed.modules}
    for place, item in enumerate(feed.items, 1):
        _add_modules(table, modules)
        table.add_row(
            str(place),
            f"{item.score:.4f}",
            Text("in" if item.in_network else "out", style="green" if item.in_network else "cyan"),
            _post_text(item, posts),
            Text(item.why + (f"; {item.dropped_by} would drop it" if item.dropped_by else ""), style="dim"),
        )
    _add_modules(table, modules)
    parts: list[RenderableType] = [table]
    if explain:
        parts += [_explanation(place, item) for place, item in enumerate(feed.items, 1)]
        parts.append(_dropped(feed))
    if feed.error is not None:
        parts.append(Text(feed.error, style="red"))
    if feed.unknown:
        parts.append(Text(f"not live: {', '.join(map(str, feed.unknown))}", style="red"))
    if feed.cursor is not None:
        parts.append(Text(f"more: --cursor {feed.cursor}", style="dim"))
    if feed.degraded:
        parts.append(Text(f"went without: {', '.join(feed.degraded)}", style="red"))
    when = datetime.fromtimestamp(feed.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return Panel(
        Group(*parts),
        title=f"{feed.feed} of {feed.viewer} at {when} UTC",
        subtitle=f"model {feed.model}" if feed.model else "",
    )


def _add_modules(table: Table, modules: dict[int, Module]) -> None:
    """Add the modules that stand at the next place of the feed, and after those at the places behind them."""
    while module := modules.pop(table.row_count, None):
        told = f"{module.kind.replace('_', ' ')} {module.id if module.id is not None else ''}"
        whom = ", ".join(f"@{one.author} ({one.why})" for one in module.suggestions)
        table.add_row("", "", "", Text(f"{told}{whom}", style="magenta"), "")


def _post_text(item: FeedItem, posts: dict[Id, PostCreated]) -> Text:
    shown = posts.get(item.repost_of if item.repost_of is not None else item.post)
    text = Text()
    text.append(f"@{item.author} ", style="bold")
    if item.repost_of is not None:
        text.append(f"reposted {'@' + str(shown.author) if shown else ''} ", style="dim")
    if item.interstitial:
        text.append(f"[{item.interstitial}] ", style="yellow")
    text.append(shown.text if shown and shown.text else f"post {item.post}")
    if shown and shown.topics:
        text.append(f"  #{' #'.join(shown.topics)}", style="blue")
    return text


# How a step of a score is written.
_SIGNS: Final = {"is": "=", "at_least": "≥", "times": "×"}


def _explanation(place: int, item: FeedItem) -> RenderableType:
    told = item.explanation
    if told is None:
        return Text("")
    counts = ", ".join(f"{count:,} {name}" for name, count in item.counts.items())
    largest = max((abs(value) for value in told.contributions.values()), default=0.0)
    parts = [
        f"{name} {told.probabilities[name]:.3g} → {value:+.4f}"
        for name, value in sorted(told.contributions.items(), key=lambda pair: -abs(pair[1]))
        if abs(value) > largest * SHOWN_SHARE
    ]
    steps = ", ".join(f"{step.name} {_SIGNS[step.operation]} {step.value:.4g}" for step in _that_changed(told))
    return Text(
        f"{place:>3}. rank {told.rank_before} → {place}: {', '.join(parts)} = {told.weighted:.4f}; "
        f"{steps} = {item.score:.4f}"
        + (f"; failed on it: {', '.join(told.failed)}" if told.failed else "")
        + (f"; so far {counts}" if counts else ""),
        style="dim",
    )


def _that_changed(told: ScoreExplanation) -> Iterator[ScoreStep]:
    """Yield the steps that changed the score."""
    score = told.weighted
    for step in told.steps:
        after = float(OPERATIONS[step.operation](np.array(score), np.array(step.value)))
        if after != score:
            yield step
        score = after


def _dropped(feed: Feed) -> RenderableType:
    table = Table(title="what was dropped, and why", title_justify="left", box=None, header_style="dim")
    table.add_column("stage")
    table.add_column("posts", justify="right")
    table.add_column("rule")
    for one in feed.dropped:
        table.add_row(one.stage, str(len(one.posts)), one.rule)
    return table


def summary_picture(summary: Summary) -> RenderableType:
    """Return the table of what happened in a replay."""
    return Group(_counts(summary), _stages(summary), _latency(summary), _dead_letters(summary))


def _counts(summary: Summary) -> Table:
    table = Table(title="what happened", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    shares = f"{summary.in_network_items / summary.items:.1%}" if summary.items else "-"
    rate = f"{summary.events / summary.wall_s:,.0f}/s" if summary.wall_s else "-"
    for name, value in (
        ("events in", f"{summary.events:,}"),
        ("dead letters", f"{sum(summary.dead_letters.values()):,}"),
        ("feeds out", f"{summary.feeds:,}"),
        ("posts in them", f"{summary.items:,}"),
        ("of them in-network", shares),
        ("live posts at the end", f"{summary.live_posts:,}"),
        ("viewers known", f"{summary.viewers:,}"),
        ("time", f"{summary.wall_s:.1f} s, {rate} events"),
        ("model", summary.model),
    ):
        table.add_row(name, value)
    for name, count in summary.degraded.items():
        table.add_row(f"feeds without {name}", f"{count:,}", style="red")
    return table


def _stages(summary: Summary) -> Table:
    table = Table(title="candidates by stage, all feeds", title_justify="left")
    table.add_column("stage")
    for name in ("given", "kept", "removed", "a feed"):
        table.add_column(name, justify="right")
    for name, total in sorted(summary.stages.items(), key=lambda item: _place(item[0])):
        removed = total.given - total.kept
        mean = f"{removed / summary.feeds:,.1f}" if summary.feeds else "-"
        table.add_row(name, f"{total.given:,}", f"{total.kept:,}", f"{removed:,}", mean)
    return table


def _place(stage: str) -> int:
    """Return where a stage stands: what runs only for some requests may have come up first or last."""
    order = [one.name for one in PRE_SCORING]
    if stage.startswith("source."):
        return -1
    return order.index(stage) if stage in order else len(order)


def _latency(summary: Summary) -> Table:
    table = Table(title="latency by stage, ms", title_justify="left")
    table.add_column("stage")
    for name in ("count", "p50", "p90", "p99"):
        table.add_column(name, justify="right")
    for row in summary.latency:
        values = [f"{float(row[f'latency_ms_{p}']):.3f}" for p in ("p50", "p90", "p99")]
        table.add_row(str(row["stage"]), f"{int(row['count']):,}", *values)
    return table


def _dead_letters(summary: Summary) -> Table:
    table = Table(title="dead letters by reason", title_justify="left")
    table.add_column("reason", overflow="fold")
    table.add_column("count", justify="right")
    for reason, count in summary.dead_letters.items():
        table.add_row(reason, f"{count:,}")
    return table


def show(what: RenderableType, console: Console | None = None) -> None:
    """Print to the terminal."""
    (console or Console()).print(what)
