"""What gives the gain: short trainings that differ from a reference in one thing each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

import numpy as np
from msgspec.structs import replace as with_fields

from benchmarks.movielens.protocol import Films, before, of_model
from flows.terminal import bar
from models.config import FILMS, PhoenixConfig
from models.inputs import Context, History
from models.phoenix import Phoenix
from models.sequences import NEGATIVES, SequenceTraining, fit_sequences

# Enough to tell variants apart, few enough for all of them to take under an hour.
EPOCHS: Final = 4
SEEN: Final = (
    "Shorter histories are cut into more windows, so that an epoch has more steps: after four of them that counts for "
    "more than what is forgotten. Without genres and decades all films begin as zeros, which four epochs hardly undo."
)
SHORT_LENGTH: Final = 50
SHORT: Final = with_fields(FILMS, history_max=64)
# With the loss against a part of the films, so that what is drawn and how it is corrected can be told.
REFERENCE: Final = SequenceTraining(negatives=NEGATIVES)


def _as_is(history: History) -> History:
    return history


def _timeless(history: History) -> History:
    return replace(history, at_ms=np.zeros_like(history.at_ms))


def _unrated(history: History) -> History:
    return replace(history, actions=np.ones_like(history.actions))


@dataclass(frozen=True)
class Variant:
    """One thing changed: the model's shape, the training, or what histories and catalogue hold."""

    name: str
    config: PhoenixConfig = FILMS
    training: SequenceTraining = REFERENCE
    history: Callable[[History], History] = _as_is
    terms: bool = True


VARIANTS: Final = (
    Variant("reference"),
    Variant("loss against all films", training=with_fields(REFERENCE, negatives=0)),
    Variant("negatives by popularity, with logQ", training=with_fields(REFERENCE, popularity=1.0)),
    Variant("negatives by popularity, no logQ", training=with_fields(REFERENCE, popularity=1.0, log_q=0.0)),
    Variant("temperature starts at .05", training=with_fields(REFERENCE, temperature=0.05)),
    Variant("no times", history=_timeless),
    Variant("history of 32", config=with_fields(FILMS, history_max=32)),
    Variant("two hashes into 1,024 rows", config=with_fields(FILMS, post_buckets=2**10)),
    Variant("no dropout of tokens", training=with_fields(REFERENCE, token_dropout=0.0)),
    Variant("no ratings, only that there was one", history=_unrated),
    Variant("no genres and decades", terms=False),
    Variant("one layer", config=with_fields(FILMS, retrieval_layers=1)),
    Variant("width 96", config=with_fields(FILMS, retrieval_width=96)),
    Variant("two hashes into 65,536 rows", config=with_fields(FILMS, post_buckets=2**16)),
    Variant("128 negatives", training=with_fields(REFERENCE, negatives=128)),
    Variant("history of 192", config=with_fields(FILMS, history_max=192)),
)


def epochs_of(length: int, negatives: int, films: Films) -> dict[str, Any]:
    """Return the seconds of epochs over everybody's newest films, so many; the first, which compiles, is left out."""
    seconds: list[float] = []

    def judge(epoch: int, _loss: float, took_s: float, _: Phoenix) -> float:
        seconds.append(took_s)
        return float(epoch)

    contexts = [Context(0, one.part(max(0, len(one) - 1 - length), len(one) - 1), 0, 0) for one in films.histories]
    training = with_fields(REFERENCE, negatives=negatives)
    fit_sequences(contexts, films.catalogue, SHORT, EPOCHS, training, judge)
    timed = seconds[1:]
    told = f"{median(timed):.1f} ({min(timed):.1f} to {max(timed):.1f})"
    return {"each film against": f"{negatives} drawn" if negatives else "all others", "s an epoch": told}


def result(variant: Variant, films: Films, every: int) -> dict[str, Any]:
    """Return a variant's loss, and how well it finds the last but one film of every so many-th user."""
    history = [variant.history(one) for one in films.histories]
    terms = films.catalogue.terms if variant.terms else np.zeros_like(films.catalogue.terms)
    changed = replace(films, histories=history, catalogue=films.catalogue._replace(terms=terms))
    losses, seconds = [], []
    with bar(variant.name) as progress:

        def judge(epoch: int, loss: float, took_s: float, _: Phoenix) -> float:
            progress(epoch + 1, EPOCHS)
            losses.append(loss)
            seconds.append(took_s)
            return float(epoch)

        contexts = [before(one, 2) for one in history]
        phoenix = fit_sequences(contexts, changed.catalogue, variant.config, EPOCHS, variant.training, judge)
    hits, gain = of_model(phoenix, changed, 2, every)
    return {"variant": variant.name, "loss": losses[-1], "HR@10": hits, "NDCG@10": gain, "s an epoch": median(seconds)}
