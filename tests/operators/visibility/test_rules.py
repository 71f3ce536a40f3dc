"""Files of rules: what they say in what order, and how bad ones are refused (x-algorithm.md 1.7)."""

import pickle
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.visibility import DEFAULT, ViewerRules, VisibilityRefused, VisibilityRules
from operators.visibility.rules import BUILT_IN, CONDITIONS
from operators.visibility.verdicts import Shown, stricter

VIEWER = 7
FOLLOWED = 50
STRANGER = 60
START = """
labels = ["spam", "nsfw", "gore", "suspended", "withheld"]
settings = ["show_sensitive", "work"]
[groups]
sensitive = ["nsfw", "gore"]
bad = ["sensitive", "spam"]
"""


def rules(text: str) -> VisibilityRules:
    return VisibilityRules.of(tomllib.loads(START + text))


def rule(name: str, verdict: str, condition: str, section: str = "rules") -> str:
    return f'[[{section}]]\nname = "{name}"\nverdict = "{verdict}"\nreason = "because {name}"\n{condition}\n'


def judged(
    of: ViewerRules,
    labels: tuple[str, ...] = (),
    author_labels: tuple[str, ...] = (),
    author: int = FOLLOWED,
) -> str:
    """Return the verdict on one post as the sign and name of the rule, "" where it is shown."""
    sets = [(), labels, author_labels]
    post = Shown(
        np.array([1], np.uint16),
        np.array([2], np.uint16),
        np.array([author], np.uint64),
        np.array([author == STRANGER]),
    )
    (verdict,) = of.judge(sets, post, np.array([FOLLOWED], np.uint64), VIEWER).tolist()
    return "" if not verdict else f"{'-' if verdict < 0 else ''}{of.told(verdict).split('(')[1][:-1]}"


def test_the_first_rule_that_drops_ends_and_so_does_one_that_allows() -> None:
    of = rules(
        rule("own", "allow", "own_post = true")
        + rule("first", "drop", 'post_labels = ["spam"]')
        + rule("second", "drop", 'post_labels = ["bad"]')
    ).for_viewer("", ())
    assert judged(of, ("spam",)) == "first"
    assert judged(of, ("gore", "spam")) == "first"
    assert judged(of, ("gore",)) == "second", "a group may name another"
    assert judged(of, ("spam",), author=VIEWER) == ""
    assert judged(of, ("cute",)) == "", "a label that no rule names does nothing"


def test_the_first_notice_is_carried_on_and_a_later_drop_still_drops() -> None:
    text = (
        rule("notice", "interstitial", 'post_labels = ["sensitive"]')
        + rule("other_notice", "interstitial", 'post_labels = ["gore"]')
        + rule("known", "allow", "followed = true")
        + rule("gone", "drop", 'author_labels = ["suspended"]')
    )
    of = rules(text).for_viewer("", ())
    assert judged(of, ("gore",)) == "-notice"
    assert of.reason(-1) == "because notice"
    assert judged(of, ("gore",), ("suspended",), author=STRANGER) == "gone"
    assert judged(of, ("gore",), ("suspended",)) == "-notice", "what is allowed keeps the notice before it"


def test_rules_for_recommendations_come_on_top_for_accounts_not_followed() -> None:
    of = rules(
        rule("fine", "allow", 'post_labels = ["nsfw"]')
        + rule("notice", "interstitial", 'post_labels = ["gore"]')
        + rule("stranger", "drop", 'post_labels = ["sensitive"]', "recommendation_rules")
    ).for_viewer("", ())
    assert (judged(of, ("nsfw",)), judged(of, ("nsfw",), author=STRANGER)) == ("", "stranger")
    assert (judged(of, ("gore",)), judged(of, ("gore",), author=STRANGER)) == ("-notice", "stranger")


