"""The report of a study: one page of HTML with its plots inside, to be read without knowing the code."""

from collections.abc import Sequence
from html import escape
from typing import Final

from flows.closed_loop.drift import KEPT, looped, stated
from flows.closed_loop.judging import BEST, FORESEEN, NEWEST, POPULAR, RANDOM, SERVED, TRUTH
from flows.closed_loop.plots import bars, lines
from flows.closed_loop.study import Figures, final_share, share_text
from infra.world import WorldParameters

WEEKS: Final = 24
STYLE: Final = (
    "body{font-family:sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222;line-height:1.45}"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}table{border-collapse:collapse;font-size:.9rem}"
    "td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child"
    "{text-align:left}code{background:#f4f4f4;padding:.1rem .3rem;font-size:.85rem;overflow-wrap:anywhere}"
    ".by{color:#555;font-size:.85rem}"
)


def page(main: Figures, variants: Sequence[Figures], world: WorldParameters, command: str) -> str:
    """Return the page; `command` is the one that made all of it. The same figures give the same page."""
    parts = [
        "<h1>For You in a closed loop: simulated people, and what serving them does</h1>",
        _what(main, world, command),
        _utility(main),
        _calibration(main),
        _concentration(main, variants),
        _suppression(main, variants),
        _reach(main, variants),
        _arms(main),
        _drift(),
    ]
    head = f'<meta charset="utf-8"><title>For You in a closed loop</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _what(main: Figures, world: WorldParameters, command: str) -> str:
    changed = (
        f" On day {world.taste_change_day:g} everybody trades all topics they like for others."
        if world.taste_change_day
        else ""
    )
    drifting = f" Each day {world.taste_drift_day:.0%} of people trade one topic." if world.taste_drift_day else ""
    models = "; ".join(f"day {day:.2f}: <code>{escape(version)}</code>" for day, version in main.models[-5:])
    return (
        f"<p>{main.people:,} simulated people write, follow, open their feeds and act on what they see for "
        f"{main.days:g} days: {main.events:,} events, {main.feeds:,} feeds. Everybody likes two to four of "
        "sixteen topics, "
        "and the chance of every action on every post is stated, so what a feed is worth to its viewer is known and "
        f"not estimated.{changed}{drifting} The job knows nothing of this. It sees events and serves feeds, and "
        "what it "
        "serves decides what it can learn next: that is the loop.</p>"
        f"<p>Models that served, the last of {len(main.models)}: {models}. New ones take over between two feeds, "
        "without a stop.</p>"
        f"{_by(command, 'All of this page')}{_by(main.command, 'The main loop alone')}"
    )


def _utility(main: Figures) -> str:
    names = {
        SERVED: "For You, as served",
        FORESEEN: "all that can be foreseen",
        TRUTH: "the truth as its model",
        POPULAR: "popular posts",
        NEWEST: "newest of followed",
        RANDOM: "at random",
    }
    series = {
        label: [(one.day, one.share_of_best[name]) for one in main.utility if name in one.share_of_best]
        for name, label in names.items()
    }
    rows = [
        (f"{one.day:g}", f"{one.feeds}", f"{one.worth[BEST]:.3f}", f"{one.worth[SERVED]:.3f}", f"{one.regret:.3f}")
        for one in main.utility
    ]
    last, foreseen = share_text(final_share(main)), share_text(final_share(main, FORESEEN))
    said = (
        f"On the last day the feeds served are worth {last} of the best possible, {foreseen} of that. " if rows else ""
    )
    return (
        "<h2>What feeds are worth, day by day</h2>"
        "<p>The worth of a post to its viewer is the sum of the true chances of every action, each times X's "
        "weight for it; a feed is worth the mean of its first ten places, an empty one nothing. "
        "The best possible is chosen by somebody who knows everybody's taste, each post's quality and each "
        "session's topic. “All that can be foreseen” is chosen by somebody who knows tastes, habits and authors, "
        "and weighs what everybody's looks at a post say of it: "
        "that is about the most one could have learned. "
        f"{said}“The truth as its model” is the same job, its diversity and its factors included, with the truth "
        "in the "
        "model's place: no model can do better with these parameters. Below zero, a feed does more harm than "
        "good: people turn away from more than they like. Upright lines: a new model took over.</p>"
        + lines(
            {name: points for name, points in series.items() if points},
            "day",
            "share of the best",
            [day for day, _ in main.models[1:]] if len(main.models) <= 60 else (),
        )
        + _table(("day", "feeds judged", "best possible", "served", "regret"), rows)
        + _by(main.command)
    )


