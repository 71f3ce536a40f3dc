"""A stream of examples of the toy world, and settings with which a tiny model learns it in a few hundred of them."""

from dataclasses import replace

import msgspec
import numpy as np

from flows.training_examples import Example
from models.config import DEMO
from operators.parameters import assignment
from operators.parameters.learning import LearningSettings
from tests.models.toy_world import START_MS, example

SECOND_MS = 1000
# Small steps and a high rate: the toy world is learned in a few hundred examples.
SETTINGS = LearningSettings(
    interval_examples=64,
    examples_a_step=16,
    posts_max=12,
    learning_rate=4e-3,
    averaging=0.8,
    warm_up_steps=5,
    positives_min=20,
    publish_margin=0.02,
)
# The same on the command line.
OPTIONS = [
    part
    for name, value in msgspec.to_builtins(SETTINGS).items()
    for part in ("--set", assignment(f"trainer.{name}", value))
]
CONFIG = msgspec.structs.replace(
    DEMO, width=32, heads=2, history_max=32, author_buckets=1024, user_buckets=64, retrieval_width=32, retrieval_heads=2
)


def stream(count: int, seed: int = 0, start_ms: int = START_MS, shown: int = 12) -> list[Example]:
    """Return examples of different viewers of the toy world, one a second."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        context, posts, actions = example(rng, history=16, shown=shown)
        # Histories reach back from the toy world's own time: they are moved along with it.
        moved = start_ms + number * SECOND_MS - context.at_ms
        past = replace(context.history, at_ms=context.history.at_ms + moved)
        then = replace(context, at_ms=context.at_ms + moved, history=past)
        posts = replace(posts, created_ms=posts.created_ms + moved)
        found.append(Example(then, posts, actions, np.where(actions, 20.0, 1.0).astype(np.float32), shown=True))
    return found