def test_conditions_on_the_viewer() -> None:
    text = (
        rule("country", "drop", 'countries = ["DE", "FR"]\npost_labels = ["spam"]')
        + rule("setting", "drop", 'settings = ["work"]\npost_labels = ["nsfw"]')
        + rule("unset", "interstitial", 'without_settings = ["show_sensitive"]\npost_labels = ["gore"]')
        + rule("withheld", "drop", 'country_labels = ["withheld"]')
    )
    all_rules = rules(text)
    of = all_rules.for_viewer
    assert [judged(of(country, ()), ("spam",)) for country in ("DE", "FR", "US", "")] == ["country", "country", "", ""]
    assert judged(of("", ("work",)), ("nsfw",)) == "setting"
    assert judged(of("", ("show_sensitive", "and another")), ("nsfw",)) == ""
    assert judged(of("", ("work",)), ("gore",)) == "-unset"
    assert judged(of("", ("show_sensitive",)), ("gore",)) == ""
    withheld = ("withheld:DE",)
    assert judged(of("DE", ()), withheld) == judged(of("DE", ()), (), withheld) == "withheld"
    assert judged(of("FR", ()), withheld) == judged(of("", ()), withheld) == judged(of("DE", ()), ("withheld",)) == ""
    assert of("FR", ("work", "unheard of")) is of("FR", ("work",)), "worked out once for viewers alike"


def test_a_rule_may_hold_without_labels() -> None:
    of = rules(rule("strangers", "drop", "followed = false")).for_viewer("", ())
    assert (judged(of), judged(of, author=STRANGER)) == ("", "strangers")


def test_new_sets_of_labels_are_judged_as_they_come_and_so_are_those_of_another_table() -> None:
    of = rules(rule("spam", "drop", 'post_labels = ["spam"]')).for_viewer("", ())
    sets: list[tuple[str, ...]] = [()]

    def drops(handles: list[int]) -> list[int]:
        count = len(handles)
        posts = Shown(
            np.array(handles, np.uint16),
            np.zeros(count, np.uint16),
            np.ones(count, np.uint64),
            np.ones(count, np.bool_),
        )
        return of.judge(sets, posts, np.empty(0, np.uint64), VIEWER).tolist()

    assert drops([0]) == [0]
    sets += [("nsfw",), ("nsfw", "spam")]
    assert drops([0, 1, 2]) == [0, 0, 1]
    sets = [(), ("spam",)]
    assert drops([1, 0]) == [1, 0]


def test_the_built_in_rules() -> None:
    anybody, german = DEFAULT.for_viewer("", ()), DEFAULT.for_viewer("DE", ("show_sensitive",))
    for label in ("spam", "abuse", "illegal"):
        assert judged(anybody, (label,)) == judged(anybody, (label,), author=STRANGER) == "forbidden_post"
    for label, told in (("nsfw", "-sensitive_post"), ("gore", "-sensitive_post"), ("low_quality", "")):
        assert judged(anybody, (label,)) == told
        assert judged(german, (label,)) == "", "such viewers want to see it"
        assert judged(anybody, (label,), author=STRANGER) == "not_recommended"
    assert judged(anybody, (), ("nsfw",), author=STRANGER) == "author_not_recommended"
    assert judged(anybody, (), ("suspended",)) == "gone_author"
    protected = [judged(anybody, (), ("protected",), author) for author in (FOLLOWED, STRANGER, VIEWER)]
    assert protected == ["", "protected_author", ""]
    assert (judged(anybody, ("withheld:DE",)), judged(german, ("withheld:DE",))) == ("", "withheld_here")


BAD = {
    "labels = [": "can't be read: ",
    "[[rules]]\n": "missing required field `name`",
    rule("r", "hide", 'post_labels = ["spam"]'): "Invalid enum value 'hide'",
    rule("r", "drop", 'post_labels = ["span"]'): "rule r names a label span that is not declared; did you mean spam?",
    rule("r", "drop", 'author_labels = ["zebra"]'): "rule r names a label zebra that is not declared",
    rule("r", "drop", 'post_label = ["spam"]'): f"unknown condition post_label: there are {', '.join(CONDITIONS)}",
    rule("r", "drop", ""): "rule r has no condition and would hold for every post",
    rule("r", "drop", 'settings = ["wrok"]'): "a setting wrok that is not declared; did you mean work?",
    rule("r", "drop", 'countries = ["de"]'): "rule r: 'de' is no country",
    rule("r", "drop", "followed = 1"): "Expected `bool | null`, got `int`",
    rule("r", "drop", "followed = true") * 2: "two rules are called r",
    rule("r", "allow", "own_post = true", "recommendation_rules"): "recommendation rule r says allow: these rules may",
    rule(
        "r", "interstitial", "own_post = true", "recommendation_rules"
    ): "says interstitial: these rules may only drop",
    '[groups]\na = ["b"]\nb = ["nsfw", "c"]\nc = ["a"]': "group a contains itself: a > b > c > a",
    '[groups]\na = ["a"]': "group a contains itself: a > a",
    '[groups]\na = ["unheard"]': "group a names a label unheard that is not declared",
    '[groups]\nspam = ["nsfw"]': "spam is a label and a group",
    "colours = []": "unknown field `colours`",
}


