"""What a feed says of itself adds up: from JSON alone, to the last bit."""

import json
from pathlib import Path
from typing import Any

import pytest

from operators.parameters import CONTINUOUS_WEIGHTS, DEFAULTS, Weights
from operators.pipeline.filters import AT_THE_SLATE, PRE_SCORING
from operators.pipeline.selection import POST_SELECTION
from operators.visibility import DEFAULT
from schemas.actions import ACTIONS
from schemas.codec import Refused, decode
from schemas.events import FeedRequest
from tests.acceptance.playing import Played, Player

CUTS = {"candidates_max", "top_k", "truncate"}
RULES = {one.name: {one.rule} for one in (*PRE_SCORING, *AT_THE_SLATE, *POST_SELECTION)}
# These two tell which of the declared rules it was.
RULES["visibility"] = RULES["ancillary_visibility"] = {f"{one.reason} ({one.name})" for one in DEFAULT.all}


@pytest.fixture(scope="module")
def played(rough_log: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Player(tmp_path_factory.mktemp("explained"), checkpoint).log(rough_log)


@pytest.fixture(scope="module")
def feeds(played: Played) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (played.out / "feeds.jsonl").read_bytes().splitlines()]


@pytest.fixture(scope="module")
def weights(rough_log: Path) -> dict[int | str, dict[str, float]]:
    """The weights of each request: the defaults, or what it sets itself."""
    found = {}
    for line in rough_log.read_bytes().splitlines():
        try:
            event = decode(line)
        except Refused:
            continue
        if isinstance(event, FeedRequest):
            own = {name: value for name, value in event.parameters.items() if name.startswith("weights.")}
            used = DEFAULTS.overridden(own).weights
            found[event.request] = {name: getattr(used, name) for name in Weights.__struct_fields__}
    return found


def test_contributions_offset_and_factors_reproduce_every_score(
    feeds: list[dict[str, Any]], weights: dict[int | str, dict[str, float]]
) -> None:
    checked = 0
    for feed in feeds:
        of = weights[feed["request"]]
        counted = [value for name, value in of.items() if name not in CONTINUOUS_WEIGHTS]
        negative = sum(-value for value in counted if value < 0)
        total = sum(value for value in counted if value > 0) + negative
        for item in feed["items"]:
            told = item.get("explanation")
            if told is None:
                continue
            assert list(told["contributions"]) == list(told["probabilities"]) == list(ACTIONS)
            weighted = 0.0
            for value in told["contributions"].values():
                weighted += value
            assert weighted == told["weighted"]
            offset, *factors = told["steps"]
            assert (offset["name"], offset["operation"]) == ("negative_offset", "is")
            squeezed = (max(weighted, -negative) + negative) / total * 0.001
            assert offset["value"] == (squeezed if weighted < 0 else weighted + 0.001)
            score = offset["value"]
            for factor in factors:
                assert factor["operation"] == ("at_least" if factor["name"] == "author_cold_start" else "times")
                at_least = factor["operation"] == "at_least"
                score = max(score, factor["value"]) if at_least else score * factor["value"]
            assert score == item["score"]
            checked += 1
    assert checked > 100


def test_a_contribution_is_its_weight_times_its_probability(
    feeds: list[dict[str, Any]], weights: dict[int | str, dict[str, float]]
) -> None:
    # Replies to mutual follows and views of short videos have rules of their own.
    plain = [name for name in ACTIONS if name not in {"reply", "vqv"}]
    for feed in feeds:
        for item in feed["items"]:
            if "explanation" in item:
                told = item["explanation"]
                for name in plain:
                    expected = weights[feed["request"]][name] * told["probabilities"][name]
                    assert told["contributions"][name] == expected
                allowed = {weights[feed["request"]]["reply"], weights[feed["request"]]["reply"] + 15.0}
                assert told["contributions"]["reply"] in {w * told["probabilities"]["reply"] for w in allowed}


def test_items_are_in_the_order_of_their_scores(feeds: list[dict[str, Any]]) -> None:
    # A conversation's best post takes the place of the one that came up first, which may lie lower: none here does.
    for feed in feeds:
        scores = [item["score"] for item in feed["items"]]
        assert scores == sorted(scores, reverse=True)
        ranks = [item["explanation"]["rank_before"] for item in feed["items"] if "explanation" in item]
        assert len(set(ranks)) == len(ranks)


def test_what_one_stage_keeps_the_next_is_given(feeds: list[dict[str, Any]]) -> None:
    answered = [feed for feed in feeds if "error" not in feed]
    assert sum("shown_before" in json.dumps(feed["stages"]) for feed in answered) > 5, "some are further pages"
    for feed in answered:
        sources = [stage for stage in feed["stages"] if stage["stage"].startswith("source.")]
        chain = feed["stages"][len(sources) :]
        assert [stage["stage"] for stage in chain if stage["stage"] in CUTS] == ["candidates_max", "top_k", "truncate"]
        kept = sum(stage["kept"] for stage in sources)
        for stage in chain:
            assert stage["given"] == kept, stage
            assert 0 <= stage["kept"] <= stage["given"]
            kept = stage["kept"]
        assert kept == len(feed["items"])


def test_every_post_a_rule_drops_is_named_where_asked(feeds: list[dict[str, Any]]) -> None:
    explained = 0
    for feed in feeds:
        if not feed["items"] or "explanation" not in feed["items"][0]:
            continue
        explained += 1
        dropped = {(one["stage"], one["rule"]): one["posts"] for one in feed["dropped"]}
        assert len(dropped) == len(feed["dropped"]), "each stage and rule once"
        for stage in feed["stages"]:
            removed = {rule: len(posts) for (name, rule), posts in dropped.items() if name == stage["stage"]}
            if stage["stage"] in RULES:
                assert sum(removed.values()) == stage["given"] - stage["kept"]
                assert removed.keys() <= RULES[stage["stage"]]
        shown = {item["post"] for item in feed["items"]}
        assert not shown & {post for (name, _), posts in dropped.items() if name != "drop_duplicates" for post in posts}
    assert explained > 10


def test_the_summary_is_the_sum_of_the_feeds(feeds: list[dict[str, Any]], played: Played) -> None:
    summary = played.summary
    assert summary.feeds == len(feeds)
    assert summary.items == sum(len(feed["items"]) for feed in feeds)
    assert summary.in_network_items == sum(item["in_network"] for feed in feeds for item in feed["items"])
    for name, total in summary.stages.items():
        of_stage = [stage for feed in feeds for stage in feed["stages"] if stage["stage"] == name]
        assert total.given == sum(stage["given"] for stage in of_stage)
        assert total.kept == sum(stage["kept"] for stage in of_stage)
    written = json.loads((played.out / "summary.json").read_bytes())
    assert written["feeds"] == summary.feeds
    assert sum(written["dead_letters"].values()) == len(played.dead_letters)
