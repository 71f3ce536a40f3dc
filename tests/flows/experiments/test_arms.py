"""An experiment read from feeds and a log, by hand: who did what with which feed, and what models foretold."""

from math import log
from pathlib import Path

import msgspec
import pytest

from flows.experiments.analysis import Rules
from flows.experiments.arms import Analysis, analyse
from flows.experiments.outcomes import Metric, read_feeds
from flows.terminal import Refusal
from schemas.codec import encode
from schemas.events import Engagement, Event, Served
from schemas.feeds import Feed, FeedItem, ShadowScores
from schemas.ids import Id
from tests.acceptance.playing import MINUTE, T0, write_log
from tests.acceptance.test_command_line import run, run_json

RULES = Rules(viewers_min=1)


def feed(viewer: Id, number: int, arm: str, *posts: Id, experiment: str = "length", error: str | None = None) -> Feed:
    """Return a feed of `posts` at minute `number`."""
    items = tuple(FeedItem(post, 9, 1.0, "thunder", True, "why") for post in posts)
    at = T0 + number * MINUTE
    return Feed(at, f"{viewer}/{number}", viewer, "m", items, (), experiments={experiment: arm}, error=error)


def like(viewer: Id, post: Id, minute: float, **fields: object) -> Engagement:
    return Engagement(T0 + int(minute * MINUTE), viewer, post, "favorite", **fields)  # type: ignore[arg-type]


