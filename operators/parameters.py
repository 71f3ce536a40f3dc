"""Every number of the algorithm in one typed tree, with X's August 2026 values as defaults (x-algorithm.md 1.5, 2.2).

A dotted name (`scoring.oon_factor`) addresses one of them, in a TOML file, on the command line or in a request. Those
with scope "job" shape the state and stay as the job was started; all others may differ by request.
"""

import difflib
import functools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from schemas.actions import ACTIONS

Overriding = bool | int | float | str  # what a request may set a parameter to
Value = Overriding | list[str]


class ParameterRefused(ValueError):
    """A parameter that does not exist, or a value that does not fit it; the message names the way out."""


def _meta(
    description: str, source: str, scope: str = "request", *, ge: float | None = None, le: float | None = None
) -> Meta:
    return Meta(description=description, extra={"source": source, "scope": scope}, ge=ge, le=le)


class History(Struct, frozen=True, forbid_unknown_fields=True):
    """The viewer's action sequence."""

    groups_max: Annotated[int, _meta("groups of actions kept per viewer", "1.5; 128 as 3.1", "job", ge=1, le=1024)] = (
        128
    )
    window_s: Annotated[
        int, _meta("actions on one post within this time form one group", "1.5, 300,000 ms", "job", ge=0)
    ] = 300


class Posts(Struct, frozen=True, forbid_unknown_fields=True):
    """The live posts."""

    retention_s: Annotated[int, _meta("how long a post stays live", "2.2", "job", ge=1)] = 172_800


class Thunder(Struct, frozen=True, forbid_unknown_fields=True):
    """The in-network source."""

    enabled: Annotated[bool, _meta("ask Thunder for candidates", "1.5 sources")] = True
    posts_max: Annotated[int, _meta("posts returned", "2.2", ge=0, le=10_000)] = 1200
    videos_max: Annotated[int, _meta("posts returned to a request for videos", "2.2", ge=0, le=10_000)] = 600
    followees_max: Annotated[int, _meta("followed authors looked at", "2.2", ge=0, le=100_000)] = 10_000
    excluded_max: Annotated[int, _meta("seen ids excluded at the source", "2.2", ge=0, le=100_000)] = 10_000
    originals_per_author: Annotated[int, _meta("originals per author", "2.2", ge=0, le=5000)] = 50
    secondary_per_author: Annotated[int, _meta("replies and reposts per author", "2.2", ge=0, le=5000)] = 30
    videos_per_author: Annotated[int, _meta("videos per author", "2.2", ge=0, le=5000)] = 100
    scan_per_author: Annotated[int, _meta("entries looked at per author and list", "2.2", ge=0, le=5000)] = 500


class Retrieval(Struct, frozen=True, forbid_unknown_fields=True):
    """The out-of-network source: the nearest posts to the viewer's embedding."""

    enabled: Annotated[bool, _meta("ask the candidate index", "1.5 sources")] = True
    posts_max: Annotated[int, _meta("posts returned", "1.5 sources", ge=0, le=10_000)] = 1000


def _switch(source: str) -> Meta:
    return _meta("run this component", source)


class CoLikers(Struct, frozen=True, forbid_unknown_fields=True):
    """The source of what people who liked what the viewer liked also liked; for models and jobs that keep co-likers."""

    enabled: Annotated[bool, _meta("ask co-likers for candidates", "not X's; loved elsewhere")] = True
    posts_max: Annotated[int, _meta("posts returned", "not X's", ge=0, le=10_000)] = 400


class Fallback(Struct, frozen=True, forbid_unknown_fields=True):
    """Popular and fresh posts for whom the other sources have little."""

    enabled: Annotated[bool, _meta("fall back on popular and fresh posts", "not X's")] = True
    below: Annotated[int, _meta("candidates so far with which there is no need to", "not X's", ge=0)] = 100
    popular_max: Annotated[int, _meta("popular posts returned", "not X's", ge=0, le=10_000)] = 200
    fresh_max: Annotated[int, _meta("fresh posts returned", "not X's", ge=0, le=10_000)] = 200
    scan_max: Annotated[int, _meta("newest posts among which the popular are sought", "not X's", ge=0)] = 20_000


