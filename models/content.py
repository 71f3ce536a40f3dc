"""Content terms: what a post is about, in four 16-bit numbers, whatever its script."""

import re
from typing import Final

import xxhash

from models.inputs import TERM_VALUES, TERMS

# A post says what it is about in its first lines; beyond the length of a plain post nothing is read.
CHARACTERS_READ: Final = 280
# Links and names of people say little of the content itself.
_NOT_CONTENT: Final = re.compile(r"https?://\S+|@\w+")
# Words are runs of letters and digits in any script; for plain ASCII a table finds the same ones 3 times as fast.
_WORD: Final = re.compile(r"[^\W_]+")
_BREAKS: Final = {code: " " for code in range(128) if not chr(code).isalnum()}


def content_terms(text: str, topics: tuple[str, ...], language: str) -> tuple[int, int, int, int]:
    """Return four terms of a post, 1 to 65,535, then 0 where there are fewer: its topics first, then its words.

    Topics stand as "#topic", hashed apart from words, in the order given; a hashtag in the text counts as a word.
    Words are the longest distinct ones after casefolding, the earlier first among equals: long words are rare words,
    so they tell more, and no list of stop words in any language is needed. A text in a script without spaces gives
    its runs between punctuation. `language` is hashed with the words, so that words spelled alike in two languages
    are two terms; topics are shared by all languages.
    """
    names = ["#" + topic.casefold() for topic in topics[:TERMS]]
    if len(names) < TERMS and text:
        folded = text[:CHARACTERS_READ].casefold()
        if "@" in folded or "://" in folded:
            folded = _NOT_CONTENT.sub(" ", folded)
        words = folded.translate(_BREAKS).split() if folded.isascii() else _WORD.findall(folded)
        longest = sorted(dict.fromkeys(words), key=len, reverse=True)  # stable: the earlier first among equals
        names += [f"{language}:{word}" for word in longest[: TERMS - len(names)]]
    terms = [xxhash.xxh3_64_intdigest(name.encode()) % (TERM_VALUES - 1) + 1 for name in names]
    terms += [0] * (TERMS - len(terms))
    return terms[0], terms[1], terms[2], terms[3]