@pytest.mark.parametrize(("text", "said"), BAD.items(), ids=list(BAD.values()))
def test_bad_files_are_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "rules.toml"
    declared = START.partition("[groups]")[0] if "[groups]" in text else START
    file.write_text(text + "\n" + START if text == "colours = []" else declared + text)
    with pytest.raises(VisibilityRefused) as refused:
        VisibilityRules.load(file)
    assert str(refused.value).startswith(f"visibility file {file}")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value).removeprefix(f"visibility file {file} can't be read: ")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VisibilityRefused, match="can't be read"):
        VisibilityRules.load(tmp_path / "none.toml")


def test_rules_go_to_other_processes_as_they_are() -> None:
    again = pickle.loads(pickle.dumps(VisibilityRules.load(BUILT_IN)))
    assert again.all == DEFAULT.all


WORDS = ("spam", "nsfw", "gore", "suspended")


@st.composite
def rule_texts(draw: st.DrawFn) -> str:
    """Return rules in any order, of any verdict, on any labels."""
    text = ""
    for number in range(draw(st.integers(0, 6))):
        section = draw(st.sampled_from(["rules", "recommendation_rules"]))
        verdict = draw(st.sampled_from(["allow", "interstitial", "drop"])) if section == "rules" else "drop"
        conditions = [f'post_labels = ["{draw(st.sampled_from(WORDS))}"]']
        conditions += [f'author_labels = ["{draw(st.sampled_from(WORDS))}"]'] * draw(st.booleans())
        conditions += [f"followed = {str(draw(st.booleans())).lower()}"] * draw(st.booleans())
        text += rule(f"r{number}", verdict, "\n".join(conditions[draw(st.integers(0, len(conditions) - 1)) :]), section)
    return text


def one_by_one(of: VisibilityRules, labels: tuple[str, ...], by: tuple[str, ...], author: int) -> int:
    """Return the verdict on one post by going through the rules as the documents tell it."""
    notice = 0

    def holds(one: object) -> bool:
        wanted = [
            not set(getattr(one, name)) or set(getattr(one, name)) & set(has)
            for name, has in (("post_labels", labels), ("author_labels", by))
        ]
        followed = getattr(one, "followed", None)
        return all(wanted) and followed in (None, author == FOLLOWED)

    for number, one in enumerate(of.rules, start=1):
        if holds(one) and one.verdict == "drop":
            return number
        if holds(one) and one.verdict == "allow":
            break
        if holds(one):
            notice = notice or -number
    for number, one in enumerate(of.recommended, start=len(of.rules) + 1):
        if author == STRANGER and holds(one):
            return number
    return notice


@given(
    rule_texts(),
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(WORDS), max_size=2),
            st.lists(st.sampled_from(WORDS), max_size=2),
            st.sampled_from([FOLLOWED, STRANGER]),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_many_at_once_are_judged_as_each_by_itself(text: str, posts: list[tuple[list[str], list[str], int]]) -> None:
    of = rules(text)
    sets: list[tuple[str, ...]] = [()]
    numbers = []
    for labels, by, _ in posts:
        sets += [tuple(labels), tuple(by)]
        numbers.append((len(sets) - 2, len(sets) - 1))
    columns = np.array(numbers, np.uint16)
    authors = np.array([author for _, _, author in posts], np.uint64)
    shown = Shown(columns[:, 0], columns[:, 1], authors, authors == STRANGER)
    found = of.for_viewer("", ()).judge(sets, shown, np.array([FOLLOWED], np.uint64), VIEWER)
    assert found.tolist() == [one_by_one(of, tuple(labels), tuple(by), author) for labels, by, author in posts]


def test_of_two_verdicts_the_stricter_holds_and_of_equals_the_first() -> None:
    pairs = {(0, 0): 0, (0, -2): -2, (-1, 0): -1, (-1, -2): -1, (-1, 2): 2, (1, 2): 1, (1, -2): 1, (0, 2): 2}
    one, other = (np.array(column, np.int16) for column in zip(*pairs, strict=True))
    assert stricter(one, other).tolist() == list(pairs.values())
