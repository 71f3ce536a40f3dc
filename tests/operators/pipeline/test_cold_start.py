"""Author cold start (x-algorithm.md 1.6): who has a chance, which post takes it, and how far it comes up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.parameters import DEFAULTS, Parameters
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers import HEADS, SCORERS, Scores, score
from operators.pipeline.scorers.cold_start import author_cold_start, eligible
from operators.pipeline.scorers.steps import Scored
from operators.presets import preset
from schemas.actions import COUNT_NAMES
from schemas.events import FeedRequest
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table

# Twenty candidates that score 20, 19, ... 1: the 16th best scores 5.
SCORES = [float(one) for one in range(20, 0, -1)]
SIXTEENTH = 5.0


def counts(shown: int, favorites: int = 0) -> list[int]:
    told = dict.fromkeys(COUNT_NAMES, 0) | {"shown": shown, "favorite": favorites}
    return list(told.values())


def small(*rows: int, count: int = 20, **columns: list[object]) -> CandidateTable:
    """Return candidates of which those at `rows` have authors with 10 followers, all shown 5 times."""
    followers = np.full(count, 5000)
    followers[list(rows)] = 10
    given: dict[str, list[object]] = {"author_followers": followers.tolist(), "rank_counts": [counts(5)] * count}
    return table(**(given | columns))


def raised(rows: CandidateTable, scores: list[float] = SCORES, parameters: Parameters = DEFAULTS) -> dict[int, float]:
    """Return which candidates come up, and to which score."""
    before = np.array(scores)
    found = Scored(np.zeros((len(before), len(HEADS)), np.float32), np.zeros((0, len(before))), before, before)
    after = np.maximum(before, author_cold_start(query(parameters=parameters), rows, found))
    return {int(row): float(after[row]) for row in np.flatnonzero(after != before)}


def test_the_best_small_author_comes_up_to_the_sixteenth_best_score() -> None:
    # Row 16 scores 4 and row 18 scores 2; both are small. One comes up: 4 becomes 5, the score of row 15.
    assert raised(small(16, 18)) == {16: SIXTEENTH}


def test_who_stands_above_already_takes_the_chance_and_gains_nothing() -> None:
    assert raised(small(3, 16)) == {}


def test_ranks_count_among_scores_that_are_not_zero() -> None:
    # Of 20 the first .85 x 20 = 17 have a chance: ranks 0 to 16.
    assert raised(small(17)) == {}
    # With 2 zeros at the end .85 x 18 = 15.3: ranks 0 to 15. The one of rank 16 stays where it is.
    assert raised(small(16), [*SCORES[:18], 0.0, 0.0]) == {}
    everyone = DEFAULTS.overridden({"cold_start.rank_share": 1.0})
    assert raised(small(18), parameters=everyone) == {18: SIXTEENTH}
    assert raised(small(18), [*SCORES[:18], 0.0, 0.0], everyone) == {}


def test_there_is_no_sixteenth_of_fifteen() -> None:
    everyone = DEFAULTS.overridden({"cold_start.rank_share": 1.0})
    assert raised(small(14, count=15), SCORES[:15], everyone) == {}
    # Of seventeen there is: the last scores 4 and comes up to 5.
    assert raised(small(16, count=17), SCORES[:17], everyone) == {16: SIXTEENTH}


def test_who_has_a_chance() -> None:
    rows = table(
        author_followers=[1000, 1001, -1, 0, 0, 0, 0, 0],
        rank_counts=[counts(999)] * 4 + [counts(1000), counts(0), counts(0, 1), counts(999)],
        is_repost=[0, 0, 0, 0, 0, 0, 0, 1],
    )
    # 1,000 followers but not 1,001, nor unknown; 999 views but not 1,000; a post without any counts is not known.
    assert eligible(query(), rows).tolist() == [True, False, False, True, False, False, True, False]
    replies = small(0, 1, count=2, is_reply=[0, 1])
    assert eligible(query(), replies).tolist() == [True, False]


def test_the_treatment_arm_asks_for_posts_of_a_day() -> None:
    day = DEFAULTS.overridden({"cold_start.age_s": 86_400})
    rows = small(0, 1, count=2, created_ms=[NOW_MS - 86_400_000, NOW_MS - 86_400_001])
    assert eligible(query(parameters=day), rows).tolist() == [True, False]
    assert eligible(query(), rows).all()


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_at_most_one_post_comes_up_and_none_goes_down(count: int, seed: int, thompson: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = small(*np.flatnonzero(rng.random(count) < 0.5).tolist(), count=count) if count else table(post=[])
    scores = rng.integers(0, 30, count).astype(float)
    found = raised(rows, scores.tolist(), DEFAULTS.overridden({"cold_start.thompson": thompson}))
    assert len(found) <= 1
    assert all(after > scores[row] for row, after in found.items())


@settings(max_examples=60)
@given(st.integers(16, 40), st.integers(0, 2**32 - 1))
def test_it_raises_what_the_rule_in_plain_words_raises(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chance = rng.random(count) < 0.3
    rows = small(*np.flatnonzero(chance).tolist(), count=count)
    scores = rng.integers(0, 12, count).astype(float).tolist()
    # Posts are 1, 2, ..., all as old: of equal scores the higher id comes first.
    order = sorted(range(count), key=lambda row: (-scores[row], -row))
    ranked = [row for row in order if scores[row]]
    chances = [row for rank, row in enumerate(ranked) if rank < 0.85 * len(ranked) and chance[row]]
    before, after = (scores[chances[0]], scores[order[15]]) if chances else (0.0, 0.0)
    assert raised(rows, scores) == ({chances[0]: after} if after > before else {})


def drawn(request: str, top: int, likes: list[int]) -> int:
    """Return the row that Thompson sampling raises of small authors in rows 16 to 19, all shown 5,000 times."""
    parameters = DEFAULTS.overridden(
        {"cold_start.thompson": True, "cold_start.thompson_top": top, "cold_start.rank_share": 1.0,
         "cold_start.views_max": 10_000}
    )  # fmt: skip
    rows = small(16, 17, 18, 19, rank_counts=[*[counts(5)] * 16, *[counts(5000, one) for one in likes]])
    asked = query(parameters=parameters, event=FeedRequest(NOW_MS, request, VIEWER))
    before = np.array(SCORES)
    found = Scored(np.zeros((20, len(HEADS)), np.float32), np.zeros((0, 20)), before, before)
    (row,) = np.flatnonzero(author_cold_start(asked, rows, found) != before)
    return int(row)


def test_thompson_sampling_prefers_what_was_liked() -> None:
    # Beta(.75 + 4000, 49.25 + 1000) is .79 +- .006, Beta(.75 + 5, 49.25 + 4995) is .001: the last always wins.
    assert {drawn(f"r{one}", 1, [5, 5, 5, 4000]) for one in range(20)} == {19}
    # Of the two highest draws the better scored one.
    assert {drawn(f"r{one}", 2, [5, 5, 3000, 4000]) for one in range(20)} == {18}


def test_a_request_draws_the_same_again_and_others_draw_otherwise() -> None:
    alike = [drawn(f"r{one}", 1, [500, 500, 500, 500]) for one in range(40)]
    assert alike == [drawn(f"r{one}", 1, [500, 500, 500, 500]) for one in range(40)]
    assert set(alike) == {16, 17, 18, 19}


def test_a_first_prior_is_one_like_in_sixty_seven_views() -> None:
    # Without likes and views: Beta(.75, 49.25) has the mean .75 / 50 = .015.
    cold_start = DEFAULTS.cold_start
    share = cold_start.thompson_likes / (cold_start.thompson_likes + cold_start.thompson_others)
    assert share == pytest.approx(0.015)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("weighted", ["negative_offset", "author_cold_start", "author_diversity"]),
        ("mpn", ["negative_offset", "author_cold_start", "dpp"]),
        ("dwell_regret", ["dwell_regret", "author_cold_start", "author_diversity"]),
        ("march_2023", ["plain_offset", "author_cold_start", "author_diversity"]),
    ],
)
def test_its_place_among_the_scorers(model: str, names: list[str]) -> None:
    chain = [one.name for one in SCORERS[model]]
    at = chain.index("author_cold_start")
    assert chain[at - 1 : at + 2] == names


def test_what_comes_up_is_still_lowered_as_others_are() -> None:
    # Twenty likes of .20, .19, ... .01: half of each and .001. The last of ten below is out of network: row 16 comes up
    # from .5 x .04 + .001 = .021 to the 16th, .5 x .05 + .001 = .026, and then times .75.
    probabilities = np.zeros((20, len(HEADS)), np.float32)
    probabilities[:, 0] = [one / 100 for one in SCORES]
    off = DEFAULTS.overridden({"dpp.enabled": False})
    rows = small(16, in_network=[*[True] * 16, *[False] * 4])
    told: Scores = score(query(parameters=off), rows, probabilities).score
    assert told[16] == pytest.approx(0.026 * 0.75, rel=1e-6)
    assert told[17] == pytest.approx((0.5 * 0.03 + 0.001) * 0.75, rel=1e-6)
    january = preset("january-2026").parameters.overridden({"dpp.enabled": False})
    assert score(query(parameters=january), rows, probabilities).score[16] == pytest.approx(0.021 * 0.75, rel=1e-6)
