"""The events that flow in: posts, engagements, graph changes and feed requests.

One struct a kind, told apart by `kind`; `TOPIC_OF` says which topic carries it. Every event has its own time `at`, in
milliseconds since 1970 UTC. Unknown fields are passed over, so that a producer may be newer than the job.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from schemas.actions import SURFACE_HOME, SURFACES, Action
from schemas.ids import Id

TEXT_CHARACTERS_MAX = 25_000  # the longest post X accepts (a paid account's long post)
TOPICS_MAX = 16  # per post; X carries 32 booleans per viewer, far fewer apply to one post
TOPICS_ASKED_MAX = 6  # of a request for topics, x-algorithm.md 1.5
LABELS_MAX = 32
SETTINGS_MAX = 32
SEEN_IDS_MAX = 10_000  # as Thunder's limit on excluded ids, x-algorithm.md 2.2
FEED_LIMIT_MAX = 200
INSERTS_MAX = 32
SCORED_POSTS_MAX = 2800  # of a request to score posts, x-algorithm.md 1.5
CURSOR_CHARACTERS_MAX = 200
PATH_CHARACTERS_MAX = 1024
VIDEO_MS_MAX = 86_400_000  # a day
DWELL_S_MAX = 86_400.0

TimeMs = Annotated[int, Meta(ge=0, le=2**53, description="milliseconds since 1970 UTC")]
Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Surface = Annotated[int, Meta(ge=0, lt=SURFACES, description="product surface; 1 is home")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Country = Annotated[str, Meta(pattern="^([A-Z]{2})?$", description="ISO 3166-1, two letters; empty for not known")]
FeedName = Literal["for_you", "blended", "following_ranked", "following", "score_posts"]
InsertKind = Literal["ad", "prompt", "push_to_home", "survey"]


class PostCreated(Struct, tag_field="kind", tag="post_created", frozen=True, gc=False):
    """A post, reply, repost or quote came into being (topic posts, key author)."""

    at: TimeMs
    post: Id
    author: Id
    text: Text = ""
    language: Annotated[str, Meta(max_length=16)] = ""
    topics: Annotated[tuple[Word, ...], Meta(max_length=TOPICS_MAX)] = ()
    video_ms: Annotated[int, Meta(ge=0, le=VIDEO_MS_MAX)] = 0
    subscribers_only: bool = False
    reply_to: Id | None = None
    reply_to_author: Id | None = None
    conversation: Id | None = None
    repost_of: Id | None = None
    repost_of_author: Id | None = None
    quote_of: Id | None = None
    quote_of_author: Id | None = None


class PostDeleted(Struct, tag_field="kind", tag="post_deleted", frozen=True, gc=False):
    """A post was taken back by its author (topic posts, key author)."""

    at: TimeMs
    post: Id
    author: Id


class PostLabelled(Struct, tag_field="kind", tag="post_labelled", frozen=True, gc=False):
    """The safety labels now in force on a post, all of them (topic posts, key author)."""

    at: TimeMs
    post: Id
    author: Id
    labels: Annotated[tuple[Word, ...], Meta(max_length=LABELS_MAX)]


class AuthorLabelled(Struct, tag_field="kind", tag="author_labelled", frozen=True, gc=False):
    """The labels now in force on an author, all of them, such as suspended or protected (topic posts, key author)."""

    at: TimeMs
    author: Id
    labels: Annotated[tuple[Word, ...], Meta(max_length=LABELS_MAX)]


class Engagement(Struct, tag_field="kind", tag="engagement", frozen=True, gc=False):
    """One action of one viewer on one post, or its undoing (topic engagements, key viewer).

    `author` may be left out where the post is live. `dwell_s` counts for the action dwell_time only.
    """

    at: TimeMs
    viewer: Id
    post: Id
    action: Action
    author: Id | None = None
    dwell_s: Annotated[float, Meta(ge=0, le=DWELL_S_MAX)] = 0.0
    surface: Surface = SURFACE_HOME
    undo: bool = False


class Follow(Struct, tag_field="kind", tag="follow", frozen=True, gc=False):
    """`viewer` follows `author`, or no longer does (topic graph, key viewer)."""

    at: TimeMs
    viewer: Id
    author: Id
    undo: bool = False


class Block(Struct, tag_field="kind", tag="block", frozen=True, gc=False):
    """`viewer` blocks `author`, or no longer does; it counts for both of them (topic graph)."""

    at: TimeMs
    viewer: Id
    author: Id
    undo: bool = False


class Mute(Struct, tag_field="kind", tag="mute", frozen=True, gc=False):
    """`viewer` mutes `author`, or no longer does (topic graph, key viewer)."""

    at: TimeMs
    viewer: Id
    author: Id
    undo: bool = False


class MuteKeyword(Struct, tag_field="kind", tag="mute_keyword", frozen=True, gc=False):
    """`viewer` mutes a word or phrase, or no longer does (topic graph, key viewer)."""

    at: TimeMs
    viewer: Id
    keyword: Annotated[str, Meta(min_length=1, max_length=140)]
    undo: bool = False


class Subscribe(Struct, tag_field="kind", tag="subscribe", frozen=True, gc=False):
    """`viewer` pays for the subscriber-only posts of `author`, or no longer does (topic graph, key viewer)."""

    at: TimeMs
    viewer: Id
    author: Id
    undo: bool = False


class Profile(Struct, tag_field="kind", tag="profile", frozen=True, gc=False):
    """Facts of a viewer's account, all of them (topic graph, key viewer).

    `followings` is how many accounts it follows; left out, its follows are counted from the first profile on.
    `country` is where the viewer is, `settings` are words such as `show_sensitive`: rules of visibility go by both.
    """

    at: TimeMs
    viewer: Id
    account_created_at: TimeMs | None = None
    followers: Count = 0
    country: Country = ""
    settings: Annotated[tuple[Word, ...], Meta(max_length=SETTINGS_MAX)] = ()
    followings: Count | None = None


class UserDeleted(Struct, tag_field="kind", tag="user_deleted", frozen=True, gc=False):
    """An account is gone for good: all that is kept of it, and of its posts, is removed (topic graph, key viewer).

    Its id is not to be given out again: whatever comes of it later is passed over.
    """

    at: TimeMs
    viewer: Id


class Insert(Struct, frozen=True, gc=False):
    """What the host of the blended feed wants between the posts; of `push_to_home` the id is that of a post."""

    kind: InsertKind
    id: Id


class FeedRequest(Struct, tag_field="kind", tag="feed_request", frozen=True, gc=False):
    """A viewer wants a feed (topic feed-requests, key viewer).

    `cursor` is that of an earlier feed: the request is for the page behind it, and counts as `bottom`, which marks a
    request for more of the same feed. `topics` asks for posts on one of them only,
    `excluded_topics` for none on those: then posts without topics stay away too. `parameters` overrides single
    parameters by their dotted names for this request alone.

    `feed` names the feed wanted (operators/pipeline/surfaces.py): For You, the same blended with `inserts` and whom to
    follow, the best of followed accounts, all of theirs with the newest first, or the scores of `posts`.
    """

    at: TimeMs
    request: Id
    viewer: Id
    limit: Annotated[int, Meta(ge=1, le=FEED_LIMIT_MAX)] | None = None
    seen_ids: Annotated[tuple[Id, ...], Meta(max_length=SEEN_IDS_MAX)] = ()
    surface: Surface = SURFACE_HOME
    bottom: bool = False
    in_network_only: bool = False
    topics: Annotated[tuple[Word, ...], Meta(max_length=TOPICS_ASKED_MAX)] = ()
    excluded_topics: Annotated[tuple[Word, ...], Meta(max_length=TOPICS_MAX)] = ()
    exclude_videos: bool = False
    explain: bool = False
    parameters: dict[str, bool | int | float | str] = {}
    feed: FeedName = "for_you"
    posts: Annotated[tuple[Id, ...], Meta(max_length=SCORED_POSTS_MAX)] = ()
    cursor: Annotated[str, Meta(max_length=CURSOR_CHARACTERS_MAX)] = ""
    inserts: Annotated[tuple[Insert, ...], Meta(max_length=INSERTS_MAX)] = ()


class Served(Struct, tag_field="kind", tag="served", frozen=True, gc=False):
    """What a feed showed, in order (topic served, key viewer).

    The job writes it beside each feed; a recorded log may carry it, which is then what training reads.
    """

    at: TimeMs
    request: Id
    viewer: Id
    posts: tuple[Id, ...]
    surface: Surface = SURFACE_HOME
    model: str = ""


class ModelAnnounced(Struct, tag_field="kind", tag="model_announced", frozen=True, gc=False):
    """A model is to be taken up by running jobs (topic models, key cluster): going back is announcing the older one.

    `model` is the version that `checkpoint` must hold, `sha256` that of the file's bytes, empty where nobody checks it.
    A path that is not absolute lies in the folder of models that the job was given. `cluster` is the name of the model
    whose place it takes.
    """

    at: TimeMs
    model: Annotated[str, Meta(pattern="^[0-9a-f]{12}$", description="version of a model, 12 hexadecimal digits")]
    checkpoint: Annotated[str, Meta(min_length=1, max_length=PATH_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f]*$")]
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    cluster: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,31}$")] = "prod"


PostEvent = PostCreated | PostDeleted | PostLabelled | AuthorLabelled
POST_EVENTS: Final = (PostCreated, PostDeleted, PostLabelled, AuthorLabelled)
GraphEvent = Follow | Block | Mute | MuteKeyword | Subscribe | Profile
Event = PostEvent | Engagement | GraphEvent | UserDeleted | FeedRequest | Served | ModelAnnounced

TOPIC_OF: Final[dict[type[Struct], str]] = {
    PostCreated: "posts",
    PostDeleted: "posts",
    PostLabelled: "posts",
    AuthorLabelled: "posts",
    Engagement: "engagements",
    Follow: "graph",
    Block: "graph",
    Mute: "graph",
    MuteKeyword: "graph",
    Subscribe: "graph",
    Profile: "graph",
    UserDeleted: "graph",
    FeedRequest: "feed-requests",
    Served: "served",
    ModelAnnounced: "models",
}
TOPICS: Final[tuple[str, ...]] = tuple(dict.fromkeys(TOPIC_OF.values()))
