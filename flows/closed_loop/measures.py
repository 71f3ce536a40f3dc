"""What came of a closed loop in numbers: utility, calibration, concentration, suppression, reach."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from flows.closed_loop.judging import BEST, SERVED
from flows.closed_loop.records import Act, Ints, ShownFeed
from flows.feed_worth import TOP, Floats
from infra.world.parameters import DAY_MS
from infra.world.people import TOPIC_COUNT
from schemas.actions import ACTION_INDEX, Action

NEGATIVE: Final = frozenset({"not_interested", "block_author", "mute_author", "report"})
CALIBRATED: Final[tuple[Action, ...]] = ("favorite", "reply", "retweet", "click", "dwell")
POSTS_MIN: Final = 20  # of a viewer, for the spread of their topics to mean anything
# Sessions that go on after the end of the world: fewer feeds than this share of a span are no span of their own.
OVERHANG: Final = 0.1
FEEDS_AROUND: Final = 3  # feeds before and after a negative action


class Utility(Struct, frozen=True):
    """Judged feeds of a span from `day` on: the mean worth of their first posts by who chose them, and as shares.

    `regret` is what the feeds served fall short of the best possible, on average.
    """

    day: float
    feeds: int
    worth: dict[str, float]
    share_of_best: dict[str, float]
    regret: float


class Calibration(Struct, frozen=True):
    """Of an action on posts shown from `day` on: mean chance as predicted and as true, and the mean difference."""

    day: float
    action: str
    predicted: float
    true: float
    mean_error: float


class Concentration(Struct, frozen=True):
    """How narrow feeds are from `day` on, over viewers: how many topics they are as if of, and the largest's share."""

    day: float
    viewers: int
    effective_topics: float
    top_share: float
    top_share_of_taste: float


class Suppression(Struct, frozen=True):
    """Shares of the first posts on a topic in the feeds before and after: of posts refused, and of others beside them.

    `author_after` is how many posts by a blocked author came after, reposted by others or not.
    """

    refused: int
    before: float
    after: float
    others_before: float
    others_after: float
    author_after: int


class Reach(Struct, frozen=True):
    """How views spread over authors and posts: Gini coefficients, and the smaller half of authors' part of them."""

    gini_posts: float
    gini_authors: float
    small_share: float
    small_reached: float


def utility(feeds: Sequence[ShownFeed], start_ms: int, span_ms: int = DAY_MS) -> list[Utility]:
    """Return the utility of judged feeds by span of time, empty spans left out."""
    out = []
    for number, of_span in _spans(feeds, start_ms, span_ms):
        judged = [one.judgement for one in of_span if one.judgement is not None]
        if not judged:
            continue
        worth = {name: float(np.mean([one.worth[name] for one in judged])) for name in judged[0].worth}
        best = worth[BEST]
        shares = {name: value / best for name, value in worth.items()} if best > 0 else {}
        day = number * span_ms / DAY_MS
        out.append(Utility(day, len(judged), worth, shares, best - worth[SERVED]))
    return out


def calibration(feeds: Sequence[ShownFeed], start_ms: int, span_ms: int = DAY_MS) -> list[Calibration]:
    """Return how predictions fit true chances of posts shown, by span and action; feeds without any are left out."""
    out = []
    for number, of_span in _spans(feeds, start_ms, span_ms):
        judged = [one.judgement for one in of_span if one.judgement is not None and len(one.judgement.predicted)]
        if not judged:
            continue
        predicted = np.concatenate([one.predicted for one in judged])
        true = np.concatenate([one.true for one in judged])
        for action in CALIBRATED:
            column = ACTION_INDEX[action]
            said, is_so = predicted[:, column], true[:, column]
            error = float(np.abs(said - is_so).mean())
            out.append(Calibration(number * span_ms / DAY_MS, action, float(said.mean()), float(is_so.mean()), error))
    return out


def concentration(
    feeds: Sequence[ShownFeed],
    posts: npt.NDArray[np.void],
    tastes: Callable[[int], Floats],
    start_ms: int,
    span_ms: int,
) -> list[Concentration]:
    """Return how narrow feeds are by span; `tastes` gives everybody's [P, T] at a time in ms."""
    out = []
    for number, of_span in _spans(feeds, start_ms, span_ms):
        counts: defaultdict[int, Ints] = defaultdict(lambda: np.zeros(TOPIC_COUNT, np.int64))
        for feed in of_span:
            counts[feed.person] += np.bincount(posts["primary"][feed.posts[:TOP]], minlength=TOPIC_COUNT)
        people = [person for person, seen in counts.items() if seen.sum() >= POSTS_MIN]
        if not people:
            continue
        shares = np.array([counts[person] / counts[person].sum() for person in people])
        entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)
        likes = np.maximum(tastes(start_ms + number * span_ms)[people], 0.0)
        out.append(
            Concentration(
                day=number * span_ms / DAY_MS,
                viewers=len(people),
                effective_topics=float(np.exp(entropy).mean()),
                top_share=float(shares.max(1).mean()),
                top_share_of_taste=float((likes.max(1) / likes.sum(1)).mean()),
            )
        )
    return out


