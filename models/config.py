"""The shape of Phoenix: one typed configuration for the ranker and the two-tower retrieval model, and its presets."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from models.inputs import TERM_VALUES

# Every matrix product's output width is a multiple of this: with whole vectors of 16 floats and no edge tile, XLA on
# a CPU gives a row the same bits whatever the number of rows beside it (tests/models/test_exactness.py).
VECTOR: Final = 16
# Products of the whole numbers of a codebook of this width stay below 2^31 (models/semantic_ids.py).
SEMANTIC_WIDTH_MAX: Final = 512

Width = Annotated[int, Meta(ge=VECTOR, le=4096, multiple_of=VECTOR)]
Buckets = Annotated[int, Meta(ge=2, le=2**27)]
Layers = Annotated[int, Meta(ge=1, le=32)]
Heads = Annotated[int, Meta(ge=1, le=64)]


class PhoenixConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Widths, layers and table sizes of both models. Raises ValueError where they do not fit each other.

    The defaults are the widths compute.md section 7 measures ("small"): d 128, 2 layers, 4 heads, history 128.
    Buckets count table rows, row 0 being padding. `post_ids` and `retrieval_post_ids` say whether the hashed id of
    a post is read by the ranker and by the retrieval towers: they tell posts apart in logs without text, and mean
    little for posts that training never saw.

    With `retrieval_causal` the user tower reads a history forwards: what it says after each action follows from those
    up to it, and the newest is the viewer's vector. One pass then learns from every action of a history, where the
    mean over a history seen from both sides learns from one (models/sequences.py).

    With `affinity_groups` the ranker reads what so many of the newest groups of a history, more than it reads one by
    one, say of a candidate's author and terms (models/affinities.py); a job keeps `history.groups_max` of them.

    With `counts` the ranker reads how often a post was shown and acted on, and how often its viewer was and did; with
    `co_likers` how close those who acted on it are to the viewer, and how fresh that is. With `viewer_in_candidates`
    every candidate's token is added to and multiplied by the viewer's: a taste for a topic is a product of the two,
    which attention and feed-forward alone are slow to find.

    With `semantic_levels` both models read that many semantic IDs of a post, `semantic_codes` a level, from a codebook
    in the checkpoint (models/semantic_ids.py; x-algorithm.md 3.4 has 6 of 256).
    """

    width: Width = 128
    layers: Layers = 2
    heads: Heads = 4
    history_max: Annotated[int, Meta(ge=32, le=1024, multiple_of=32)] = 128
    embedding_width: Width = 64
    user_buckets: Buckets = 2**15
    post_buckets: Buckets = 2**16
    author_buckets: Buckets = 2**15
    term_buckets: Annotated[int, Meta(ge=2, le=TERM_VALUES)] = 2**14
    post_ids: bool = True
    retrieval_width: Width = 128
    retrieval_layers: Layers = 2
    retrieval_heads: Heads = 4
    retrieval_post_ids: bool = True
    retrieval_causal: bool = False
    counts: bool = False
    co_likers: bool = False
    viewer_in_candidates: bool = False
    affinity_groups: Annotated[int, Meta(ge=0, le=1024)] = 0
    semantic_levels: Annotated[int, Meta(ge=0, le=6)] = 0
    semantic_codes: Annotated[int, Meta(ge=2, le=256)] = 256

    def __post_init__(self) -> None:
        for name, width, heads in (
            ("width", self.width, self.heads),
            ("retrieval_width", self.retrieval_width, self.retrieval_heads),
        ):
            if width % heads or (width // heads) % VECTOR:
                raise ValueError(
                    f"{name} {width} over {heads} heads: the width of a head must be a multiple of {VECTOR}"
                )
        if self.semantic_levels and (self.retrieval_causal or self.retrieval_width > SEMANTIC_WIDTH_MAX):
            raise ValueError(
                f"semantic IDs are for towers of up to {SEMANTIC_WIDTH_MAX} that read a history from both sides"
            )

    @property
    def groups_read(self) -> int:
        """Return how many of the newest groups of a history anything is read of."""
        return max(self.history_max, self.affinity_groups)

    def check_groups(self, groups_max: int) -> None:
        """Raise ValueError where more groups of a viewer's actions are counted than a job keeps."""
        if self.affinity_groups > groups_max:
            raise ValueError(
                f"counts {self.affinity_groups} groups of a viewer's actions, and {groups_max} are kept: "
                f"set history.groups_max={self.affinity_groups}"
            )

    def as_dict(self) -> dict[str, object]:
        """Return the configuration as plain data, as a checkpoint states it.

        What is switched off isn't mentioned: models from before there was such a thing keep their version.
        """
        stated: dict[str, object] = msgspec.to_builtins(self)
        for name in (
            "retrieval_causal",
            "counts",
            "co_likers",
            "viewer_in_candidates",
            "affinity_groups",
            "semantic_levels",
        ):
            if not stated[name]:
                del stated[name]
        if not self.semantic_levels:
            del stated["semantic_codes"]
        return stated


# Small enough for a checkpoint in the repository (< 4 MB as f16) and for training in minutes on two cores. Its posts
# live for two days, so that the hashed ids of those it was trained on say nothing of later ones.
DEMO: Final = PhoenixConfig(
    width=64,
    layers=1,
    history_max=64,
    embedding_width=32,
    user_buckets=2048,
    post_buckets=4096,
    author_buckets=4096,
    term_buckets=4096,
    post_ids=False,
    retrieval_width=64,
    retrieval_layers=1,
    retrieval_post_ids=False,
    counts=True,
    viewer_in_candidates=True,
)
# For logs without texts, where only its hashed id tells a post from others.
IDS: Final = PhoenixConfig(
    width=64,
    history_max=64,
    embedding_width=32,
    user_buckets=2**15,
    post_buckets=2**15,
    author_buckets=2**14,
    term_buckets=2,
    retrieval_width=64,
    retrieval_layers=1,
    counts=True,
)
# For retrieval of the next post from long histories over a catalogue that changes little.
FILMS: Final = PhoenixConfig(
    width=32,
    layers=1,
    heads=2,
    history_max=96,
    embedding_width=64,
    user_buckets=2,
    post_buckets=2**13,
    author_buckets=2,
    term_buckets=2**12,
    retrieval_width=64,
    retrieval_layers=2,
    retrieval_heads=2,
    retrieval_causal=True,
)
STANDARD: Final = PhoenixConfig(counts=True)
# For few people who act a lot: what they did over days tells more than an id that training must learn first.
AFFINITIES: Final = msgspec.structs.replace(DEMO, affinity_groups=1024)
PRESETS: Final[dict[str, PhoenixConfig]] = {
    "demo": DEMO,
    "ids": IDS,
    "films": FILMS,
    "standard": STANDARD,
    "affinities": AFFINITIES,
}
