"""The Phoenix ranker: 19 outputs for each candidate, from a viewer's context (x-algorithm.md 3.1, 3.3, 3.4).

Tokens are projected, then summed (3.4): two hashes of a post, two of its author, four content terms, and what is
around them. Training reads them through `context_tokens` and `candidate_tokens`; serving multiplies the tables with
their projections once (`folded_rows`), so that a candidate's token is a sum of rows.

Counts are rows too, one for each kind and bucket, where X puts their logarithms through a small MLP (3.4): so serving
stays a sum of rows. What the rows hold are points of a curve over the logarithm.
"""

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models.affinities import AFFINITIES
from models.config import VECTOR, PhoenixConfig
from models.features import (
    AFFINITY_MIDDLES,
    CO_LIKED_MIDDLES,
    COUNT_BUCKETS,
    COUNT_MIDDLES,
    ENTITY_ROWS,
    HISTORY_AGES,
    HOURS,
    I32,
    POST_AGES,
    VIEWER_MIDDLES,
    CandidateFeatures,
    ContextFeatures,
)
from models.inputs import CO_LIKED, Bools
from models.transformer import (
    Block,
    encode_context,
    fold,
    init_block,
    inverse_rms,
    normal,
    score_candidates,
)
from schemas.actions import ACTIONS, COUNTS, DWELL_TIME, NEGATIVE_ACTIONS, SURFACES, VIEWER_COUNTS

