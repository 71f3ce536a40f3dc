"""Rules of visibility: a TOML file of labels, groups of labels and rules in order, checked and made ready.

    labels = ["spam", "nsfw", "suspended"]
    settings = ["show_sensitive"]
    [groups]
    bad = ["spam"]                          # a group names labels, or other groups
    [[rules]]                               # for every post; the first that drops ends, and so does one that allows
    name = "bad_post"
    post_labels = ["bad"]
    verdict = "drop"                        # allow, interstitial or drop
    reason = "the post breaks the rules"    # for people
    [[recommendation_rules]]                # beside them, for posts of accounts not followed; these may only drop

docs/visibility.md lists the conditions.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from operators.visibility.verdicts import ActiveRule, ViewerRules

BUILT_IN: Final = Path(__file__).parent / "default.toml"
# A verdict is a rule's number in 16 bits with its sign; so many no file needs.
RULES_MAX: Final = 1_000
# What rules say for viewers alike in country and settings is worked out once: some 200 countries, few settings.
VIEWERS_ALIKE_MAX: Final = 1_024


class VisibilityRefused(ValueError):
    """A file of rules that can't be used; the message says the way out."""


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: holds where all its conditions do. Lists hold where one of their words does.

    `post_labels` are of the post and `author_labels` of its author, groups allowed; `country_labels` are of either and
    count in the viewer's country alone (`withheld` as `withheld:DE` for viewers in DE). `countries` is where the viewer
    is, `settings` are some the viewer has, `without_settings` some of which the viewer has none.
    """

    name: str
    verdict: Literal["allow", "interstitial", "drop"]
    reason: str
    post_labels: tuple[str, ...] = ()
    author_labels: tuple[str, ...] = ()
    country_labels: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    without_settings: tuple[str, ...] = ()
    followed: bool | None = None
    own_post: bool | None = None

    @property
    def conditions(self) -> dict[str, tuple[str, ...] | bool]:
        """The conditions it has, by name."""
        given = {name: getattr(self, name) for name in CONDITIONS}
        return {name: value for name, value in given.items() if value not in ((), None)}

    def said(self) -> str:
        """Return what it does, where and why, in a sentence."""
        where = [
            f"{name.replace('_', ' ')} {', '.join(value)}"
            if isinstance(value, tuple)
            else f"{'' if value else 'not '}{name.replace('_', ' ')}"
            for name, value in self.conditions.items()
        ]
        return f"{self.verdict.capitalize()} by {' and '.join(where)}: {self.reason}."


CONDITIONS: Final = tuple(name for name in Rule.__struct_fields__ if name not in ("name", "verdict", "reason"))
LABELLED: Final = ("post_labels", "author_labels", "country_labels")


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file as it is written."""

    labels: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = {}
    rules: tuple[Rule, ...] = ()
    recommendation_rules: tuple[Rule, ...] = ()


class VisibilityRules:
    """Rules in order, their labels written out; numbered from 1, those for recommendations behind the others."""

    def __init__(self, file: _File) -> None:
        """Raises VisibilityRefused."""
        self._file = file
        _refuse_names(file)
        labels = _Labels(file.labels, file.groups)
        self.rules = tuple(_checked(rule, labels, file.settings) for rule in file.rules)
        self.recommended = tuple(_checked(one, labels, file.settings) for one in file.recommendation_rules)
        for rule in self.recommended:
            if rule.verdict != "drop":
                raise VisibilityRefused(
                    f"recommendation rule {rule.name} says {rule.verdict}: these rules may only drop; "
                    "put it among the rules"
                )
        self._settings = frozenset(file.settings)
        self._alike = lru_cache(VIEWERS_ALIKE_MAX)(self._of_viewers_alike)

    @classmethod
    def load(cls, path: Path) -> "VisibilityRules":
        """Return the rules of a TOML file. Raises VisibilityRefused, its message beginning with the file."""
        try:
            tables = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise VisibilityRefused(f"visibility file {path} can't be read: {error}") from None
        try:
            return cls.of(tables)
        except VisibilityRefused as error:
            raise VisibilityRefused(f"visibility file {path}: {error}") from None

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> "VisibilityRules":
        """Return the rules of tables as a file holds them. Raises VisibilityRefused."""
        for rule in _tables_of_rules(tables):
            for name in sorted(rule.keys() - {"name", "verdict", "reason", *CONDITIONS}):
                raise VisibilityRefused(
                    f"rule {rule.get('name', '?')} has an unknown condition {name}: there are {', '.join(CONDITIONS)}"
                )
        try:
            return cls(msgspec.convert(dict(tables), _File))
        except msgspec.ValidationError as error:
            raise VisibilityRefused(str(error).replace(" - at `$.", " at `")) from None

    def __reduce__(self) -> tuple[type["VisibilityRules"], tuple[_File]]:
        """Go to another process as the file."""
        return VisibilityRules, (self._file,)

    @property
    def all(self) -> tuple[Rule, ...]:
        """All rules by their numbers less one."""
        return self.rules + self.recommended

    def for_viewer(self, country: str, settings: Iterable[str]) -> ViewerRules:
        """Return what the rules say for viewers in a country with these settings."""
        return self._alike(country, self._settings.intersection(settings))

    def _of_viewers_alike(self, country: str, settings: frozenset[str]) -> ViewerRules:
        active = [
            ActiveRule(
                number=number,
                verdict=rule.verdict,
                post_labels=frozenset(rule.post_labels),
                author_labels=frozenset(rule.author_labels),
                country_labels=frozenset(f"{label}:{country}" for label in rule.country_labels),
                followed=rule.followed,
                own_post=rule.own_post,
                recommended=number > len(self.rules),
            )
            for number, rule in enumerate(self.all, start=1)
            if _holds_for(rule, country, settings)
        ]
        return ViewerRules(active, tuple((rule.name, rule.reason) for rule in self.all))


