"""What rules say of many posts at once, for one viewer: over sets of labels, of which there are few.

A verdict is a number: 0 shows the post, n > 0 drops it by rule n, -n shows it behind the notice of rule n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.keys import Keys, Mask, contains

Verdicts = npt.NDArray[np.int16]
LabelSets = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class ActiveRule:
    """A rule whose conditions on the viewer hold; what is left are those on posts. None and no labels are no condition.

    `recommended` marks one for posts of accounts not followed.
    """

    number: int
    verdict: str
    post_labels: frozenset[str]
    author_labels: frozenset[str]
    country_labels: frozenset[str]
    followed: bool | None
    own_post: bool | None
    recommended: bool

    @property
    def any_post(self) -> bool:
        """Whether it may hold for posts without labels, by authors without labels."""
        return not (self.post_labels or self.author_labels or self.country_labels)


class Shown:
    """Posts to be judged, n of them: their labels and their authors' as numbers of sets, and who wrote them.

    `recommended` says which come from accounts that the viewer does not follow.
    """

    __slots__ = ("author", "author_labels", "labels", "recommended")

    def __init__(self, labels: LabelSets, author_labels: LabelSets, author: Keys, recommended: Mask) -> None:
        self.labels, self.author_labels, self.author, self.recommended = labels, author_labels, author, recommended

    def take(self, rows: npt.NDArray[np.intp]) -> "Shown":
        """Return the posts at `rows`."""
        return Shown(self.labels[rows], self.author_labels[rows], self.author[rows], self.recommended[rows])


class ViewerRules:
    """The rules as they are for viewers alike in country and settings."""

    def __init__(self, rules: Sequence[ActiveRule], reasons: Sequence[tuple[str, str]]) -> None:
        """`reasons` are name and reason of every rule in order, those that hold for no such viewer as well."""
        self._rules = rules
        self._reasons = reasons
        self._any_post = any(rule.any_post and rule.verdict != "allow" for rule in rules)
        # By rule, which of the sets of labels met so far meet its conditions on post, author and country.
        self._hits: list[tuple[Mask, Mask, Mask]] = []
        self._sets: Sequence[tuple[str, ...]] = ()
        self._known = 0

    def reason(self, verdict: int) -> str:
        """Return why a post is dropped or stands behind a notice; "" for one that is shown."""
        return self._reasons[abs(verdict) - 1][1] if verdict else ""

    def told(self, verdict: int) -> str:
        """Return the rule of a verdict other than 0 in a few words: its reason, and its name for who keeps the file."""
        name, reason = self._reasons[abs(verdict) - 1]
        return f"{reason} ({name})"

    def judge(self, sets: Sequence[tuple[str, ...]], posts: Shown, followed: Keys, viewer: int) -> Verdicts:
        """Return the verdict on each post, int16[n]; `sets` are the sets of labels by number, `followed` is sorted.

        In order: the first rule that drops ends, and so does one that allows, with the first notice before it. Rules
        for recommendations are asked besides of those, whatever was allowed.
        """
        self._know(sets)
        found: Verdicts = np.zeros(len(posts.labels), np.int16)
        rows = np.arange(len(found))
        if not self._any_post:
            rows = np.flatnonzero(posts.labels | posts.author_labels)
        if len(rows):
            found[rows] = self._judge(posts.take(rows), followed, viewer)
        return found

    def _judge(self, posts: Shown, followed: Keys, viewer: int) -> Verdicts:
        is_followed, is_own = contains(followed, posts.author), posts.author == np.uint64(viewer)
        dropped, noticed = np.zeros((2, len(posts.author)), np.int16)
        is_open = np.ones(len(dropped), np.bool_)
        for rule, (by_post, by_author, by_country) in zip(self._rules, self._hits, strict=True):
            holds: Mask = posts.recommended & (dropped == 0) if rule.recommended else is_open.copy()
            if rule.post_labels:
                holds &= by_post[posts.labels]
            if rule.author_labels:
                holds &= by_author[posts.author_labels]
            if rule.country_labels:
                holds &= by_country[posts.labels] | by_country[posts.author_labels]
            if rule.followed is not None:
                holds &= is_followed == rule.followed
            if rule.own_post is not None:
                holds &= is_own == rule.own_post
            if rule.verdict == "drop":
                dropped[holds] = rule.number
            elif rule.verdict == "interstitial":
                noticed[holds & (noticed == 0)] = -rule.number
            if rule.verdict != "interstitial":
                is_open &= ~holds
        return stricter(dropped, noticed)

    def _know(self, sets: Sequence[tuple[str, ...]]) -> None:
        """Work out the rules' conditions for the sets of labels that are new; another table has other numbers."""
        if sets is not self._sets:
            self._sets, self._known, self._hits = sets, 0, [(_NONE, _NONE, _NONE) for _ in self._rules]
        new = sets[self._known :]
        if not new:
            return
        self._known += len(new)
        self._hits = [
            (
                _with(by_post, new, rule.post_labels),
                _with(by_author, new, rule.author_labels),
                _with(by_country, new, rule.country_labels),
            )
            for rule, (by_post, by_author, by_country) in zip(self._rules, self._hits, strict=True)
        ]


def stricter(one: Verdicts, other: Verdicts) -> Verdicts:
    """Return of two verdicts on the same posts the one that drops, else the one with a notice, `one` before `other`."""
    return np.where((one > 0) | ((one < 0) & (other <= 0)) | (other == 0), one, other)


def _with(known: Mask, sets: Sequence[tuple[str, ...]], labels: frozenset[str]) -> Mask:
    hits = np.fromiter((not labels.isdisjoint(one) for one in sets), np.bool_, len(sets))
    return np.concatenate([known, hits])


_NONE: Final[Mask] = np.empty(0, np.bool_)