OUTPUTS: Final = len(ACTIONS)
# Output columns in whole vectors; those beyond the 19 actions are never read.
OUTPUT_COLUMNS: Final = -(-OUTPUTS // VECTOR) * VECTOR
# A candidate's author is followed or not, and it has a video or not.
FLAGS: Final = 4
# Curves over counts bend at knots two octaves apart and start as lines of this slope for one knot: on KuaiRand this
# took the AUC of likes from .785 (a vector for each bucket, zeros at first) to .813 with the same counts.
KNOT_BUCKETS: Final = 8
COUNT_KNOTS: Final = COUNT_BUCKETS // KNOT_BUCKETS
COUNT_LINE: Final = 0.2
# Each bucket's share of the knots on both sides of it; beyond the last knot it stays.
_PLACES: Final = np.minimum(np.arange(COUNT_BUCKETS) / KNOT_BUCKETS, COUNT_KNOTS - 1)
_AT_KNOTS: Final = np.maximum(0.0, 1.0 - np.abs(_PLACES[:, None] - np.arange(COUNT_KNOTS))).astype(np.float32)


# About one over the size of the numbers in a fresh candidate's token: so a product begins as large as a sum.
VIEWER_PRODUCT: Final = 0.3
# A look of six seconds, in units of 30 s, is about usual: it says neither yes nor no.
LOOK_USUAL: Final = 0.2
HOURS_A_DAY: Final = 24
# At first an action weighs a tenth less with each doubling of its age in minutes: a day's is a third of this minute's.
FADES: Final = 0.1
# At first an action at this hour of the day weighs e times as much as one half a day from it.
SAME_HOUR: Final = 0.5


class Entities(NamedTuple):
    """Hashed tables [buckets, E] of posts, authors and terms, and the projections of their rows to the model's width.

    One projection a hash, shared by history and candidates, so that "the same author" means the same direction on
    both sides before anything is learned.
    """

    post: Array  # zeros at first: a post never seen in training must add nothing, not noise
    author: Array
    term: Array
    project_post: Array  # [2, E, D]
    project_author: Array  # [2, E, D]
    project_term: Array  # [E, D]
    term_weights: Array  # [4], one a place: topics stand first
    semantic: Array | None = None  # [levels, 1 + codes, D] of semantic IDs, zeros at first; 0 stands for none


class Around(NamedTuple):
    """Learned vectors [n, D] of what surrounds the entities in a context."""

    user: Array  # [buckets, E], zeros at first, as for posts
    project_user: Array  # [2, E, D]
    bias_user: Array  # [D]
    bias_history: Array  # [D]
    actions: Array  # [19, D], read as (2 y - 1) W
    surface: Array
    dwell: Array  # [D]
    history_age: Array
    hour: Array


class CountRows(NamedTuple):
    """What n counts add: a line over the buckets, and what is learned beside it at knots, zeros at first."""

    knots: Array  # [n, COUNT_KNOTS, D]
    line: Array  # [n, D]


class CountTables(NamedTuple):
    """Counts of a post in its token; counts of a viewer in the user's token, and in what all candidates share."""

    post: CountRows
    user: CountRows
    shared: CountRows


class Taste(NamedTuple):
    """How the viewer stands in every candidate: what the entries of a history weigh, and the way there."""

    actions: Array  # [19], what each says of a post
    dwell: Array  # [], the same of 30 s
    bias: Array  # []
    age: Array  # [HISTORY_AGES], logarithms of factors
    hour: Array  # [24], likewise, by the hours between an action's hour of day and the request's
    to_candidates: Array  # [D, D]


class RankerParameters(NamedTuple):
    """All the ranker learns."""

    entities: Entities
    around: Around
    bias_candidate: Array  # [D]
    post_age: Array  # [POST_AGES, D]
    flags: Array  # [FLAGS, D]: neither, followed, video, both
    blocks: tuple[Block, ...]
    norm: Array  # [D]
    outputs: Array  # [D, OUTPUT_COLUMNS]
    bias_outputs: Array  # [OUTPUT_COLUMNS]
    counts: CountTables | None = None  # where the configuration has them
    co_likers: CountRows | None = None  # what co-likers say of a post, where the configuration asks them
    affinities: CountRows | None = None  # what the viewer's history says of a post, where the configuration counts it
    taste: Taste | None = None  # where the configuration has the viewer in every candidate


def init_entities(rng: np.random.Generator, config: PhoenixConfig, width: int) -> Entities:
    """Return fresh tables: authors and terms random (unlike ones start orthogonal), posts zero."""
    e = config.embedding_width
    author = normal(rng, config.author_buckets, e).at[0].set(0.0)
    term = normal(rng, config.term_buckets, e).at[0].set(0.0)
    return Entities(
        post=jnp.zeros((config.post_buckets, e)),
        # Two hashes of an author add up to a unit variance; a term starts with as much.
        author=author * 2**-0.5,
        term=term,
        project_post=normal(rng, 2, e, width) * e**-0.5,
        project_author=normal(rng, 2, e, width) * e**-0.5,
        project_term=normal(rng, e, width) * e**-0.5,
        # The first term, a topic where there is one, says most of what a post is about.
        term_weights=jnp.array([2.0, 1.0, 1.0, 1.0]),
        semantic=jnp.zeros((config.semantic_levels, 1 + config.semantic_codes, width))
        if config.semantic_levels
        else None,
    )


def init_around(rng: np.random.Generator, config: PhoenixConfig, width: int) -> Around:
    """Return fresh context vectors, small beside the entities'."""

    def small(*shape: int) -> Array:
        return normal(rng, *shape) * 0.1

    return Around(
        user=jnp.zeros((config.user_buckets, config.embedding_width)),
        project_user=normal(rng, 2, config.embedding_width, width) * config.embedding_width**-0.5,
        bias_user=small(width),
        bias_history=small(width),
        actions=normal(rng, OUTPUTS, width) * OUTPUTS**-0.5,
        surface=small(SURFACES, width),
        dwell=small(width),
        history_age=small(HISTORY_AGES, width),
        hour=small(HOURS, width),
    )


def init_ranker(rng: np.random.Generator, config: PhoenixConfig) -> RankerParameters:
    """Return a fresh ranker; all its probabilities start near 1/2."""
    width = config.width
    return RankerParameters(
        entities=init_entities(rng, config, width),
        around=init_around(rng, config, width),
        bias_candidate=jnp.zeros(width),
        post_age=normal(rng, POST_AGES, width) * 0.1,
        flags=normal(rng, FLAGS, width) * 0.1,
        blocks=tuple(init_block(rng, width, config.layers) for _ in range(config.layers)),
        norm=jnp.ones(width),
        outputs=normal(rng, width, OUTPUT_COLUMNS) * 0.1 * width**-0.5,
        bias_outputs=jnp.zeros(OUTPUT_COLUMNS),
        counts=_init_counts(rng, width) if config.counts else None,
        co_likers=_init_count_rows(rng, CO_LIKED, width) if config.co_likers else None,
        affinities=_init_count_rows(rng, AFFINITIES, width) if config.affinity_groups else None,
        taste=_init_taste(width) if config.viewer_in_candidates else None,
    )


def _init_taste(width: int) -> Taste:
    """Return a taste that begins as likeness to what was acted on or looked at for long, of late above all."""
    says = np.array([-1.0 if action in NEGATIVE_ACTIONS else 0.5 for action in ACTIONS], np.float32)
    # That there was a look says nothing; how long it was has a weight of its own.
    says[DWELL_TIME] = 0.0
    return Taste(
        actions=jnp.asarray(says),
        dwell=jnp.float32(1.0),
        bias=jnp.float32(-LOOK_USUAL),
        age=jnp.asarray(-FADES * np.arange(HISTORY_AGES), jnp.float32),
        hour=jnp.asarray(SAME_HOUR * np.cos(2 * np.pi * np.arange(HOURS_A_DAY) / HOURS_A_DAY), jnp.float32),
        to_candidates=jnp.eye(width),
    )


def _init_counts(rng: np.random.Generator, width: int) -> CountTables:
    post, user, shared = (_init_count_rows(rng, n, width) for n in (COUNTS, VIEWER_COUNTS, VIEWER_COUNTS))
    return CountTables(post, user, shared)


def _init_count_rows(rng: np.random.Generator, count: int, width: int) -> CountRows:
    return CountRows(jnp.zeros((count, COUNT_KNOTS, width)), normal(rng, count, width) * COUNT_LINE)


def folded_counts(rows: CountRows, middles: I32) -> Array:
    """Return the vectors [n x COUNT_BUCKETS, D] that stand for the buckets of n counts, one count after the other.

    Between its knots a curve is straight, so that what one bucket teaches holds for its neighbours; `middles` [n] are
    the buckets where the lines are zero, so that ten counts that are as usual do not move all there is.
    """
    along = (np.arange(COUNT_BUCKETS) - middles[:, None]).astype(np.float32) / KNOT_BUCKETS
    lines = along[:, :, None] * rows.line[:, None]
    return (jnp.asarray(_AT_KNOTS) @ rows.knots + lines).reshape(-1, rows.line.shape[-1])


def count_offsets(count: int) -> np.ndarray:
    """Return where each of n counts begins in `folded_counts`, int32[n]."""
    return np.arange(count, dtype=np.int32) * COUNT_BUCKETS


def _counted(rows: CountRows, middles: I32, buckets: Array) -> Array:
    """Return what n counts, given by their buckets [..., n], add up to [..., D]."""
    return folded_counts(rows, middles)[buckets + count_offsets(len(middles))].sum(axis=-2)


def with_user_counts(tokens: Array, folded: Array, request: Array) -> Array:
    """Return the tokens [1 + S, D] of a context with the viewer's counts, rows of `request`, in the user's."""
    return tokens.at[0].add(folded[request[2:] + count_offsets(VIEWER_COUNTS)].sum(axis=0))


def entity_tokens(entities: Entities, rows: Array, post_ids: bool) -> Array:
    """Return the projected sum [..., D] of rows [..., 8] (two post, two author, four term rows), and semantic IDs'."""
    author = entities.author[rows[..., 2:4]]
    token = jnp.einsum("...he,hed->...d", author, entities.project_author)
    terms = jnp.einsum("...te,t->...e", entities.term[rows[..., 4:ENTITY_ROWS]], entities.term_weights)
    token += terms @ entities.project_term
    if post_ids:
        post = entities.post[rows[..., :2]]
        token += jnp.einsum("...he,hed->...d", post, entities.project_post)
    if entities.semantic is not None:
        token += entities.semantic[jnp.arange(len(entities.semantic)), rows[..., ENTITY_ROWS:]].sum(axis=-2)
    return token


def around_tokens(around: Around, entity: Array, features: ContextFeatures) -> Array:
    """Return the tokens [1 + S, D] of one context: the user's, then the history's, given the entities' part [S, D].

    An action vector is (2 y - 1) W, and nothing at all where there is no action (x-algorithm.md 3.1).
    """
    user = jnp.einsum("he,hed->d", around.user[features.user], around.project_user)
    user += around.bias_user + around.surface[features.request[0]] + around.hour[features.request[1]]
    bits = (features.actions[:, None] >> jnp.arange(OUTPUTS)) & 1
    signed = jnp.where(features.actions[:, None] == 0, 0.0, 2.0 * bits - 1.0)
    surface, age, hour = (features.situation[:, column] for column in range(3))
    history = entity + around.bias_history + signed @ around.actions
    history += around.surface[surface] + around.history_age[age] + around.hour[hour]
    history += jnp.asarray(features.dwell)[:, None] * around.dwell
    return jnp.concatenate([user[None], history])


def mask_and_positions(valid: Array, history_max: int) -> tuple[Array, Array]:
    """Return the mask f32[1 + S] and the positions [1 + S] of [user | history].

    Positions count from the candidates': the newest action is at -1 whatever the padding (right-anchored,
    x-algorithm.md 3.3), the user just before the longest possible history.
    """
    slots = valid.shape[0]
    mask = jnp.concatenate([jnp.ones(1), valid.astype(jnp.float32)])
    return mask, jnp.concatenate([jnp.array([-history_max - 1]), jnp.arange(-slots, 0)])


def candidate_around(parameters: RankerParameters, request: Array) -> Array:
    """Return what all candidates of a request, given by its rows, share [D]."""
    shared = parameters.bias_candidate + parameters.around.surface[request[0]]
    if parameters.counts is None:
        return shared
    return shared + folded_counts(parameters.counts.shared, VIEWER_MIDDLES)[
        request[2:] + count_offsets(VIEWER_COUNTS)
    ].sum(axis=0)


def output_logits(parameters: RankerParameters, x: Array) -> Array:
    """Return the logits [..., OUTPUT_COLUMNS] of candidates' outputs [..., D]."""
    folded = parameters.norm[:, None] * parameters.outputs
    return inverse_rms(x) * (x @ folded) + parameters.bias_outputs


def rank_logits(
    parameters: RankerParameters,
    config: PhoenixConfig,
    context: ContextFeatures,
    candidates: CandidateFeatures,
) -> Array:
    """Return the logits [C, OUTPUT_COLUMNS] of one example, straight from the parameters: what training uses."""
    return token_logits(parameters, config, *example_tokens(parameters, config, context, candidates), context.valid)


def token_logits(
    parameters: RankerParameters, config: PhoenixConfig, tokens: Array, x: Array, valid: Bools | Array
) -> Array:
    """Return the logits [C, OUTPUT_COLUMNS] of the tokens of one example: [1 + S, D] and of its candidates [C, D]."""
    blocks = tuple(fold(block) for block in parameters.blocks)
    mask, positions = mask_and_positions(jnp.asarray(valid), config.history_max)
    layers, _ = encode_context(blocks, tokens, mask, positions, config.heads)
    return output_logits(parameters, score_candidates(blocks, layers, x, config.heads))


def example_tokens(
    parameters: RankerParameters, config: PhoenixConfig, context: ContextFeatures, candidates: CandidateFeatures
) -> tuple[Array, Array]:
    """Return the tokens [1 + S, D] of a context and [C, D] of its candidates, straight from the parameters."""
    history = entity_tokens(parameters.entities, jnp.asarray(context.entity), config.post_ids)
    tokens = around_tokens(parameters.around, history, context)
    counts, request = parameters.counts, jnp.asarray(context.request)
    if counts is not None:
        tokens = with_user_counts(tokens, folded_counts(counts.user, VIEWER_MIDDLES), request)
    x = entity_tokens(parameters.entities, jnp.asarray(candidates.entity), config.post_ids)
    x += parameters.post_age[candidates.situation[:, 0]] + parameters.flags[candidates.situation[:, 1]]
    x += candidate_around(parameters, request)
    x += _told(parameters, jnp.asarray(candidates.situation[:, 2:]))
    if parameters.taste is not None:
        factor, added = viewer_in_candidates(parameters.taste, tokens, context)
        x = x * factor + added
    return tokens, x


def _told(parameters: RankerParameters, buckets: Array) -> Array:
    """Return what is told of candidates by counts, co-likers and affinities, as far as there are any, adds up to."""
    counts = None if parameters.counts is None else parameters.counts.post
    start, total = 0, jnp.zeros(())
    for rows, middles in (
        (counts, COUNT_MIDDLES),
        (parameters.co_likers, CO_LIKED_MIDDLES),
        (parameters.affinities, AFFINITY_MIDDLES),
    ):
        if rows is not None:
            total += _counted(rows, middles, buckets[:, start : start + len(middles)])
            start += len(middles)
    return total


def viewer_in_candidates(taste: Taste, tokens: Array, context: ContextFeatures) -> tuple[Array, Array]:
    """Return what candidates' tokens are multiplied by, and what is added then, [D] each.

    That is the user's token and the history's, each weighed by what its actions say of a post, how long ago they were,
    and how far from this hour of the day: a product with it says how like a candidate is to what was liked.
    """
    bits = (context.actions[:, None] >> jnp.arange(OUTPUTS)) & 1
    weight = taste.bias + bits @ taste.actions + taste.dwell * context.dwell
    apart = (context.request[1] - context.situation[:, 2]) % HOURS_A_DAY
    weight *= jnp.exp(taste.age[context.situation[:, 1]] + taste.hour[apart]) * context.valid
    liked = weight @ tokens[1:] * jax.lax.rsqrt(1.0 + jnp.sum(context.valid))
    told = (tokens[0] + liked) @ taste.to_candidates
    return 1.0 + VIEWER_PRODUCT * told, told


def predictions(logits: Array, dwell_scale_s: float) -> Array:
    """Return the 19 outputs: 18 probabilities, and dwell_time as softplus(logit) x 30 s, the expected seconds."""
    probabilities = jax.nn.sigmoid(logits[..., : OUTPUTS - 1])
    dwell = jax.nn.softplus(logits[..., OUTPUTS - 1 : OUTPUTS]) * dwell_scale_s
    return jnp.concatenate([probabilities, dwell], axis=-1)