class Filters(Struct, frozen=True, forbid_unknown_fields=True):
    """The filters, each with a switch of its name, and what they go by."""

    drop_duplicates: Annotated[bool, _switch("1.5 row 1")] = True
    core_data_hydration: Annotated[bool, _switch("1.5 row 2")] = True
    age: Annotated[bool, _switch("1.5 row 3")] = True
    self_tweet: Annotated[bool, _switch("1.5 row 4")] = True
    oon_retweet_reply: Annotated[bool, _switch("1.5 row 5")] = True
    oon_nsfw_simclusters: Annotated[bool, _switch("1.5 row 6")] = True
    retweet_deduplication: Annotated[bool, _switch("1.5 row 7")] = True
    ineligible_subscription: Annotated[bool, _switch("1.5 row 8")] = True
    previously_seen: Annotated[bool, _switch("1.5 row 9")] = True
    previously_seen_backup: Annotated[bool, _switch("1.5 row 10")] = True
    previously_served: Annotated[bool, _switch("1.5 row 11")] = True
    viewer_muted_keyword: Annotated[bool, _switch("1.5 row 12")] = True
    author_socialgraph: Annotated[bool, _switch("1.5 row 13")] = True
    video: Annotated[bool, _switch("1.5 row 15")] = True
    author_list: Annotated[bool, _switch("1.5 row 14, in general")] = True
    topic_ids: Annotated[bool, _switch("1.5 row 16")] = True
    new_user_min_engagement: Annotated[bool, _switch("1.5 row 17")] = False
    inventory_holdout: Annotated[bool, _switch("1.5 row 18")] = False
    fav_holdout: Annotated[bool, _switch("1.5, [S]")] = False
    visibility: Annotated[bool, _switch("1.5 post-selection")] = True
    ancillary_visibility: Annotated[bool, _switch("1.5 post-selection")] = True
    dedup_conversation: Annotated[bool, _switch("1.5 post-selection")] = True
    originals_pass: Annotated[
        bool, _meta("of a post and its retweets only retweets are dropped, as in January", "1.2 row 5")
    ] = False
    listed_authors: Annotated[
        tuple[str, ...], _meta("authors kept from all who do not follow them, ids as text", "1.5 row 14, in general")
    ] = ()
    new_user_age_s: Annotated[int, _meta("an account younger than this is new", "1.5 row 17", ge=0)] = 1800
    new_user_engagement_min: Annotated[
        int,
        _meta("actions a post needs to be shown to a new account out of network", "1.5 row 17", ge=0),
    ] = 1
    holdout_percent: Annotated[int, _meta("posts held out, of a hundred", "1.5 row 18", ge=0, le=100)] = 1
    holdout_percent_oon: Annotated[
        int, _meta("posts held out from who does not follow the author", "1.5 row 18", ge=0, le=100)
    ] = 1
    age_s: Annotated[int, _meta("older posts are dropped", "1.5 row 3", ge=0)] = 172_800
    served_every_request: Annotated[
        bool, _meta("drop served posts on every request, not only at the bottom of the feed", "1.5 row 11")
    ] = True
    served_window_s: Annotated[int, _meta("how long served posts are remembered", "1.5 row 11", "job", ge=0)] = 600
    served_max: Annotated[int, _meta("how many served posts are remembered", "1.5 row 11", "job", ge=0)] = 100
    seen_max: Annotated[
        int, _meta("seen ids remembered per viewer, newest kept", "2.2 limit on excluded ids", "job", ge=0)
    ] = 10_000


class Weights(Struct, frozen=True, forbid_unknown_fields=True):
    """Weight of each predicted probability; a head the model does not have counts as 0."""

    favorite: Annotated[float, _meta("", "1.5")] = 0.5
    reply: Annotated[float, _meta("", "1.5")] = 5.0
    reply_engaged_by_author: Annotated[float, _meta("no head yet", "2023-generation.md 2")] = 0.0
    retweet: Annotated[float, _meta("", "1.5")] = 1.0
    photo_expand: Annotated[float, _meta("", "1.5")] = 0.05
    video_open: Annotated[float, _meta("no head yet", "1.5")] = 0.05
    click: Annotated[float, _meta("", "1.5")] = 0.4
    good_click_v2: Annotated[float, _meta("no head yet", "2023-generation.md 2")] = 0.0
    open_link: Annotated[float, _meta("no head yet", "1.5")] = 0.2
    profile_click: Annotated[float, _meta("", "1.5")] = 0.0
    vqv: Annotated[float, _meta("video quality view", "1.5")] = 0.05
    share: Annotated[float, _meta("", "1.5")] = 2.0
    share_via_dm: Annotated[float, _meta("", "1.5")] = 5.0
    share_via_copy_link: Annotated[float, _meta("", "1.5")] = 20.0
    dwell: Annotated[float, _meta("", "1.5")] = 0.0
    quote: Annotated[float, _meta("", "1.5")] = 5.0
    quoted_click: Annotated[float, _meta("", "1.5")] = 0.05
    quoted_vqv: Annotated[float, _meta("no head yet", "1.5")] = 0.0
    follow_author: Annotated[float, _meta("", "1.5")] = 4.0
    post_unexplored: Annotated[float, _meta("in-network only; no head yet", "1.5")] = 0.02
    not_interested: Annotated[float, _meta("", "1.5")] = -43.2
    block_author: Annotated[float, _meta("", "1.5")] = -31.2
    mute_author: Annotated[float, _meta("", "1.5")] = -58.8
    report: Annotated[float, _meta("", "1.5")] = -234.0
    not_dwelled: Annotated[float, _meta("no head yet", "1.5")] = -0.02
    dwell_time: Annotated[float, _meta("per second; continuous, not part of T", "1.5")] = 0.004


