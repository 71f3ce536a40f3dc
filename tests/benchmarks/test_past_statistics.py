"""The trees' features see only the past: proved by cutting it off, by altering what follows, and by hand."""

from dataclasses import replace

import numpy as np

from benchmarks.past_statistics import DAY_MS, Impressions, features, latest, past

NAMES = ("click", "favorite")


def impressions(count: int, seed: int = 5) -> Impressions:
    """Return random impressions of a few viewers and videos, several of them at the same time."""
    rng = np.random.default_rng(seed)
    at_ms = np.sort(rng.integers(0, 3 * DAY_MS, count) // 60_000 * 60_000)
    return Impressions(
        at_ms,
        at_ms + rng.integers(1, 600_000, count),
        (rng.random((count, 2)) < [0.5, 0.2]).astype(float),
        {"viewer": rng.integers(0, 4, count), "video": rng.integers(0, 6, count)},
        rng.random((count, 1)),
        NAMES,
        ("hour",),
    )


def made(rows: Impressions) -> np.ndarray:
    return features(rows, [("viewer", "video")], ["viewer", "video"], 1)[0]


def test_rows_that_follow_change_nothing() -> None:
    whole = impressions(300)
    of_whole = made(whole)
    for count in (1, 2, 57, 150, 299):
        np.testing.assert_array_equal(made(whole.first(count)), of_whole[:count])
        other = impressions(300, seed=6)
        altered = replace(
            whole,
            known_ms=np.concatenate([whole.known_ms[:count], other.known_ms[count:] + 3 * DAY_MS]),
            outcomes=np.concatenate([whole.outcomes[:count], other.outcomes[count:]]),
            groups={
                name: np.concatenate([ids[:count], other.groups[name][count:]]) for name, ids in whole.groups.items()
            },
        )
        np.testing.assert_array_equal(made(altered)[:count], of_whole[:count])


def test_an_outcome_counts_only_once_it_is_known() -> None:
    rows = impressions(300)
    of_rows = made(rows)
    for row in (0, 31, 200):
        outcomes = rows.outcomes.copy()
        outcomes[row] = 1.0 - outcomes[row]
        changed = (made(replace(rows, outcomes=outcomes)) != of_rows) & ~np.isnan(of_rows)
        # Its own row and all up to the time it is known stay as they were; some row after that does not.
        late = np.flatnonzero(changed.any(axis=1))
        assert len(late)
        assert rows.at_ms[late].min() > rows.known_ms[row]


def test_counts_and_rates_by_hand() -> None:
    group, at_ms = np.array([1, 2, 1, 1]), np.array([0, 5, 10, 20])
    known_ms, values = np.array([9, 6, 10, 25]), np.array([[1.0], [1.0], [0.5], [0.0]])
    found = past(group, at_ms, known_ms, values)
    # The third was known at 10, which is before 20 and not before 10.
    assert found.count.tolist() == [0, 0, 1, 2]
    assert found.sums[:, 0].tolist() == [0, 0, 1.0, 1.5]
    assert found.rates(np.full((4, 1), 0.5), smoothing=2.0)[:, 0].tolist() == [0.5, 0.5, 2 / 3, 2.5 / 4]
    assert past(group, at_ms, known_ms, values, window_ms=10).count.tolist() == [0, 0, 1, 1]
    newest = latest(group, at_ms, known_ms, values, 2)[:, :, 0]
    np.testing.assert_array_equal(newest, [[np.nan, np.nan], [np.nan, np.nan], [1.0, np.nan], [0.5, 1.0]])


def test_features_have_names() -> None:
    found, names = features(impressions(50), [("viewer", "video")], ["viewer"], 1)
    assert found.shape == (50, len(names))
    assert len(set(names)) == len(names)
    assert "viewer x video click" in names
    assert "viewer x video favorite" not in names
