"""The formulas of x-algorithm.md 1.3 and 1.5, against numbers worked out by hand."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.inputs import TERMS, History
from operators.parameters import DEFAULTS, Weights
from operators.pipeline import scorers
from operators.pipeline.candidates import CandidateTable
from operators.pipeline.scorers import HEADS, Scores, best_first, diversity, network, score
from operators.pipeline.scorers.steps import LikelyVectors, Scored
from operators.pipeline.scorers.value import head_weights, squeezed, weighted_sum
from operators.viewers.query import Query
from operators.viewers.relations import Relations
from schemas.actions import ACTION_INDEX
from schemas.events import FeedRequest
from tests.operators.pipeline.tables import NOW_MS, VIEWER, query, table


def scored(*scores: float, vectors: list[list[float]] | None = None) -> Scored:
    values = np.array(scores)
    made = None if vectors is None else np.array(vectors, np.float32)
    nothing = np.zeros((len(values), len(HEADS)), np.float32)
    return Scored(nothing, np.zeros((len(HEADS), len(values))), values, values, made)


def out_of_network(asked: Query, rows: CandidateTable) -> Scores:
    return network.out_of_network(asked, rows, scored(*[1.0] * len(rows)))


def offset(value: float) -> float:
    return float(squeezed(np.array([value]), Weights(), 0.001)[0])


@pytest.mark.parametrize(
    ("weighted", "expected"),
    [
        (-367.22, 0.0),
        (-100.0, 0.000650898816),
        (-1.0, 0.000892044625),
        (-1e-12, 0.00089448044),
        (0.0, 0.001),
        (0.5, 0.501),
    ],
)
def test_golden_numbers_of_the_negative_offset(weighted: float, expected: float) -> None:
    assert offset(weighted) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_sums_of_the_august_weights() -> None:
    values = [getattr(Weights(), name) for name in Weights.__struct_fields__ if name != "dwell_time"]
    assert sum(value for value in values if value > 0) == pytest.approx(43.32)
    assert -sum(value for value in values if value < 0) == pytest.approx(367.22)


def test_offset_without_weights_cuts_at_zero() -> None:
    none = msgspec.convert(dict.fromkeys(Weights.__struct_fields__, 0.0), Weights)
    assert squeezed(np.array([-2.0, 3.0]), none, 0.001).tolist() == [0.0, 3.0]


@given(st.lists(st.floats(-367.0, 100.0), min_size=2, max_size=50))
def test_offset_keeps_the_order_and_leaves_nothing_negative(values: list[float]) -> None:
    weighted = np.array(sorted(values))
    scores = squeezed(weighted, Weights(), 0.001)
    assert (scores >= 0).all()
    assert (np.diff(scores) >= 0).all()


def test_author_diversity_multipliers() -> None:
    rows = table(author=[1] * 6)
    factors = diversity.author_diversity(query(), rows, scored(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    assert factors.tolist() == [0.2734375, 0.296875, 0.34375, 0.4375, 0.625, 1.0]


def test_author_diversity_counts_each_author_alone() -> None:
    rows = table(author=[1, 2, 1, 2])
    assert diversity.author_diversity(query(), rows, scored(4.0, 3.0, 2.0, 1.0)).tolist() == [1.0, 1.0, 0.625, 0.625]


def test_out_of_network_factor_with_the_august_rule() -> None:
    rows = table(in_network=[True, False, True, True], is_reply=[0, 0, 1, 0], is_repost=[0, 0, 0, 1])
    assert out_of_network(query(), rows).tolist() == [1.0, 0.75, 0.75, 0.75]
    january = DEFAULTS.overridden({"scoring.oon_factor_for_replies_and_reposts": False})
    assert out_of_network(query(parameters=january), rows).tolist() == [1.0, 0.75, 1.0, 1.0]


def test_out_of_network_factor_of_requests_for_topics() -> None:
    # x-algorithm.md 1.5: 0.75, and 0.5 where topics are asked for, in-network replies included since August
    rows = table(in_network=[True, False, True], is_reply=[0, 0, 1])
    event = FeedRequest(at=NOW_MS, request="r", viewer=VIEWER, topics=("cats",))
    assert out_of_network(query(event=event), rows).tolist() == [1.0, 0.5, 0.5]


def test_out_of_network_factor_of_new_viewers() -> None:
    on = DEFAULTS.overridden({"scoring.new_viewer_age_s": 3600})
    follows = np.arange(1, 6, dtype=np.uint64)
    rows = table(in_network=[False])
    young = Relations(followed=follows, account_created_ms=NOW_MS - 3_599_000)
    old = Relations(followed=follows, account_created_ms=NOW_MS - 3_600_000)
    alone = Relations(followed=follows[:4], account_created_ms=NOW_MS - 1)
    assert out_of_network(query(young, on), rows).tolist() == [1e-5]
    assert out_of_network(query(old, on), rows).tolist() == [0.75]
    assert out_of_network(query(alone, on), rows).tolist() == [0.75]
    assert out_of_network(query(young), rows).tolist() == [0.75]


def test_video_weight_needs_a_strictly_longer_video_and_a_smaller_viewer() -> None:
    rows = table(video_ms=[0, 10_000, 10_001])
    vqv = HEADS.index("vqv")
    assert head_weights(query(), rows)[vqv].tolist() == [0.0, 0.0, 0.05]
    assert head_weights(query(Relations(followers=9_999)), rows)[vqv].tolist() == [0.0, 0.0, 0.05]
    assert head_weights(query(Relations(followers=10_000)), rows)[vqv].tolist() == [0.0, 0.0, 0.0]


def test_reply_boost_on_originals_of_mutual_follows() -> None:
    rows = table(mutual_follow=[0, 1, 1, 1], is_reply=[0, 0, 1, 0], is_repost=[0, 0, 0, 1])
    assert head_weights(query(), rows)[HEADS.index("reply")].tolist() == [5.0, 20.0, 5.0, 5.0]


def test_a_score_worked_out_by_hand() -> None:
    # favorite .2 x .5 + reply .1 x 5 + dwell_time 10 s x .004 + report .001 x -234 = .1 + .5 + .04 - .234 = .406
    probabilities = np.zeros((1, len(HEADS)), np.float32)
    for name, value in {"favorite": 0.2, "reply": 0.1, "dwell_time": 10.0, "report": 0.001}.items():
        probabilities[0, ACTION_INDEX[name]] = value
    scores = score(query(), table(in_network=[False]), probabilities, np.ones((1, 2), np.float32))
    assert scores.weighted[0] == pytest.approx(0.406, rel=1e-6)
    assert scores.score[0] == pytest.approx((0.406 + 0.001) * 1.0 * 0.75, rel=1e-6)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_sum_does_not_depend_on_the_other_candidates(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    contributions = rng.normal(size=(len(HEADS), count))
    together = weighted_sum(contributions)
    alone = np.concatenate([weighted_sum(contributions[:, i : i + 1]) for i in range(count)])
    assert together.tobytes() == alone.tobytes()


def test_ties_are_broken_by_age_then_key() -> None:
    rows = table(post=[5, 9, 7], created_ms=[NOW_MS - 5, NOW_MS - 9, NOW_MS - 5])
    assert best_first(np.array([1.0, 1.0, 1.0]), rows).tolist() == [2, 0, 1]


@settings(max_examples=40)
@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_the_best_few_are_the_first_of_all_in_order(count: int, values: int, few: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = table(post=rng.permutation(count).tolist(), created_ms=rng.integers(0, 5, count).tolist())
    scores = rng.integers(0, values, count).astype(float)
    order = sorted(range(count), key=lambda row: (-scores[row], -rows.created_ms[row], -int(rows.post[row])))
    assert best_first(scores, rows).tolist() == order
    assert best_first(scores, rows, few).tolist() == order[:few]
    some = np.flatnonzero(rng.random(count) < 0.5)
    assert best_first(scores, rows, few, some).tolist() == [row for row in order if row in some][:few]


def test_vectors_of_the_likely_best_are_those_of_all_without_the_rest() -> None:
    made = np.array([[1, 0], [0, 1]], np.float32)
    few = LikelyVectors.of(5, np.array([3, 1]), made)
    everything = np.array([[0, 0], [0, 1], [0, 0], [1, 0], [0, 0]], np.float32)
    assert np.asarray(few).tolist() == everything.tolist()
    assert np.asarray(few[np.array([1, 4, 3])]).tolist() == everything[[1, 4, 3]].tolist()
    mask = np.array([False, True, True, False, True])
    assert len(few[mask]) == 3
    assert np.asarray(few[mask][np.array([0])]).tolist() == [[0, 1]]


def test_the_published_example_of_the_dpp() -> None:
    # x-algorithm.md 1.6: embeddings (1,0), (1,.05) normed, (0,1); scores 1, .95, .6; theta .65; of two, items 0 and 2
    vectors = np.array([[1, 0], [1, 0.05], [0, 1]], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert diversity.diverse(np.array([1.0, 0.95, 0.6]), vectors, 0.65, 2).tolist() == [0, 2]


def test_dpp_keeps_scores_of_what_it_chooses_and_takes_all_from_the_others() -> None:
    two = DEFAULTS.overridden({"selection.top_k": 2, "selection.result_size": 2})
    rows = table(post=[1, 2, 3])
    found = scored(1.0, 0.95, 0.6, vectors=[[1, 0], [0.9987, 0.0499], [0, 1]])
    assert diversity.dpp(query(parameters=two), rows, found).tolist() == [1.0, 0.0, 1.0]
    assert diversity.dpp(query(), rows, found).tolist() == [1.0, 1.0, 1.0]


def test_dpp_stops_where_nothing_new_is_left() -> None:
    same = np.tile(np.array([[1.0, 0.0]], np.float32), (4, 1))
    assert diversity.diverse(np.ones(4), same, 0.65, 3).tolist() == [0]


def test_a_post_without_a_vector_is_not_favoured_for_it() -> None:
    vectors = np.array([[1, 0], [0, 0], [0.6, 0.8]], np.float32)
    assert diversity.diverse(np.array([1.0, 0.9, 0.9]), vectors, 0.65, 2).tolist() == [0, 2]


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_dpp_chooses_as_the_plain_greedy_rule_does(count: int, wanted: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = rng.random(count)
    weight = np.exp(0.65 / 0.7 * scores / scores.max())
    cosines = (vectors @ vectors.T).astype(np.float64)
    np.fill_diagonal(cosines, 1.0)
    kernel = weight[:, None] * weight[None, :] * cosines
    chosen: list[int] = []
    while len(chosen) < min(wanted, count):
        rows = set(range(count)) - set(chosen)
        chosen.append(max(rows, key=lambda row: np.linalg.det(kernel[np.ix_([*chosen, row], [*chosen, row])])))
    assert diversity.diverse(scores, vectors, 0.65, wanted).tolist() == chosen


def test_mpn_lowers_only_what_is_not_negative() -> None:
    # x-algorithm.md 1.5: net >= 0 times diversity and OON, then the offset; a net below 0 is squeezed as it is
    mpn = DEFAULTS.overridden({"scoring.value_model": "mpn", "dpp.enabled": False})
    probabilities = np.zeros((3, len(HEADS)), np.float32)
    probabilities[:2, 0] = [0.8, 0.4]
    probabilities[2, ACTION_INDEX["report"]] = 0.01
    told = score(query(parameters=mpn), table(author=[1, 1, 2], in_network=[True, False, False]), probabilities)
    expected = [0.4 + 0.001, 0.2 * 0.625 * 0.75 + 0.001, (367.22 - 2.34) / 410.54 * 0.001]
    assert told.score == pytest.approx(expected, rel=1e-6)
    assert [step.name for step in told.steps] == [
        "author_diversity",
        "out_of_network",
        "negative_offset",
        "author_cold_start",
    ]


def test_dwell_regret_by_hand() -> None:
    # Two candidates with seconds 20 and .5, favorite .3 and .1 (mean .2); the second has not_interested .001.
    regret = DEFAULTS.overridden({"scoring.value_model": "dwell_regret", "dpp.enabled": False})
    probabilities = np.zeros((2, len(HEADS)), np.float32)
    probabilities[:, ACTION_INDEX["dwell_time"]] = [20.0, 0.5]
    probabilities[:, 0] = [0.3, 0.1]
    probabilities[1, ACTION_INDEX["not_interested"]] = 0.001
    told = score(query(parameters=regret), table(author=[1, 2]), probabilities)
    # Six other heads are nowhere, each p / mean - 1 = -1: (.5 - 6) / 10 and (-.5 - 6) / 10. Regret -10,000 x .001 / 10.
    first = 20.0 * 2 / (1 + np.exp(0.55))
    second = 1.0 * 2 / (1 + np.exp(0.65)) * np.exp(-1.0)
    assert told.score == pytest.approx([first, second], rel=1e-5)


def test_a_scorer_that_fails_on_one_candidate_leaves_that_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_asked: Query, rows: CandidateTable, _found: Scored) -> Scores:
        """Fail on post 3."""
        if (rows.post == 3).any():
            raise LookupError("post 3")
        return np.full(len(rows), 0.5)

    monkeypatch.setitem(scorers.SCORERS, "weighted", (scorers.Scorer(half, "times", "this test"),))
    asked, rows = query(), table(post=[1, 2, 3, 4, 5])
    probabilities = np.zeros((5, len(HEADS)), np.float32)
    probabilities[:, 0] = 1.0
    assert score(asked, rows, probabilities).score.tolist() == [0.25, 0.25, 0.5, 0.25, 0.25]
    assert asked.degraded == ["scorer.half"]


def test_feedback_fatigue_recovers_in_a_line() -> None:
    # 2023-generation.md 3: .2 on day 0, .6 on day 70, 1 on day 140; the latest word on an author counts
    day = 86_400_000
    asked = query()
    dislike, like = 1 << ACTION_INDEX["not_interested"], 1
    history = History(
        post=np.arange(1, 6, dtype=np.uint64),
        author=np.array([11, 12, 13, 14, 11], np.uint64),
        terms=np.zeros((5, TERMS), np.uint16),
        actions=np.array([dislike, dislike, dislike, like, dislike], np.uint32),
        dwell_s=np.zeros(5, np.float32),
        surface=np.zeros(5, np.uint8),
        at_ms=NOW_MS - day * np.array([140, 70, 150, 0, 0]),
    )
    asked.history = history
    rows = table(rank_author=[11, 12, 13, 14, 15])
    assert network.feedback_fatigue(asked, rows, scored(*[1.0] * 5)).tolist() == pytest.approx([0.2, 0.6, 1, 1, 1])
