"""Words, their hashes, and muted phrases in many posts at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.text import TOKENS_MAX, contains_phrase, token_hashes, tokenise


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("Hello, World! don't_stop", ["hello", "world", "don", "t_stop"]),
        ("#Spoiler from @Anna: 10 pm", ["spoiler", "from", "anna", "10", "pm"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("caf\u00e9 cafe\u0301", ["caf\u00e9", "caf\u00e9"]),
        ("東京の夜", ["東", "京", "の", "夜"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("한국어 좋아", ["한국어", "좋아"]),
        ("go東go", ["go", "東", "go"]),
        ("fire🔥🔥", ["fire", "🔥", "🔥"]),
        ("Привет, МИР", ["привет", "мир"]),
    ],
)
def test_words_are_casefolded_runs_and_single_characters_where_no_spaces_are_written(text, words):
    assert tokenise(text) == words


def test_hashes_follow_words_not_spelling():
    assert token_hashes("Hello WORLD").tolist() == token_hashes("#hello, world!").tolist()
    assert token_hashes("hello").dtype == np.uint32
    assert 0 not in token_hashes(" ".join(f"word{number}" for number in range(2000)))


def test_a_text_has_a_largest_number_of_words():
    assert len(token_hashes("\ufdfa" * 20_000)) == TOKENS_MAX  # each stands for four words


def test_forgetting_hashes_changes_none(monkeypatch):
    before = token_hashes("one two three one")
    monkeypatch.setattr("operators.text.WORDS_REMEMBERED_MAX", 2)
    assert token_hashes("one two three one four").tolist()[:4] == before.tolist()


def matches(texts: list[str], phrases: list[str]) -> list[bool]:
    """Search the phrases in texts that stand in one arena, with words of other posts around each."""
    arena, offsets, lengths = [7], [], []
    for text in texts:
        words = token_hashes(text).tolist()
        offsets.append(len(arena))
        lengths.append(len(words))
        arena += words
    found = contains_phrase(
        np.array(arena, np.uint32),
        np.array(offsets, np.int64),
        np.array(lengths, np.int64),
        [token_hashes(phrase) for phrase in phrases],
    )
    return found.tolist()


def test_a_phrase_matches_whole_words_side_by_side():
    texts = ["the game of Thrones", "game thrones", "games of thrones", "a #game, of thrones!", "", "of"]
    assert matches(texts, ["game of thrones"]) == [True, False, False, True, False, False]
    assert matches(texts, ["OF"]) == [True, False, True, True, False, True]
    assert matches(texts, ["東京", "of thrones"]) == [True, False, True, True, False, False]
    assert matches(texts, ["", "!!"]) == [False] * 6
    assert matches(texts, []) == [False] * 6
    assert matches([], ["of"]) == []


def test_a_phrase_never_runs_from_one_post_into_the_next():
    assert matches(["so it was", "all over", "was all over"], ["was all"]) == [False, False, True]


def test_a_phrase_inside_a_script_without_spaces():
    assert matches(["今日は東京で会う", "京東"], ["東京"]) == [True, False]


small_texts = st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), max_size=12)


@given(small_texts, st.lists(st.lists(st.sampled_from("abc"), max_size=3).map(" ".join), max_size=4))
def test_matching_equals_a_plain_search(texts, phrases):
    def plain(text: str) -> bool:
        return any(phrase and f" {phrase} " in f" {text} " for phrase in phrases)

    assert matches(texts, phrases) == [plain(text) for text in texts]


def test_many_single_words_take_another_way_to_the_same_answer():
    texts = [f"word{number} tail" for number in range(3000)]
    muted = [f"word{number}" for number in range(0, 3000, 30)]
    assert matches(texts, muted) == [number % 30 == 0 for number in range(3000)]
