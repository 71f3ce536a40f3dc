"""Content terms: what a post is about, in four 16-bit numbers, whatever its script."""

import re
from typing import Final, TypeVar

import xxhash

from models.inputs import TERM_VALUES, TERMS

Word = TypeVar("Word", str, bytes)

# A post says what it is about in its first lines; beyond the length of a plain post nothing is read.
CHARACTERS_READ: Final = 280
# Links and names of people say little of the content itself.
_NOT_CONTENT: Final = re.compile(r"https?://\S+|@\w+")
# Words are runs of letters and digits in any script; for plain ASCII a table of bytes finds the same ones much faster.
_WORD: Final = re.compile(r"[^\W_]+")
_BREAKS: Final = bytes(code if code < 128 and chr(code).isalnum() else 32 for code in range(256))


def content_terms(text: str, topics: tuple[str, ...], language: str) -> tuple[int, int, int, int]:
    """Return four terms of a post, 1 to 65,535, then 0 where there are fewer: its topics first, then its words.

    Topics stand as "#topic", hashed apart from words, in the order given; a hashtag in the text counts as a word.
    Words are the longest distinct ones after casefolding, the earlier first among equals: long words are rare words,
    so they tell more, and no list of stop words in any language is needed. A text in a script without spaces gives
    its runs between punctuation. `language` is hashed with the words, so that words spelled alike in two languages
    are two terms; topics are shared by all languages.
    """
    names = [("#" + topic.casefold()).encode() for topic in topics[:TERMS]]
    if len(names) < TERMS and text:
        folded = text[:CHARACTERS_READ].casefold()
        if "@" in folded or "://" in folded:
            folded = _NOT_CONTENT.sub(" ", folded)
        prefix = f"{language}:".encode()
        if folded.isascii():
            some = _longest(folded.encode().translate(_BREAKS).split(), TERMS - len(names))
            names += [prefix + word for word in some]
        else:
            names += [prefix + word.encode() for word in _longest(_WORD.findall(folded), TERMS - len(names))]
    terms = [xxhash.xxh3_64_intdigest(name) % (TERM_VALUES - 1) + 1 for name in names]
    terms += [0] * (TERMS - len(terms))
    return terms[0], terms[1], terms[2], terms[3]


def _longest(words: list[Word], count: int) -> list[Word]:
    """Return the longest distinct words, the earlier first among equals (sorting is stable)."""
    return sorted(dict.fromkeys(words), key=len, reverse=True)[:count]