# Continuous terms are not part of T, the sum that scales the negative offset (x-algorithm.md 1.5, item 1).
CONTINUOUS_WEIGHTS: Final = frozenset({"dwell_time"})


class Scoring(Struct, frozen=True, forbid_unknown_fields=True):
    """From probabilities to a score."""

    value_model: Annotated[
        Literal["weighted", "mpn", "dwell_regret", "march_2023"],
        _meta("the value model: weighted, mpn, dwell_regret or march_2023", "1.5; 2023-generation.md 2"),
    ] = "weighted"
    author_diversity: Annotated[bool, _switch("1.5")] = True
    out_of_network: Annotated[bool, _switch("1.5")] = True
    negative_offset: Annotated[float, _meta("e: where non-negative scores start", "1.5", ge=0)] = 0.001
    reply_mutual_follow_boost: Annotated[
        float, _meta("added to the reply weight for originals of mutual follows", "1.5")
    ] = 15.0
    video_ms_min: Annotated[int, _meta("vqv counts only for strictly longer videos", "1.5", ge=0)] = 10_000
    video_followers_max: Annotated[
        int, _meta("vqv does not count for viewers with this many followers or more", "1.5", ge=0)
    ] = 10_000
    diversity_decay: Annotated[float, _meta("per earlier post of the author", "1.5", ge=0, le=1)] = 0.5
    diversity_floor: Annotated[float, _meta("least factor of author diversity", "1.5", ge=0, le=1)] = 0.25
    oon_factor: Annotated[float, _meta("factor of out-of-network posts", "1.5", ge=0)] = 0.75
    oon_factor_for_replies_and_reposts: Annotated[
        bool, _meta("in-network replies and reposts get the factor too", "1.5, item 4")
    ] = True
    new_viewer_oon_factor: Annotated[float, _meta("the factor for eligible new viewers", "1.5", ge=0)] = 1e-5
    new_viewer_age_s: Annotated[int, _meta("accounts younger than this are new; 0 is off", "1.5", ge=0)] = 0
    new_viewer_follows_min: Annotated[int, _meta("follows that make a new viewer eligible", "1.5", ge=0)] = 5


class Fatigue(Struct, frozen=True, forbid_unknown_fields=True):
    """What "not interested" in a post does to its author's others, for that viewer."""

    enabled: Annotated[bool, _meta("lower authors the viewer was not interested in", "2023-generation.md 3")] = False
    factor: Annotated[float, _meta("the factor at once", "2023-generation.md 3", ge=0, le=1)] = 0.2
    recovery_s: Annotated[
        int, _meta("time after which it is 1 again, rising in a line; 140 days", "2023-generation.md 3", ge=1)
    ] = 12_096_000


class SlateDiversity(Struct, frozen=True, forbid_unknown_fields=True):
    """Caps at the top of the feed, from a proposal that X has not merged."""

    enabled: Annotated[bool, _meta("keep an author from filling the top of a feed", "1.6 slate diversity")] = False
    per_author: Annotated[int, _meta("posts of an author at the top", "1.6 slate diversity", ge=1)] = 2
    top: Annotated[int, _meta("posts that are the top", "1.6 slate diversity", ge=1)] = 20
    look_ahead: Annotated[int, _meta("places from which a post may come up", "1.6 slate diversity", ge=1)] = 10


class Dpp(Struct, frozen=True, forbid_unknown_fields=True):
    """The selection of posts that are good and unlike each other."""

    enabled: Annotated[bool, _meta("choose the selected posts for diversity too", "1.6")] = True
    theta: Annotated[float, _meta("how much quality counts beside diversity", "1.6", ge=0, le=0.99)] = 0.65
    pool: Annotated[int, _meta("best posts that `selection.top_k` are chosen from", "1.6", ge=1, le=1000)] = 150


class Selection(Struct, frozen=True, forbid_unknown_fields=True):
    """How many go on."""

    candidates_max: Annotated[int, _meta("candidates ranked per request", "1.5 scorers", ge=1, le=10_000)] = 2800
    top_k: Annotated[int, _meta("posts selected before the last filters", "1.5 selector", ge=1, le=10_000)] = 50
    result_size: Annotated[int, _meta("posts in a feed", "1.5", ge=1, le=200)] = 35


