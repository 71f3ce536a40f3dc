"""The simulated world repeats exactly, is a valid log, and its people do what its truth says they do."""

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from infra.logs import LogReader, LogRefused, LogReport, validate
from infra.world import PRESETS, Truth, WorldParameters, inject_faults, simulate, truth_path
from infra.world.acting import Acting
from infra.world.faults import FAULTS, VALID_FAULTS
from infra.world.phrases import TOPICS
from infra.world.posts import mixes
from infra.world.rates import BASE_RATES, Shown, action_probabilities
from infra.world.simulator import run_world
from infra.world.truth import TruthRefused
from infra.world.worth import NOBODY, Worth
from schemas.actions import ACTION_INDEX, ACTIONS, DWELL_TIME
from schemas.codec import Refused, decode
from schemas.events import (
    Engagement,
    Event,
    FeedRequest,
    Follow,
    PostCreated,
    PostDeleted,
    PostLabelled,
    Served,
    Subscribe,
)
from schemas.ids import key_of

YEAR_2030_MS = 1_893_456_000_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate the demo world once."""
    path = tmp_path_factory.mktemp("world") / "demo.jsonl.zst"
    simulate(path, PRESETS["demo"])
    return path


@pytest.fixture(scope="module")
def events(demo: Path) -> list[Event]:
    return [decode(raw) for batch in LogReader(demo).batches() for raw in batch.raw]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    small = PRESETS["small"]
    paths = [tmp_path / f"{name}.jsonl.gz" for name in ("one", "two", "three")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        simulate(path, WorldParameters(people=small.people, days=small.days, seed=seed))
    logs = [path.read_bytes() for path in paths]
    truths = [truth_path(path).read_bytes() for path in paths]
    assert logs[0] == logs[1] != logs[2]
    assert truths[0] == truths[1] != truths[2]


def test_the_demo_world_has_its_stated_size(demo: Path) -> None:
    report = LogReport()
    assert list(validate(demo, YEAR_2030_MS, report)) == []
    assert report.late == 0
    assert 100_000 < report.kinds["engagement"] < 150_000
    assert 8_000 < report.kinds["post_created"] < 13_000
    assert 400 < report.kinds["feed_request"] < 800
    assert report.kinds["served"] > 2 * report.kinds["feed_request"]  # requests are logged on the last afternoon
    assert demo.stat().st_size < 5_000_000


def test_everything_in_the_log_refers_to_what_came_before(events: list[Event]) -> None:
    created: dict[int | str, PostCreated] = {}
    gone: set[int | str] = set()
    authors: Counter[int | str] = Counter()
    for event in events:
        if isinstance(event, PostCreated):
            assert event.post not in created
            for other in (event.reply_to, event.repost_of, event.quote_of):
                assert other is None or other in created
            created[event.post] = event
            authors[event.author] += 1
        elif isinstance(event, Engagement):
            assert created[event.post].author == event.author != event.viewer
            assert (event.dwell_s > 0) == (event.action == "dwell_time")
        elif isinstance(event, PostDeleted):
            assert created[event.post].author == event.author
            gone.add(event.post)
        elif isinstance(event, Served):
            assert len(set(event.posts)) == len(event.posts) <= 20
            assert not gone & set(event.posts)
            assert all(created[post].author != event.viewer and not created[post].repost_of for post in event.posts)
        elif isinstance(event, FeedRequest):
            assert set(event.seen_ids) <= set(created)
    kinds = Counter(type(event) for event in events)
    assert all(kinds[kind] for kind in (PostLabelled, PostDeleted, Follow, Subscribe))
    assert len({event.text for event in created.values()}) > 0.6 * len(created)
    assert {
        len([e for e in created.values() if getattr(e, name)]) > 20 for name in ("reply_to", "repost_of", "quote_of")
    } == {True}


def test_actions_follow_their_request_by_seconds(events: list[Event]) -> None:
    last: dict[int | str, Served] = {}
    for event in events:
        if isinstance(event, Served):
            last[event.viewer] = event
        elif isinstance(event, Engagement) and not event.undo:
            assert event.post in last[event.viewer].posts or event.action in {"reply", "quote"}
            assert 0 < event.at - last[event.viewer].at < 3_600_000


def test_people_do_what_the_truth_says(demo: Path, events: list[Event]) -> None:
    truth = Truth.load(truth_path(demo))
    served = [event for event in events if isinstance(event, Served)]
    looked_at = {(e.viewer, e.post) for e in events if isinstance(e, Engagement) and e.action == "dwell_time"}
    shown = [(s.viewer, post, s.at) for s in served for post in s.posts]
    utility = truth.utility([v for v, _, _ in shown], [p for _, p, _ in shown], np.array([at for _, _, at in shown]))
    assert utility.shape == (len(shown), len(ACTIONS))
    for action, low, high in (
        ("favorite", 0.6, 0.9),
        ("dwell", 0.65, 0.9),
        ("click", 0.6, 0.9),
        ("retweet", 0.5, 0.95),
    ):
        did = {(e.viewer, e.post) for e in events if isinstance(e, Engagement) and e.action == action and not e.undo}
        expected = utility[:, ACTION_INDEX[action]]
        acted = np.array([(v, p) in did for v, p, _ in shown])
        # Fewer than expected, because a person looks at some 15 of 20 posts; more where more is expected.
        assert low < acted.sum() / expected.sum() < high
        top = expected > np.quantile(expected, 0.8)
        assert acted[top].mean() > 2 * acted[~top].mean()
    assert 0.5 < len(looked_at) / len(shown) < 0.9


def test_the_truth_comes_back_as_it_was(demo: Path, tmp_path: Path) -> None:
    truth = Truth.load(truth_path(demo))
    truth.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == truth_path(demo).read_bytes()
    assert truth.parameters == PRESETS["demo"]
    with pytest.raises(TruthRefused, match="viewer 7 is not of this world"):
        truth.utility([7], [truth.post_ids[0]], 0)
    with pytest.raises(TruthRefused, match="only simulated logs have a truth"):
        Truth.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"x" * 100)
    with pytest.raises(TruthRefused, match="is not the truth of a simulated world"):
        Truth.load(tmp_path / "bad.npz")


def _one(affinity: float, **changes: object) -> np.ndarray:
    fields = {"quality": 0.0, "followed": False, "video_ms": 0, "photo": False, "quote": False, "spam": False} | changes
    return action_probabilities(Shown(affinity=np.array([affinity]), **{k: np.array([v]) for k, v in fields.items()}))[
        0
    ]  # type: ignore[arg-type]


def test_the_stated_probabilities_by_hand() -> None:
    # At affinity .10 the gate is one half; favorite .14, reply .035.
    middle = _one(0.10)
    assert middle[ACTION_INDEX["favorite"]] == pytest.approx(0.07)
    assert middle[ACTION_INDEX["reply"]] == pytest.approx(0.0175)
    assert middle[ACTION_INDEX["not_interested"]] == pytest.approx(0.02 / 16)
    assert middle[[ACTION_INDEX[name] for name in ("photo_expand", "vqv", "quoted_click")]].tolist() == [0, 0, 0]
    # follow_author: .006 / 2, and ten times that for the one in a hundred (.02 / 2) who looked at the profile.
    assert middle[ACTION_INDEX["follow_author"]] == pytest.approx(0.003 * (0.99 + 0.01 * 10))
    followed = _one(0.10, followed=True)
    assert followed[ACTION_INDEX["favorite"]] == pytest.approx(0.07 * 1.3)
    assert followed[ACTION_INDEX["follow_author"]] == 0
    assert _one(0.10, video_ms=10_000)[ACTION_INDEX["vqv"]] == 0
    assert _one(0.10, video_ms=10_001)[ACTION_INDEX["vqv"]] == pytest.approx(0.04)
    # Dwell: ln s is normal with mean ln 3.5 + 1.1 / 2 and deviation .9, so its mean is 3.5 exp(.55 + .405) s.
    assert middle[DWELL_TIME] == pytest.approx(3.5 * np.exp(0.955))
    # z = (ln 10 - ln 3.5 - .55) / .9 = .55537; the normal tail beyond it is .28932.
    assert middle[ACTION_INDEX["dwell"]] == pytest.approx(0.28932, abs=1e-5)
    liked, disliked = _one(0.5), _one(-0.15)
    for name in BASE_RATES:
        if name in {"not_interested", "block_author", "mute_author", "report"}:
            assert disliked[ACTION_INDEX[name]] > liked[ACTION_INDEX[name]]
        else:
            assert liked[ACTION_INDEX[name]] >= disliked[ACTION_INDEX[name]]


def test_string_ids_live_beside_integers(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    simulate(path, WorldParameters(people=30, days=1.0, follows_per_person=6.0, string_id_share=0.5))
    events = [decode(raw) for batch in LogReader(path).batches() for raw in batch.raw]
    authors = {event.post: event.author for event in events if isinstance(event, PostCreated)}
    assert {type(post) for post in authors} == {int, str}
    assert all(type(post) is type(author) for post, author in authors.items())
    truth = Truth.load(truth_path(path))
    assert set(truth.post_ids) == set(authors)
    string_viewer = next(identity for identity in truth.people_ids if isinstance(identity, str))
    assert truth.utility([string_viewer], [truth.post_ids[0]], 0).shape == (1, len(ACTIONS))


def test_a_log_may_be_a_folder_and_a_missing_place_is_refused(tmp_path: Path) -> None:
    summary = simulate(tmp_path / "world", PRESETS["small"])
    assert summary.truth == tmp_path / "world.truth.npz"
    events = [decode(raw) for batch in LogReader(tmp_path / "world").batches() for raw in batch.raw]
    assert len(events) == summary.events == sum(summary.kinds.values())
    assert [event.at for event in events] == sorted(event.at for event in events)
    with pytest.raises(LogRefused, match="isn't a folder"):
        simulate(tmp_path / "none" / "log.jsonl", PRESETS["small"])


def test_faults_are_put_in_and_everything_else_is_kept(tmp_path: Path) -> None:
    clean, faulty = tmp_path / "clean.jsonl", tmp_path / "faulty.jsonl.zst"
    simulate(clean, PRESETS["small"])
    counts = inject_faults(clean, faulty, 0.05, seed=3)
    assert set(counts) == set(FAULTS)
    lines = [raw for batch in LogReader(faulty).batches() for raw in batch.raw]
    kept = iter(lines)
    originals = [raw for batch in LogReader(clean).batches() for raw in batch.raw]
    assert all(raw in kept for raw in originals)  # a subsequence, in order
    assert len(lines) == len(originals) + sum(counts.values())

    def is_refused(raw: bytes) -> bool:
        try:
            decode(raw, YEAR_2030_MS)
        except Refused:
            return True
        return False

    refused = sum(is_refused(raw) for raw in lines)
    assert refused == sum(count for fault, count in counts.items() if fault not in VALID_FAULTS)
    inject_faults(clean, tmp_path / "again.jsonl.zst", 0.05, seed=3)
    assert (tmp_path / "again.jsonl.zst").read_bytes() == faulty.read_bytes()


def test_worth_says_of_many_posts_what_the_truth_says_of_each(demo: Path, events: list[Event]) -> None:
    truth = Truth.load(truth_path(demo))
    worth = Worth(truth)
    served = [event for event in events if isinstance(event, Served)][-1]
    person, keys = worth.person(key_of(served.viewer)), np.array([key_of(post) for post in served.posts], np.uint64)
    rows = worth.posts(keys)
    known, likely = worth.focus(person, served.at)
    follows = {event.author for event in events if isinstance(event, Follow) and event.viewer == served.viewer}
    unfollows = {e.author for e in events if isinstance(e, Follow) and e.viewer == served.viewer and e.undo}
    authors = [truth.people_ids[row] for row in truth.posts["author"][rows]]
    followed = np.array([author in follows - unfollows for author in authors])
    found = worth.probabilities(person, served.at, rows, followed, known, truth.posts["quality"][rows])
    clear = np.array([author not in unfollows for author in authors])
    stated = truth.utility([served.viewer] * len(rows), list(served.posts), served.at)
    assert np.allclose(found[clear], stated[clear])
    assert sorted(known)[-1] == 1.0  # a session knows its topic
    assert 0 < max(likely) <= 1.0
    assert worth.person(7) == NOBODY
    assert worth.posts(np.array([7], np.uint64)).tolist() == [NOBODY]


def test_new_readers_open_no_feed_before_their_day(demo: Path, events: list[Event]) -> None:
    parameters = PRESETS["demo"]
    first: dict[int | str, int] = {}
    for event in events:
        if isinstance(event, Served):
            first.setdefault(event.viewer, event.at)
    late = sum(at >= parameters.start_ms + parameters.new_readers_from_day * 24 * 3_600_000 for at in first.values())
    assert 0.05 * parameters.people < late < 0.2 * parameters.people
    before = PRESETS["before-demo"]
    assert before.start_ms + before.days * 24 * 3_600_000 == parameters.start_ms


def test_a_streak_makes_people_act_more_and_passing_over_less_until_the_session_ends() -> None:
    world = run_world(msgspec.structs.replace(PRESETS["small"], days=0.2))
    posts, person = world.posts.rows[: world.posts.count], 0
    focus = int(world.people.tastes[person].argmax())
    felt = mixes(posts) @ (world.people.tastes[person] + np.eye(len(TOPICS))[focus])
    felt[(posts["author"] == person) | posts["spam"]] = felt.mean()
    row, dull = int(felt.argmax()), int(felt.argmin())
    world.follows[person][int(posts["author"][row])] = None
    acting = Acting(world, np.random.default_rng(0))

    def favorites(before: list[int], is_first: bool = False) -> int:
        """Return how many of 1,500 looks at one liked post end with a favourite, each after a session of these."""
        found = 0
        for at in range(10**6, 10**6 + 1500):
            acting.act(person, at, before, focus, is_first=True)
            start = len(world.events)
            acting.act(person, at, [row], focus, is_first)
            found += sum(isinstance(one, Engagement) and one.action == "favorite" for one in world.events[start:])
        return found

    none, streak = favorites([row], is_first=True), favorites([row] * 6)
    over, ended = favorites([dull] * 25), favorites([row] * 6, is_first=True)
    # The strongest streak makes exp(.35) = 1.42 of a rate, the longest scroll .70; most are shorter.
    assert 1.08 < streak / none < 1.42
    assert 0.70 < over / none < 0.92
    # About 250 favourites each: two such counts differ by .09 of themselves by chance, these always by the same.
    assert abs(ended / none - 1) < 0.2
