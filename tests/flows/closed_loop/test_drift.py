"""Drift of a viewer of two interests, against the numbers that 2023-generation.md 4 states."""

import pytest

from flows.closed_loop.drift import KEPT, looped, stated


def test_the_stated_formula_gives_the_stated_shares() -> None:
    shares = stated(52)
    # By hand: .6 + .008 x 1.5 x (1 - .5 x log2 1.5), log2 1.5 = .584963.
    assert shares[1] == pytest.approx(0.6 + 0.008 * 1.5 * (1 - 0.5 * 0.584963))
    assert shares[12] == pytest.approx(0.70, abs=0.01)
    assert shares[24] == pytest.approx(0.76, abs=0.01)
    assert shares[52] == pytest.approx(0.80, abs=0.005)


def test_drift_ends_at_eighty_to_twenty() -> None:
    # log2 (80 / 20) = 2: nothing is added any more.
    assert stated(5, start=0.8).tolist() == pytest.approx([0.8] * 6)


def test_multiplying_by_a_profile_feeds_itself_and_chances_do_not() -> None:
    profile, phoenix = looped(24, "counts"), looped(24, "chances")
    assert profile[0] == phoenix[0]
    assert (profile[1:] > profile[:-1]).all()
    assert len(set(phoenix.tolist())) == 1
    assert profile[24] > phoenix[24] + 0.2


def test_even_interests_stay_even_in_both() -> None:
    # With scores in pairs of equals both of a pair are shown, so that each interest is half.
    assert looped(3, "counts", start=0.5).tolist() == [0.5] * 4
    assert looped(3, "chances", start=0.5).tolist() == [0.5] * 4


def test_a_profile_keeps_what_likes_keep_in_a_week() -> None:
    assert pytest.approx(2 ** (-7 / 100), abs=0.005) == KEPT