class Serving(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a request may take, where requests come from Kafka; a recorded log knows no hurry."""

    deadline_ms: Annotated[
        int, _meta("a request published longer ago is answered without the model; 0 is never", "4", ge=0)
    ] = 1200
    waiting_max: Annotated[
        int, _meta("requests that may wait for the ranker; of more the oldest are shed", "4, as in flight", "job", ge=1)
    ] = 256


class Visibility(Struct, frozen=True, forbid_unknown_fields=True):
    """Safety labels that drop a post; the names are this project's, X's rules are richer (x-algorithm.md 1.7)."""

    drop_labels: Annotated[tuple[str, ...], _meta("drop for everybody", "1.7")] = ("spam", "abuse", "illegal")
    drop_labels_oon: Annotated[
        tuple[str, ...], _meta("drop from accounts not followed, beside the above", "1.7, the stricter set")
    ] = ("nsfw", "gore", "low_quality")


class Parameters(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole tree."""

    history: History = History()
    posts: Posts = Posts()
    thunder: Thunder = Thunder()
    retrieval: Retrieval = Retrieval()
    co_likers: CoLikers = CoLikers()
    fallback: Fallback = Fallback()
    filters: Filters = Filters()
    weights: Weights = Weights()
    scoring: Scoring = Scoring()
    fatigue: Fatigue = Fatigue()
    dpp: Dpp = Dpp()
    slate_diversity: SlateDiversity = SlateDiversity()
    selection: Selection = Selection()
    visibility: Visibility = Visibility()
    serving: Serving = Serving()

    def says(self, switch: str) -> bool:
        """Return a parameter that switches something, by its dotted name; what has no switch is on."""
        section, _, field = switch.partition(".")
        return not switch or bool(getattr(getattr(self, section), field))

    def overridden(self, values: Mapping[str, Value], scope: str = "job") -> "Parameters":
        """Return the tree with `values` (dotted name to value) in place of its own.

        `scope` "request" refuses parameters that shape the state. Raises ParameterRefused.
        """
        tree: dict[str, Any] = msgspec.to_builtins(self)
        for name, value in values.items():
            entry = ENTRIES.get(name)
            if entry is None:
                raise ParameterRefused(_unknown(name))
            if scope == "request" and entry.scope == "job":
                raise ParameterRefused(f"parameter {name} belongs to the job; a request can't change it")
            section, _, field = name.partition(".")
            tree[section][field] = value
        try:
            return msgspec.convert(tree, Parameters)
        except msgspec.ValidationError as error:
            raise ParameterRefused(f"parameter {str(error).replace(' - at `$.', ' at `')}") from None


class Entry(Struct, frozen=True):
    """One parameter as documents and refusals need it."""

    name: str
    default: Any
    type: str
    description: str
    source: str
    scope: str


def _entries() -> Iterator[Entry]:
    for section, struct in get_type_hints(Parameters).items():
        for field, hint in get_type_hints(struct, include_extras=True).items():
            kind, meta = get_args(hint)[0], get_args(hint)[1]
            extra = meta.extra
            yield Entry(
                name=f"{section}.{field}",
                default=getattr(getattr(Parameters(), section), field),
                type={tuple: "list", Literal: "str"}.get(get_origin(kind)) or kind.__name__,
                description=meta.description or field.replace("_", " "),
                source=extra["source"],
                scope=extra["scope"],
            )


ENTRIES: Final[dict[str, Entry]] = {entry.name: entry for entry in _entries()}
DEFAULTS: Final = Parameters()

# Every output of the model has a weight.
assert set(ACTIONS) <= set(Weights.__struct_fields__)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, ENTRIES, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "; `run_flow.py parameters` lists all"
    return f"no parameter is called {name}{hint}"


def load(path: Path, base: Parameters = DEFAULTS) -> Parameters:
    """Return `base` with the values of a TOML file: one table a section, or dotted names. Raises ParameterRefused."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ParameterRefused(f"parameter file {path} can't be read: {error}") from None
    flat: dict[str, Value] = {}
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise ParameterRefused(_unknown(section))
        flat |= {f"{section}.{field}": value for field, value in table.items()}
    return base.overridden(flat)


def parse_assignment(text: str) -> tuple[str, Value]:
    """Return name and value of `name=value`, the value read as TOML and else as a plain word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ParameterRefused(f"{text!r} is not of the form name=value")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


@functools.lru_cache(maxsize=1024)
def _for_request(base: Parameters, overrides: tuple[tuple[str, Overriding], ...]) -> Parameters:
    return base.overridden(dict(overrides), scope="request")


def for_request(base: Parameters, overrides: Mapping[str, Overriding]) -> Parameters:
    """Return the job's parameters with a request's overrides; equal overrides are resolved once.

    Raises ParameterRefused.
    """
    return _for_request(base, tuple(sorted(overrides.items()))) if overrides else base
