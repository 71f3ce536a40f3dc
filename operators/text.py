"""Words of a post in any script, as hashes, and muted phrases found in many posts at once (x-algorithm.md 1.2, row 9).

X's tokeniser is withheld. Ours takes runs of letters, digits and combining marks, without regard to case or to how a
letter was composed. Scripts that put no space between words, and emoji, give one token a character: a phrase of them
is then a run of tokens, and matches inside longer text.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

Tokens = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# More tokens than characters of the longest post come only from ligatures that stand for whole sentences.
TOKENS_MAX: Final = 25_000
# Words with a remembered hash, some 120 bytes each. Word use is so skewed that most of a text is among them.
WORDS_REMEMBERED_MAX: Final = 32_768

# For plain ASCII one table folds case and puts a space for all that is no part of a word: three times as fast.
_ASCII_FOLDED: Final = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() or code == ord("_") else 32 for code in range(128)
)
_ASCII_TABLE: Final = _ASCII_FOLDED + bytes(128)
# Thai, Lao, Myanmar, Khmer, kana, Han, then emoji: no spaces between words.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff\u2600-\u27bf\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff"
)
# Signs inside words that `\w` does not take: accents, Hebrew and Arabic points, vowel signs of the Indic blocks.
_MARKS: Final = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0971-\u0dff"
)
_WORDS: Final = re.compile(f"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[\\w{_MARKS}])+")

# Up to so many single words are compared one by one (5 us each in 45,000 words); more go through one table (90 us).
_COMPARED_MAX: Final = 12
# The words of so many posts stay in the processor's cache, and in memory that needn't be asked for anew each time.
_POSTS_AT_ONCE: Final = 1024
_BETWEEN_POSTS: Final = 0  # no word's hash, so that no phrase runs from one post into the next


def tokenise(text: str) -> list[str]:
    """Return the words of a text in order, casefolded; `#tag` and `@name` give `tag` and `name`."""
    return [word.decode() for word in _words(text)]


def _words(text: str) -> list[bytes]:
    if text.isascii():
        return text.encode().translate(_ASCII_TABLE).split()
    # Composed, casefolded and composed again: folding can take a character apart.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return [word.encode() for word in _WORDS.findall(folded)]


class _Hashes(dict[bytes, int]):
    """Remember the hashes of words met before; forget all of them at a fixed number."""

    def __missing__(self, word: bytes) -> int:
        if len(self) >= WORDS_REMEMBERED_MAX:
            self.clear()
        digest = self[word] = xxhash.xxh32_intdigest(word) or 1
        return digest


_hashes: Final = _Hashes()


def token_hashes(text: str) -> Tokens:
    """Return the XXH32 hashes of a text's words, uint32[n], none 0, n <= TOKENS_MAX."""
    return np.array(hash_words(text), np.uint32)


def hash_words(text: str) -> list[int]:
    """Return what `token_hashes` does, as a list: batches of posts put many in one array."""
    return [_hashes[word] for word in _words(text)[:TOKENS_MAX]]


def contains_phrase(tokens: Tokens, offsets: Places, lengths: Places, phrases: Sequence[Tokens]) -> Mask:
    """Return which posts contain one of `phrases` as a run of whole words, bool[n].

    Post i has the words `tokens[offsets[i] : offsets[i] + lengths[i]]`. A phrase without words matches nothing. Words
    are compared by 32-bit hashes: in 2,000 posts of 30 words a phrase matches by accident once in 70,000 requests.
    """
    found = np.zeros(len(offsets), np.bool_)
    phrases = [phrase for phrase in phrases if len(phrase)]
    if phrases and len(tokens):
        singles = np.unique(np.array([phrase[0] for phrase in phrases if len(phrase) == 1], np.uint32))
        longer = [phrase for phrase in phrases if len(phrase) > 1]
        for start in range(0, len(offsets), _POSTS_AT_ONCE):
            some = slice(start, start + _POSTS_AT_ONCE)
            found[some] = _contains(tokens, offsets[some], lengths[some], singles, longer)
    return found


def _contains(tokens: Tokens, offsets: Places, lengths: Places, singles: Tokens, longer: list[Tokens]) -> Mask:
    """Return which posts contain one of the sorted words `singles` or one of the phrases `longer`."""
    ends = np.cumsum(lengths + 1)  # one place more a post, for what stands between posts
    index = np.repeat(offsets - (ends - lengths - 1), lengths + 1)
    index += np.arange(len(index))
    words = tokens.take(index, mode="clip")
    words[ends - 1] = _BETWEEN_POSTS
    hits = _hits_of_words(words, singles)
    for phrase in longer:
        starts = max(len(words) - len(phrase) + 1, 0)
        run = words[:starts] == phrase[0]
        for step in range(1, len(phrase)):
            run &= words[step : starts + step] == phrase[step]
        hits[:starts] |= run
    found = np.zeros(len(offsets), np.bool_)
    found[np.searchsorted(ends, np.flatnonzero(hits), side="right")] = True
    return found


def _hits_of_words(words: Tokens, wanted: Tokens) -> Mask:
    """Return at which places one of `wanted` (sorted) stands."""
    if len(wanted) <= _COMPARED_MAX:
        hits = np.zeros(len(words), np.bool_)
        for word in wanted:
            hits |= words == word
        return hits
    maybe = np.zeros(1 << 16, np.bool_)
    maybe[wanted & 0xFFFF] = True
    hits = maybe.take(words.astype(np.uint16))
    places = np.flatnonzero(hits)
    hits[places] = wanted.take(np.searchsorted(wanted, words[places]), mode="clip") == words[places]
    return hits
