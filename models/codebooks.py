"""The codebook of a model with semantic IDs, from what a first model has learned of content terms."""

from collections.abc import Iterable

import numpy as np

from models.config import PhoenixConfig
from models.inputs import TERMS, ExampleBatch
from models.phoenix import Phoenix
from models.semantic_ids import Codebook, learn_codebook


def codebook_from(first: Phoenix, batches: Iterable[ExampleBatch], config: PhoenixConfig) -> Codebook:
    """Return a codebook for the posts of some batches, by the vectors that the first model's towers have of terms.

    Raises ValueError where the first model has other term tables or towers, and where too few posts differ.
    """
    shapes = [(one.term_buckets, one.retrieval_width) for one in (first.config, config)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "the model to take semantic IDs from has {} terms of width {}; {} of {} are needed".format(
                *shapes[0], *shapes[1]
            )
        )
    entities = first.parameters.two_tower.entities
    vectors = np.asarray(entities.term @ entities.project_term)
    terms = np.zeros((1, TERMS), np.uint16)
    for batch in batches:
        found = [batch.terms[batch.valid], batch.history_terms.reshape(-1, TERMS)]
        terms = np.unique(np.concatenate([terms, *found]), axis=0)
    return learn_codebook(vectors, terms, config.semantic_levels, config.semantic_codes)
