"""What one step reads of a batch: features, lent negatives, labels and weights, and which table rows it touches."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from models.config import PhoenixConfig
from models.features import DWELL_SCALE_S, ENTITY_ROWS, I32, CandidateFeatures, ContextFeatures, batch_features
from models.inputs import TERMS, ExampleBatch
from models.losses import DWELL_CAP_S, RankerLabels, RetrievalLabels, counts_of, retrieval_labels
from models.optimiser import Tables
from models.recipe import TrainingConfig
from models.semantic_ids import SemanticIds

# Up to this many rows a table's row numbers are looked up in a column of its length, faster than by searching.
LOOKED_UP_ROWS: Final = 2**22


class StepInputs(NamedTuple):
    """All that one step reads, as arrays of fixed shapes."""

    context: ContextFeatures
    candidates: CandidateFeatures
    labels: RankerLabels
    retrieval_context: ContextFeatures
    entity: I32
    retrieval: RetrievalLabels


def step_inputs(
    batch: ExampleBatch,
    config: PhoenixConfig,
    training: TrainingConfig,
    rng: np.random.Generator,
    semantic: SemanticIds | None = None,
) -> StepInputs:
    """Return what a step reads of a batch: features, lent negatives, labels and weights."""
    if config.co_likers or config.affinity_groups:
        # A lent post carries what the LENDER's co-likers and history say of it: to learn from it that they mean
        # nothing is wrong.
        training = msgspec.structs.replace(training, negatives=0)
    context, own = batch_features(batch, config, semantic)
    entity = own.entity.reshape(-1, own.entity.shape[-1])
    hidden = rng.random(len(batch.viewer)) < training.identity_dropout
    lent, lent_weight = _lent_negatives(batch, training, rng)
    situation = own.situation.reshape(-1, own.situation.shape[-1])[lent]
    situation[..., 1] &= 2  # whether the borrowing viewer follows the author is not known: say no; video stays
    candidates = CandidateFeatures(
        np.concatenate([own.entity, entity[lent]], axis=1),
        np.concatenate([own.situation, situation], axis=1),
    )
    bare = context._replace(user=context.user.copy(), entity=context.entity.copy())
    bare.user[hidden] = 0
    bare.entity[hidden, :, :2] = 0
    candidates.entity[hidden, :, :2] = 0
    forgotten = rng.random(len(batch.viewer)) < training.history_dropout
    return StepInputs(
        context=bare,
        candidates=candidates,
        labels=_ranker_labels(batch, lent_weight * np.float32(training.negative_weight)),
        retrieval_context=context._replace(valid=context.valid & ~forgotten[:, None]),
        entity=entity,
        retrieval=retrieval_labels(
            batch.viewer, batch.post, batch.label_actions, batch.shown, batch.valid, training.soft_negatives
        ),
    )


def _lent_negatives(
    batch: ExampleBatch, training: TrainingConfig, rng: np.random.Generator
) -> tuple[np.ndarray[Any, np.dtype[np.intp]], np.ndarray[Any, np.dtype[np.float32]]]:
    """Return flat rows [B, N] of other viewers' candidates, and the weight of each.

    A post counts 1 / how often it was lent, so that frequent posts are not pushed down for being frequent. A row of
    the same viewer or a post among his own candidates weighs nothing.
    """
    examples, _, columns = batch.shape
    pool = np.flatnonzero(batch.valid)
    if len(pool) == 0 or training.negatives == 0:
        return np.zeros((examples, training.negatives), np.intp), np.zeros((examples, training.negatives), np.float32)
    lent = pool[rng.integers(0, len(pool), (examples, training.negatives))]
    post = batch.post.ravel()[lent]
    counts = counts_of(post.ravel()).reshape(post.shape)
    usable = batch.viewer[lent // columns] != batch.viewer[:, None]
    usable &= ~(post[:, :, None] == batch.post[:, None, :]).any(axis=2)
    return lent, np.where(usable, 1.0 / counts, 0.0).astype(np.float32)


def _ranker_labels(batch: ExampleBatch, lent_weight: np.ndarray[Any, np.dtype[np.float32]]) -> RankerLabels:
    """Return the labels of own and lent candidates; lent ones have no action."""
    nothing = np.zeros(lent_weight.shape, np.float32)
    seen = batch.valid & (batch.shown | (batch.label_actions != 0))
    dwell = np.minimum(batch.label_dwell_s, DWELL_CAP_S) / DWELL_SCALE_S
    return RankerLabels(
        actions=np.concatenate([batch.label_actions.view(np.int32), nothing.astype(np.int32)], axis=1),
        dwell=np.concatenate([dwell.astype(np.float32), nothing], axis=1),
        weight=np.concatenate([batch.valid.astype(np.float32), lent_weight], axis=1),
        seen=np.concatenate([seen.astype(np.float32), nothing], axis=1),
    )


def table_sizes(config: PhoenixConfig) -> Tables:
    """Return how many rows the hashed tables have."""
    return Tables(config.post_buckets, config.author_buckets, config.term_buckets, config.user_buckets)


def rows_read(shape: tuple[int, int, int], config: PhoenixConfig) -> Tables:
    """Return how many rows of each table a batch of this shape (B, S, M) reads at most, row 0 among them."""
    examples, slots, columns = shape
    posts = examples * (slots + columns)
    most = Tables(2 * posts, 2 * posts, TERMS * posts, 2 * examples)
    return Tables(*(min(read + 1, buckets) for read, buckets in zip(most, table_sizes(config), strict=True)))


def compacted(inputs: StepInputs, config: PhoenixConfig) -> tuple[I32, StepInputs]:
    """Return the rows that a step reads of all tables, and the inputs with places among those in place of row numbers.

    Rows are numbered through the tables in their order. There are as many as `rows_read` says; those too many are
    numbers beyond the last table.
    """
    examples, slots, _ = inputs.context.entity.shape
    sizes, most = table_sizes(config), rows_read((examples, slots, len(inputs.entity) // examples), config)
    # Retrieval sees every id; the ranker the same ones, or row 0 where they are hidden.
    contexts, posts = inputs.retrieval_context, inputs.entity
    entity = np.concatenate([contexts.entity.reshape(-1, posts.shape[1]), posts])
    found = [
        _rows(read, buckets)
        for read, buckets in zip(
            (entity[:, :2], entity[:, 2:4], entity[:, 4:ENTITY_ROWS], contexts.user), sizes, strict=True
        )
    ]
    post_places, author_places, term_places, user_places = (places for _, places in found)

    def entities(rows: I32) -> I32:
        columns = post_places(rows[..., :2]), author_places(rows[..., 2:4]), term_places(rows[..., 4:ENTITY_ROWS])
        return np.concatenate([*columns, rows[..., ENTITY_ROWS:]], axis=-1)

    def context(of: ContextFeatures) -> ContextFeatures:
        return of._replace(user=user_places(of.user), entity=entities(of.entity))

    places = inputs._replace(
        context=context(inputs.context),
        retrieval_context=context(inputs.retrieval_context),
        candidates=inputs.candidates._replace(entity=entities(inputs.candidates.entity)),
        entity=entities(inputs.entity),
    )
    numbers, start = np.full(sum(most), sum(sizes), np.int32), 0
    for table, (rows, _) in enumerate(found):
        numbers[start : start + len(rows)] = rows + sum(sizes[:table])
        start += most[table]
    return numbers, places


def _rows(read: I32, buckets: int) -> tuple[I32, Callable[[I32], I32]]:
    """Return the distinct rows read of a table, row 0 among them, and what finds a row's place."""
    if buckets > LOOKED_UP_ROWS:
        known = np.union1d(read, np.zeros(1, np.int32))
        return known, lambda numbers: np.searchsorted(known, numbers).astype(np.int32)
    met = np.zeros(buckets, np.bool_)
    met[read] = True
    met[0] = True
    distinct = np.flatnonzero(met).astype(np.int32)
    place = np.empty(buckets, np.int32)
    place[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, lambda numbers: place[numbers]