def _calibration(main: Figures) -> str:
    actions = list(dict.fromkeys(one.action for one in main.calibration))
    ratios = {
        action: [
            (one.day, one.predicted / one.true) for one in main.calibration if one.action == action and one.true > 0
        ]
        for action in actions
    }
    last = main.calibration[-len(actions) :] if actions else []
    rows = [(one.action, f"{one.predicted:.4f}", f"{one.true:.4f}", f"{one.mean_error:.4f}") for one in last]
    return (
        "<h2>Does the model know what people will do?</h2>"
        "<p>What the model said of the posts it showed, over what is true; 1 is right. The truth is that of a "
        "post that is "
        "looked at. People leave a feed with 3 in 100 after each post, and the model learns from what was shown, "
        "looked at "
        "or not: somewhat below 1 is what a perfect one would say.</p>"
        + lines(ratios, "day", "predicted / true")
        + "<p>The last day, in chances; the error is the mean difference, post by post.</p>"
        + _table(("action", "predicted", "true", "error"), rows)
        + _by(main.command)
    )


def _concentration(main: Figures, variants: Sequence[Figures]) -> str:
    series = {"feeds": [(one.day, one.effective_topics) for one in main.concentration]}
    many = {one.name: [(part.day, part.effective_topics) for part in one.concentration] for one in variants}
    rows = [
        (
            one.name,
            f"{one.concentration[-1].effective_topics:.2f}",
            f"{one.concentration[-1].top_share:.0%}",
            f"{one.concentration[-1].top_share_of_taste:.0%}",
        )
        for one in (*variants, main)
        if one.concentration
    ]
    return (
        "<h2>Do feeds narrow people down?</h2>"
        "<p>How many topics a viewer's feeds are as if made of in equal parts (the exponential of their entropy), "
        "averaged over "
        "viewers. Falling lines are amplification: what was engaged with brings more of the same.</p>"
        + lines(series, "day", "topics")
        + _by(main.command)
        + (
            "<p>The same in small worlds under changed parameters:</p>" + lines(many, "day", "topics")
            if variants
            else ""
        )
        + _table(("at the end", "topics", "largest topic in feeds", "largest in tastes"), rows)
        + _bys(variants)
    )


def _suppression(main: Figures, variants: Sequence[Figures]) -> str:
    rows = []
    for one in (*variants, main):
        found = one.suppression
        rows.append(
            (
                one.name,
                f"{found.refused}",
                f"{found.before:.1%} → {found.after:.1%}",
                f"{found.others_before:.1%} → {found.others_after:.1%}",
                f"{found.author_after}",
            )
        )
    return (
        "<h2>Does saying no help?</h2>"
        "<p>After “not interested”, a block, a mute or a report: the share of that post's topic in the viewer's "
        "three feeds up "
        "to then and the three after. Topics that were shown beside it and not refused lose, too, for having been "
        "shown lately; what refusal does is the difference between the two. The last column counts posts by blocked "
        "authors, reposted by others or not, that came all the same.</p>"
        + _table(("", "refused", "refused topic", "others beside it", "blocked author"), rows)
        + _bys(variants)
    )