def written(folder: Path, feeds: list[Feed], events: list[Event], scores: list[ShadowScores] | None = None) -> Path:
    """Write feeds, shadow scores and a log into a folder as a replay does."""
    (folder / "feeds.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in feeds))
    if scores is not None:
        (folder / "shadow-scores.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in scores))
    write_log(folder / "log.jsonl", events)
    return folder


def found(folder: Path, metric: str = "favorite", **options: object) -> Analysis:
    return analyse(read_feeds(folder), folder / "log.jsonl", Metric(metric), RULES, **options)  # type: ignore[arg-type]


def means(analysis: Analysis) -> dict[str, tuple[int, float, float]]:
    assert analysis.arms is not None
    return {arm.name: (arm.viewers, arm.count, arm.mean) for arm in analysis.arms.arms}


def test_what_counts_for_which_feed(tmp_path: Path) -> None:
    feeds = [
        feed("ann", 0, "short", 1, 2), feed("ann", 90, "short", 2, 3),
        feed("bob", 0, "control", 1, 2, 3),
        feed("cid", 0, "control", 4), feed("cid", 1, "control", error="shed"),
    ]  # fmt: skip
    events: list[Event] = [
        like("ann", 1, 1), like("ann", 1, 2),  # the same twice: once
        like("ann", 2, 89), like("ann", 2, 91), like("ann", 2, 92, undo=True),  # too late for the first feed
        like("ann", 4, 92),  # not in ann's feeds
        like("ann", 3, 149), like("bob", 1, 60), like("bob", 2, 60.01), like("bob", 3, -1),  # an hour, and not before
        Engagement(T0 + MINUTE, "cid", 4, "reply"), like("dan", 4, 1),
    ]  # fmt: skip
    analysis = found(written(tmp_path, feeds, events))
    # ann: 1, then 2 and 3, of two feeds; bob 1 of one, cid 0 of one that was answered.
    assert means(analysis) == {"control": (2, 2.0, 0.5), "short": (1, 2.0, 1.5)}
    assert analysis.arms is not None
    (contrast,) = analysis.arms.contrasts
    assert (contrast.name, contrast.difference, contrast.share) == ("short", 1.0, 2.0)
    assert (contrast.low, contrast.decision) == (None, "go on"), "of one viewer nothing is known"
    assert means(found(tmp_path, "reply")) == {"control": (2, 2.0, 0.5), "short": (1, 2.0, 0.0)}
    assert list(means(found(tmp_path, control="short"))) == ["short", "control"]


def test_seconds_add_up_and_a_repost_stands_for_its_original(tmp_path: Path) -> None:
    item = FeedItem(11, 9, 1.0, "thunder", True, "why", repost_of=1)
    feeds = [msgspec.structs.replace(feed(1, 0, "a"), items=(item,)), feed(2, 0, "b", 1)]
    seconds = [
        Engagement(T0 + MINUTE, viewer, post, "dwell_time", dwell_s=dwell_s)
        for viewer, post, dwell_s in [(1, 1, 2.5), (1, 11, 4.0), (2, 1, 3.0)]
    ]
    analysis = found(written(tmp_path, feeds, [*seconds, like(1, 1, 2)]), "dwell_s")
    assert means(analysis) == {"a": (1, 1.0, 6.5), "b": (1, 1.0, 3.0)}


def scored(viewer: Id, number: int, posts: tuple[Id, ...], **by_model: list[float]) -> ShadowScores:
    at = T0 + number * MINUTE
    scores = {f"phoenix.{name}.favorite": values for name, values in by_model.items()}
    models = {name: "v" for name in by_model}
    return ShadowScores(at, f"{viewer}/{number}", viewer, "prod", "v", models, len(posts), posts, scores)


def test_models_are_held_against_what_happened_to_posts_that_were_shown(tmp_path: Path) -> None:
    feeds = [feed(1, 0, "a", 1, 2, 3), feed(2, 0, "a", 1, 2), feed(2, 5, "a", 7, 8)]
    scores = [
        # Post 9 was not shown. 1 is liked: prod has it above 3 and below 2, the other model above both.
        scored(1, 0, (1, 2, 3, 9), prod=[0.5, 0.75, 0.25, 0.9], new=[0.75, 0.5, 0.5, 0.1]),
        # 2 is liked: prod can't tell, the other model has it wrong.
        scored(2, 0, (1, 2), prod=[0.5, 0.5], new=[0.5, 0.25]),
        # Nobody liked any: no pairs, but errors.
        scored(2, 5, (7, 8), prod=[0.5, 0.0], new=[0.5, 0.5]),
        # The other model failed.
        scored(1, 9, (1,), prod=[0.5]),
    ]
    written(tmp_path, feeds, [like(1, 1, 1), like(2, 2, 1)], scores)
    analysis = found(tmp_path, shadows=scores, experiment="length")
    shadows = analysis.shadows
    assert shadows is not None
    assert (shadows.requests, shadows.posts) == (3, 7)
    assert shadows.order is not None
    assert shadows.error is not None
    assert {arm.name: arm.mean for arm in shadows.order.arms} == {"prod": (1 + 0.5) / 3, "new": (2 + 0) / 3}
    assert [(arm.viewers, arm.count) for arm in shadows.order.arms] == [(2, 3.0), (2, 3.0)]
    prod = -(log(0.5) + log(0.25) + log(0.75) + 2 * log(0.5) + log(0.5) + log(1 - 1e-6)) / 7
    new = -(log(0.75) + 2 * log(0.5) + log(0.5) + log(0.25) + 2 * log(0.5)) / 7
    assert {arm.name: pytest.approx(arm.mean) for arm in shadows.error.arms} == {"prod": prod, "new": new}
    assert shadows.error.contrasts[0].difference == pytest.approx(new - prod)


def test_in_a_replay_models_go_by_what_the_log_says_was_served(tmp_path: Path) -> None:
    # The replay's feed shows 1 and 2; the viewer saw 2 and 3, and liked 3.
    feeds = [feed(1, 0, "a", 1, 2), feed(2, 0, "b", 1)]
    scores = [scored(1, 0, (1, 2, 3), prod=[0.9, 0.5, 0.25], new=[0.9, 0.25, 0.5])]
    served = Served(T0, "1/0", 1, (2, 3))
    written(tmp_path, feeds, [served, like(1, 3, 1)], scores)
    shadows = found(tmp_path, shadows=scores).shadows
    assert shadows is not None
    assert shadows.order is not None
    assert {arm.name: arm.mean for arm in shadows.order.arms} == {"prod": 0.0, "new": 1.0}


def test_what_can_not_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no metric is called likes: choose one of favorite, reply"):
        Metric("likes")
    both = [feed(1, 0, "a", 1), feed(1, 1, "b", 1)]
    with pytest.raises(Refusal, match="viewer 1 is in two arms of length, a and b: give feeds of one run"):
        found(written(tmp_path, both, []))
    with pytest.raises(Refusal, match="all viewers are in one arm of length"):
        found(written(tmp_path, both[:1], []))
    several = [feed(1, 0, "a", 1), feed(2, 0, "b", 1, experiment="network")]
    with pytest.raises(Refusal, match="choose one of length, network with --name"):
        found(written(tmp_path, several, []))
    with pytest.raises(Refusal, match="no feed is of an experiment width: the feeds tell of length, network"):
        found(tmp_path, experiment="width")
    with pytest.raises(Refusal, match="no viewer is in the arm c of length: name one of a"):
        found(tmp_path, experiment="length", control="c")
    none = [msgspec.structs.replace(feed(1, 0, "a", 1), experiments={})]
    with pytest.raises(Refusal, match="the feeds tell of no experiment and there are no shadow scores"):
        found(written(tmp_path, none, []))
    with pytest.raises(Refusal, match=r"feeds.jsonl has no feeds"):
        read_feeds(written(tmp_path, [], []))
    (tmp_path / "feeds.jsonl").write_bytes(encode(like(1, 1, 1)) + b"\n")
    with pytest.raises(Refusal, match=r"feeds.jsonl:1 is no feed"):
        read_feeds(tmp_path)


def test_the_command_tells_arms_and_decision(tmp_path: Path) -> None:
    feeds = [feed(viewer, 0, "control" if viewer % 2 else "short", 1, 2) for viewer in range(1, 201)]
    likes: list[Event] = [like(viewer, 1, 1) for viewer in range(1, 201) if viewer % 2 == 0 or viewer % 10 == 1]
    written(tmp_path, feeds, likes)
    asked = ("experiment", tmp_path, "--engagements", tmp_path / "log.jsonl")
    told = run_json(*asked)
    assert [(arm["name"], arm["viewers"], arm["mean"]) for arm in told["arms"]["arms"]] == [
        ("control", 100, 0.2), ("short", 100, 1.0),
    ]  # fmt: skip
    assert told["arms"]["contrasts"][0]["decision"] == "treatment better"
    assert "treatment better" in " ".join(run(*asked).stdout.split())
    refused = run(*asked, "--metric", "likes")
    assert refused.exit_code == 2
    assert "no metric is called likes" in " ".join(refused.stderr.split())
    assert run("experiment", tmp_path / "nowhere", "--engagements", tmp_path / "log.jsonl").exit_code == 2
