"""New posts: what is measured of a slate, by hand, and on a small world with the truth beside a model."""

from pathlib import Path

import msgspec
import numpy as np

from benchmarks.new_posts import AUC, MODEL, Shown, ndcg, popularity, read, shown_in, tables_of, truth_of
from benchmarks.new_posts import without_contents as bare
from infra.world import PRESETS, simulate
from infra.world.parameters import HOUR_MS


def test_order_of_a_slate_by_hand() -> None:
    # The first slate: the liked post stands second: 1 / log2(3) of 1. The second has no other post to be told from,
    # the third none that is liked, the fourth its liked one only among those that don't count.
    among = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 1], [1, 1, 0]], bool)
    favorite = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]], bool)
    scores = np.array([[0.9, 0.5, 0.1], [1, 2, 3], [1, 2, 3], [1, 2, 3]])
    assert np.isclose(ndcg(among, favorite, scores), 1 / np.log2(3))
    # Two liked of three, first and last: (1 + 1 / log2(4)) of (1 + 1 / log2(3)).
    one = np.array([[1, 1, 1]], bool), np.array([[1, 0, 1]], bool), np.array([[3.0, 2.0, 1.0]])
    assert np.isclose(ndcg(*one), 1.5 / (1 + 1 / np.log2(3)))


def test_a_small_world_beside_its_truth(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    simulate(log, msgspec.structs.replace(PRESETS["small"], people=80, sessions_per_person_day=3.0))
    scorers = {"the truth": truth_of(log), MODEL: lambda batch: np.ones(batch.valid.shape)}
    shown: Shown = shown_in(log, 0, {**scorers, "popularity so far": popularity})
    young = np.concatenate([one.at_ms[:, None] - one.created_ms < HOUR_MS for one in read(log, 0, rest=True)])
    assert np.array_equal(shown.young, young)
    assert 0 < (shown.young & shown.valid).sum() < shown.valid.sum()
    found = [{row["scores"]: float(row[AUC].split()[0]) for row in rows} for rows in tables_of(shown).values()]
    for table in found:
        # 80 people in a day: some 100 favourites, whose AUC is known to .03.
        assert table["the truth"] > 0.62
        assert table[MODEL] == 0.5, "who says the same of all tells nothing apart"


def test_hidden_contents_leave_ids_and_counts(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    simulate(log, PRESETS["small"])
    batch = next(read(log, rest=True))
    assert batch.terms.any()
    assert batch.history_terms.any() or not batch.history_length.any()
    hidden = bare(batch)
    assert not hidden.terms.any()
    assert not hidden.history_terms.any()
    assert hidden.author is batch.author
    assert hidden.counts is batch.counts