def _reach(main: Figures, variants: Sequence[Figures]) -> str:
    told = (*variants, main)
    rows = [
        (
            one.name,
            share_text(final_share(one)),
            f"{one.reach.gini_posts:.2f}",
            f"{one.reach.gini_authors:.2f}",
            f"{one.reach.small_share:.1%}",
            f"{one.reach.small_reached:.0%}",
        )
        for one in told
    ]
    words = "".join(f"<li><b>{escape(one.name)}</b>: {escape(one.words)}</li>" for one in variants)
    return (
        "<h2>Who is seen, and what each parameter moves</h2>"
        "<p>Views are counted in the first ten posts. The Gini coefficient is 0 where all are seen alike and near "
        "1 where a "
        "few are seen by everybody. Small authors are the half with the fewest followers: their part of all "
        "views, and how "
        f"many of them anybody saw.</p><ul>{words}</ul>"
        + _table(("", "worth", "Gini, posts", "Gini, authors", "small: views", "small: seen"), rows)
        + bars([(one.name, one.reach.small_share) for one in told], ".1%")
        + _bys(variants)
    )


def _arms(main: Figures) -> str:
    if not main.looks:
        return ""
    contrasts = main.looks[-1].comparison.contrasts
    differences = {
        one.name: [(look.day, found.difference) for look in main.looks for found in look.comparison.contrasts
                   if found.name == one.name]
        for one in contrasts
    }  # fmt: skip
    means = [
        (one.name, f"{one.viewers}", f"{one.mean:.3f}", _span(one.low, one.high))
        for one in main.looks[-1].comparison.arms
    ]
    rows = [
        (one.name, f"{one.difference:+.3f}", _span(one.low, one.high), f"{one.p_value:.2g}", one.decision)
        for one in contrasts
    ]
    return (
        "<h2>Arms side by side</h2>"
        f"<p>People fall into arms by a hash; the first is the control. Looked at {len(main.looks)} times, four times "
        "a day: intervals of differences hold however often one looks, and the loop ends at the first decision. What "
        "is counted is per feed, a person being the unit.</p>"
        + lines(differences, "day", "difference to the control")
        + _table(("arm", "people", "mean", "interval"), means)
        + _table(("arm", "difference", "always valid", "p", "decision"), rows)
        + _by(main.command)
    )


def _span(low: float | None, high: float | None) -> str:
    return "unknown" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _drift() -> str:
    weeks = range(WEEKS + 1)
    series = {
        "2023, as stated": list(zip(weeks, stated(WEEKS).tolist(), strict=True)),
        "2023: profile × quality": list(zip(weeks, looped(WEEKS, "counts").tolist(), strict=True)),
        "chances × quality": list(zip(weeks, looped(WEEKS, "chances").tolist(), strict=True)),
    }
    at = stated(WEEKS)
    return (
        "<h2>A viewer of 60/40 interests over 24 weeks</h2>"
        "<p>The feed of 2023 multiplied a post's quality with the viewer's interest in its cluster, taken from "
        "past engagement. "
        "More shown is more engaged with is more interest: by the stated formula 60/40 drifts to "
        f"{at[12]:.0%} after 12 weeks and {at[24]:.0%} after 24, and ends near 80/20 (with the rate of .008 a "
        "week). The second "
        f"line is that loop itself, a profile that keeps {KEPT:.0%} a week; without a brake it goes on to the "
        "end. The third is "
        "a feed that knows the chance of engagement of a post shown, as Phoenix does: showing more of an interest "
        "does not "
        "change that chance, so the feed favours the larger interest from the start, and stays there. These three "
        "are "
        "computed, not simulated; the lines above under “Do feeds narrow people down?” are what this job does.</p>"
        + lines(series, "week", "share of the larger interest")
        + _by("python -m pytest tests/flows/closed_loop/test_drift.py", "The numbers are held by")
    )


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _by(command: str, what: str = "Made by") -> str:
    return f'<p class="by">{what}: <code>{escape(command)}</code></p>'


def _bys(variants: Sequence[Figures]) -> str:
    return "".join(_by(one.command, f"“{escape(one.name)}”") for one in variants)