def suppression(feeds: Sequence[ShownFeed], acts: Sequence[Act], posts: npt.NDArray[np.void]) -> Suppression:
    """Return what refusing posts does to the feeds that follow.

    A post refused (not interested, blocked, muted, reported) is compared with the others of the same feed on other
    topics, which were shown as much and not refused: what a topic loses for having been shown, both lose.
    """
    by_person: defaultdict[int, list[ShownFeed]] = defaultdict(list)
    for feed in feeds:
        by_person[feed.person].append(feed)
    rows, author_after = [], 0
    for act in acts:
        if act.action not in NEGATIVE:
            continue
        mine = by_person[act.person]
        place = _feed_of(mine, act)
        if place is None:
            continue
        before, after = mine[max(place - FEEDS_AROUND + 1, 0) : place + 1], mine[place + 1 : place + 1 + FEEDS_AROUND]
        if act.action == "block_author":
            author = posts["author"][act.post]
            since = [one.posts for one in mine[place + 1 :] if one.at_ms > act.at_ms]
            author_after += sum(int((posts["author"][shown] == author).sum()) for shown in since)
        if not after:
            continue
        topic = int(posts["primary"][act.post])
        others = np.setdiff1d(posts["primary"][mine[place].posts[:TOP]], [topic])
        shares, later = _topic_shares(before, posts), _topic_shares(after, posts)
        if len(others):
            rows.append((shares[topic], later[topic], shares[others].mean(), later[others].mean()))
    before_after = np.mean(rows, axis=0).tolist() if rows else [0.0] * 4
    was, is_now, others_were, others_are = before_after
    return Suppression(len(rows), was, is_now, others_were, others_are, author_after)


def reach(feeds: Sequence[ShownFeed], posts: npt.NDArray[np.void], followers: Ints) -> Reach:
    """Return how views spread over the originals written and over authors; `followers` [P] says who is small."""
    views = np.bincount(np.concatenate([feed.posts[:TOP] for feed in feeds]), minlength=len(posts))
    originals = posts["original"] == np.arange(len(posts))
    by_author = np.bincount(posts["author"], views, minlength=len(followers))
    writes = np.bincount(posts["author"][originals], minlength=len(followers)) > 0
    small = np.zeros(len(followers), np.bool_)
    small[np.argsort(followers, kind="stable")[: len(followers) // 2]] = True
    return Reach(
        gini_posts=gini(views[originals]),
        gini_authors=gini(by_author[writes]),
        small_share=float(by_author[small].sum() / max(by_author.sum(), 1)),
        small_reached=float((by_author[small & writes] > 0).mean()) if (small & writes).any() else 0.0,
    )


def gini(values: npt.NDArray[np.integer] | npt.NDArray[np.floating]) -> float:
    """Return the Gini coefficient of values [n]: 0 where all are alike, near 1 where one has everything."""
    ordered = np.sort(values.astype(np.float64))
    if not len(ordered) or not ordered.sum():
        return 0.0
    places = np.arange(1, len(ordered) + 1)
    return float((2.0 * places - len(ordered) - 1.0) @ ordered / (len(ordered) * ordered.sum()))


def _spans(feeds: Sequence[ShownFeed], start_ms: int, span_ms: int) -> list[tuple[int, list[ShownFeed]]]:
    """Return feeds by span since the start, in order."""
    spans: defaultdict[int, list[ShownFeed]] = defaultdict(list)
    for feed in feeds:
        spans[max(feed.at_ms - start_ms, 0) // span_ms].append(feed)
    found = sorted(spans.items())
    if len(found) > 1 and len(found[-1][1]) < OVERHANG * len(found[-2][1]):
        _, last = found.pop()
        found[-1][1].extend(last)
    return found


def _feed_of(mine: list[ShownFeed], act: Act) -> int | None:
    """Return which of a person's feeds an act is on: the latest before it that shows the post."""
    for place in range(len(mine) - 1, -1, -1):
        if mine[place].at_ms <= act.at_ms and act.post in mine[place].posts[:TOP]:
            return place
    return None


def _topic_shares(feeds: list[ShownFeed], posts: npt.NDArray[np.void]) -> Floats:
    """Return each topic's share of the first posts of some feeds, float64[T]."""
    topics = np.concatenate([posts["primary"][feed.posts[:TOP]] for feed in feeds])
    shares: Floats = np.bincount(topics, minlength=TOPIC_COUNT) / max(len(topics), 1)
    return shares
