"""Content terms: topics first, then the longest words, in any script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.content import content_terms


def test_topics_come_first_and_are_shared_by_languages() -> None:
    english = content_terms("a good read", ("tech", "ai"), "en")
    german = content_terms("gut zu lesen", ("tech", "ai"), "de")
    assert english[:2] == german[:2]
    assert english[2:] != german[2:]


def test_the_longest_words_stand_for_a_text() -> None:
    assert content_terms("we saw the extraordinary migration of cranes", (), "en") == content_terms(
        "extraordinary migration! cranes (saw)", (), "en"
    )


def test_words_are_told_from_topics_and_languages_apart() -> None:
    assert content_terms("tech", (), "en")[0] != content_terms("", ("tech",), "en")[0]
    assert content_terms("gift", (), "en")[0] != content_terms("gift", (), "de")[0]


def test_links_and_names_are_passed_over() -> None:
    plain = content_terms("birds return", (), "en")
    assert content_terms("@somebody birds return https://example.org/a_very_long_address", (), "en") == plain


def test_case_does_not_count_and_repetition_adds_nothing() -> None:
    assert content_terms("Birds BIRDS birds", (), "en") == content_terms("birds", (), "en")


def test_an_empty_post_has_no_terms() -> None:
    assert content_terms("", (), "") == (0, 0, 0, 0)
    assert content_terms("?! ...", (), "en") == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "text", ["今日は天気がいいですね。散歩に行きましょう", "Погода сегодня хорошая", "الطقس جميل اليوم", "naïve café"]
)
def test_every_script_has_terms(text: str) -> None:
    assert content_terms(text, (), "xx")[0] > 0


@given(st.text(max_size=400), st.lists(st.text(min_size=1, max_size=20), max_size=6), st.sampled_from(["", "en"]))
def test_any_text_gives_four_terms_with_padding_last(text: str, topics: list[str], language: str) -> None:
    terms = content_terms(text, tuple(topics), language)
    assert all(0 <= term < 2**16 for term in terms)
    assert sorted(terms, key=lambda term: term == 0) == list(terms)
    assert terms == content_terms(text, tuple(topics), language)


@given(st.text(st.characters(max_codepoint=127), max_size=200))
def test_plain_text_finds_the_same_words_as_any_text(text: str) -> None:
    # An accent at the end takes the other way through the code, and is a word of its own of one letter.
    import re

    folded = re.sub(r"https?://\S+|@\w+", " ", text.casefold())
    words = sorted(dict.fromkeys(re.findall(r"[^\W_]+", folded)), key=len, reverse=True)[:4]
    wanted = [content_terms(word, (), "en")[0] for word in words]
    assert [term for term in content_terms(text, (), "en") if term] == wanted
