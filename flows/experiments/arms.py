"""The arms of an experiment from feeds, which say who was in which, and a log, which says what they did."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from flows.experiments.analysis import Comparison, Rules, Sums, compare
from flows.experiments.outcomes import Metric, Outcomes, ShownFeed, ShownPost
from flows.experiments.shadows import ShadowComparison, compare_shadows
from flows.terminal import Refusal
from infra.logs.reader import LogReader
from infra.polls import latest_accepted_ms
from schemas.codec import decode_batch
from schemas.events import Engagement, Served
from schemas.feeds import ShadowScores
from schemas.ids import Id, key_of


class Analysis(Struct, frozen=True):
    """What an experiment and shadow scores say of one metric: per feed, and per post that was shown."""

    metric: str
    experiment: str
    arms: Comparison | None
    shadows: ShadowComparison | None


def sums_by_arm(
    feeds: Iterable[ShownFeed], values: dict[Id, dict[int, float]], experiment: str, control: str = ""
) -> dict[str, Sums]:
    """Return by arm what each viewer did over feeds, the control first: the one named, or `control`, or the first name.

    `values` are those of the posts acted on, by request. A viewer belongs to an arm from the first feed that says so,
    whether or not anything was done. Raises Refusal for one in two arms, and for an arm that nobody is in.
    """
    arm_of: dict[int, str] = {}
    done: dict[int, tuple[float, float]] = {}
    for feed in feeds:
        arm, viewer = feed.experiments.get(experiment), key_of(feed.viewer)
        if arm is None:
            continue
        if arm_of.setdefault(viewer, arm) != arm:
            both = f"{arm_of[viewer]} and {arm}"
            raise Refusal(f"viewer {feed.viewer} is in two arms of {experiment}, {both}: give feeds of one run")
        value, count = done.get(viewer, (0.0, 0.0))
        done[viewer] = value + sum(values.get(feed.request, {}).values()), count + 1.0
    names = sorted(set(arm_of.values()))
    first = control or ("control" if "control" in names else "".join(names[:1]))
    if first not in names:
        raise Refusal(f"no viewer is in the arm {first} of {experiment}: name one of {', '.join(names) or 'none'}")
    ordered = [first, *(name for name in names if name != first)]
    return {name: Sums.of([done[viewer] for viewer in done if arm_of[viewer] == name]) for name in ordered}


def chosen_experiment(feeds: Iterable[ShownFeed], name: str) -> str:
    """Return the experiment that is meant, nothing where feeds tell of none. Raises Refusal where it isn't clear."""
    names = sorted({one for feed in feeds for one in feed.experiments})
    if name and name not in names:
        raise Refusal(f"no feed is of an experiment {name}: the feeds tell of {', '.join(names) or 'none'}")
    if not name and len(names) > 1:
        raise Refusal(f"the feeds are of several experiments: choose one of {', '.join(names)} with --name")
    return name or "".join(names)


def analyse(
    feeds: Sequence[ShownFeed],
    log: Path,
    metric: Metric,
    rules: Rules,
    experiment: str = "",
    control: str = "",
    shadows: Iterable[ShadowScores] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """Return the arms of an experiment beside each other, and the models of shadow scores, by what a log says was done.

    Shadow scores go by what the log says was served, where it does: in a replay viewers never saw the feeds. Raises
    Refusal where the feeds tell of no experiment and there are no scores, or of several and none is named.
    """
    experiment = chosen_experiment(feeds, experiment)
    scores = list(shadows)
    if not experiment and not scores:
        raise Refusal(
            "the feeds tell of no experiment and there are no shadow scores: replay or serve with --experiments FILE"
        )
    answered, served = Outcomes(metric), Outcomes(metric)
    for feed in sorted(feeds, key=lambda one: one.at):
        answered.show(feed.viewer, feed.at, feed.request, feed.items)
    log_tells = _read(log, answered, served, progress)
    arms = None
    if experiment:
        sums = sums_by_arm(feeds, answered.of, experiment, control)
        if len(sums) < 2 and not scores:
            raise Refusal(f"all viewers are in one arm of {experiment}: there is nothing to compare")
        arms = compare(sums, rules) if len(sums) > 1 else None
    compared = compare_shadows(scores, served if log_tells else answered, rules) if scores else None
    return Analysis(metric.name, experiment, arms, compared)


def _read(log: Path, answered: Outcomes, served: Outcomes, progress: Callable[[int, int], None] | None) -> bool:
    """Tell what a log says was done, and served; return whether it says what was served."""
    reader, at_max, tells = LogReader(log), latest_accepted_ms(), False
    for batch in reader.batches():
        if progress is not None:
            progress(reader.bytes_read, reader.bytes_total)
        for event in decode_batch(batch.raw, at_max):
            if isinstance(event, Engagement):
                answered.take(event)
                served.take(event)
            elif isinstance(event, Served):
                served.show(event.viewer, event.at, event.request, [ShownPost(post) for post in event.posts])
                tells = True
    return tells