def _holds_for(rule: Rule, country: str, settings: frozenset[str]) -> bool:
    """Return whether the conditions on viewers hold; a rule that holds in some countries holds for nobody in none."""
    return (
        (not rule.countries or country in rule.countries)
        and (not rule.country_labels or bool(country))
        and (not rule.settings or not settings.isdisjoint(rule.settings))
        and settings.isdisjoint(rule.without_settings)
    )


def _tables_of_rules(tables: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for section in ("rules", "recommendation_rules"):
        listed = tables.get(section, ())
        if isinstance(listed, list):
            yield from (rule for rule in listed if isinstance(rule, dict))


def _refuse_names(file: _File) -> None:
    """Refuse too many rules, and names that stand for two things."""
    rules = file.rules + file.recommendation_rules
    if len(rules) > RULES_MAX:
        raise VisibilityRefused(f"{len(rules)} rules; at most {RULES_MAX} are allowed")
    names = [rule.name for rule in rules]
    for name in names:
        if not name or names.count(name) > 1:
            raise VisibilityRefused(f"two rules are called {name}" if name else "a rule has an empty name")
    for name in file.groups:
        if name in file.labels:
            raise VisibilityRefused(f"{name} is a label and a group")


def _checked(rule: Rule, labels: "_Labels", settings: tuple[str, ...]) -> Rule:
    """Return a rule with its groups written out. Raises VisibilityRefused for what is not declared."""
    where = f"rule {rule.name}"
    if not rule.conditions:
        raise VisibilityRefused(f"{where} has no condition and would hold for every post: give it one")
    for name in (*rule.settings, *rule.without_settings):
        if name not in settings:
            raise VisibilityRefused(f"{where} names a setting {name} that is not declared{_near(name, settings)}")
    for country in rule.countries:
        if not (len(country) == 2 and country.isascii() and country.isupper()):
            raise VisibilityRefused(f"{where}: {country!r} is no country: two capital letters, as in DE")
    written_out = {name: labels.written_out(getattr(rule, name), where) for name in LABELLED}
    return msgspec.structs.replace(rule, **written_out)


class _Labels:
    """Declared labels, and groups written out as labels."""

    def __init__(self, labels: tuple[str, ...], groups: Mapping[str, tuple[str, ...]]) -> None:
        """Raises VisibilityRefused for a group that names itself, directly or by others, or what is not declared."""
        self._labels = dict.fromkeys(labels)
        self._groups = groups
        for name in groups:
            self._of_group(name, ())

    def written_out(self, names: Iterable[str], where: str) -> tuple[str, ...]:
        """Return labels and groups as labels, each once. Raises VisibilityRefused for what is neither."""
        found: dict[str, None] = {}
        for name in names:
            if name in self._groups:
                found |= dict.fromkeys(self._of_group(name, ()))
            elif name in self._labels:
                found[name] = None
            else:
                known = (*self._labels, *self._groups)
                raise VisibilityRefused(f"{where} names a label {name} that is not declared{_near(name, known)}")
        return tuple(found)

    def _of_group(self, group: str, inside: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels of a group that was come to from within others."""
        if group in inside:
            loop = " > ".join((*inside[inside.index(group) :], group))
            raise VisibilityRefused(f"group {group} contains itself: {loop}")
        found: list[str] = []
        for name in self._groups[group]:
            if name in self._groups:
                found += self._of_group(name, (*inside, group))
            else:
                found += self.written_out((name,), f"group {group}")
        return tuple(dict.fromkeys(found))


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


DEFAULT: Final = VisibilityRules.load(BUILT_IN)
