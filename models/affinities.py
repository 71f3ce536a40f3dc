"""What a viewer's history says of a candidate: how often its author, and each of its terms, was met there and acted on.

A history's newest groups are tokens that the ranker reads one by one; many more of them are counted here. So what
somebody likes is known from all that he did of late, for a viewer and an author that training never saw as well, and
without an id to remember it by. Not X's: its ranker has nothing but the tokens.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from models.inputs import TERMS, U8, U16, U32, U64, Bools
from schemas.actions import ACTION_INDEX, LOOKS, NEGATIVE_ACTIONS

# Of each of what a candidate is matched by, its author and its terms in their places: groups that had the same, and
# those of them in which the viewer acted and did not refuse, or stayed for 10 s (the action dwell).
AFFINITY_KINDS: Final = ("met", "acted", "dwelled")
MATCHED: Final = 1 + TERMS
# They are counted twice, over all groups and over the newest eighth: what somebody likes, and what of late.
WINDOWS: Final = (1, 8)
AFFINITIES: Final = MATCHED * len(WINDOWS) * len(AFFINITY_KINDS)

_DWELLED: Final = np.uint32(1 << ACTION_INDEX["dwell"])
_REFUSED: Final = np.uint32(sum(1 << ACTION_INDEX[name] for name in NEGATIVE_ACTIONS))
_ACTED: Final = np.uint32(sum(1 << index for name, index in ACTION_INDEX.items() if name not in LOOKS)) & ~_REFUSED
_TERM_VALUES: Final = 2**16


def affinities(history: tuple[U64, U16, U32, U8], author: U64, terms: U16) -> U32:
    """Return counts u32[B, C, MATCHED, 6] for candidates of authors [B, C] and terms [B, C, TERMS].

    They are by AFFINITY_KINDS in all of a history, then in its part of late. `history` are authors [B, S], terms
    [B, S, TERMS], action bits [B, S] and how late each group is [B, S]: the number of WINDOWS it is in, 0 for one that
    isn't there. A term counts wherever it stands in a group's post; no term, 0, is met nowhere.
    """
    met_author, met_terms, actions, windows = history
    acted = _acted(actions)
    kinds = [
        (windows > window) & kind
        for window in range(len(WINDOWS))
        for kind in (np.True_, acted, actions & _DWELLED != 0)
    ]
    out = np.empty((*author.shape, MATCHED, len(kinds)), np.uint32)
    out[:, :, 0] = _counted(*_numbered(met_author, author), kinds)
    numbers, asked = _numbered_terms(met_terms, terms)
    of_terms = _counted(numbers.reshape(len(numbers), -1), asked, [kind.repeat(TERMS, axis=1) for kind in kinds])
    of_terms[terms == 0] = 0
    out[:, :, 1:] = of_terms
    return out


def liked(actions: U32) -> Bools:
    """Return where a viewer acted and did not refuse, or stayed for 10 s and did not refuse."""
    found: Bools = _acted(actions) | ((actions & (_DWELLED | _REFUSED)) == _DWELLED)
    return found


def windows_of(age: npt.NDArray[np.int64], groups: int) -> U8:
    """Return in how many of WINDOWS, over so many groups, a group is that so many newer ones follow (below 0: none)."""
    found: U8 = np.sum([(age >= 0) & (age < groups // part) for part in WINDOWS], axis=0, dtype=np.uint8)
    return found


def _acted(actions: U32) -> Bools:
    found: Bools = (actions & _ACTED != 0) & (actions & _REFUSED == 0)
    return found


def _numbered(met: U64, asked: U64) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return small numbers that are alike where keys are."""
    _, numbers = np.unique(np.concatenate([met.ravel(), asked.ravel()]), return_inverse=True)
    return numbers[: met.size].reshape(met.shape), numbers[met.size :].reshape(asked.shape)


def _numbered_terms(met: U16, asked: U16) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return `_numbered` of terms, of which there are few enough to look them up."""
    is_there = np.zeros(_TERM_VALUES, np.bool_)
    is_there[met.ravel()] = is_there[asked.ravel()] = True
    numbers = np.cumsum(is_there) - 1
    return numbers[met], numbers[asked]


def _counted(met: npt.NDArray[np.intp], asked: npt.NDArray[np.intp], kinds: list[Bools]) -> U32:
    """Return how often each of `asked` [B, ...] is in its row of `met` [B, n] where a kind is, u32[B, ..., kinds]."""
    most = int(max(met.max(initial=0), asked.max(initial=0))) + 1
    rows = np.arange(len(met))
    met = met + rows[:, None] * most
    wanted = asked + rows.reshape(-1, *(1,) * (asked.ndim - 1)) * most
    return np.stack([np.bincount(met[kind], minlength=len(met) * most)[wanted] for kind in kinds], axis=-1).astype(
        np.uint32
    )
