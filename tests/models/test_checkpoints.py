"""Checkpoints: a round trip changes nothing, and each kind of unfit file is refused with its reason."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import checkpoints
from models.checkpoints import CheckpointRefused, Origin
from models.config import DEMO
from models.phoenix import Phoenix
from tests.models.conftest import random_context, random_posts


@pytest.fixture(scope="module")
def saved(small: Phoenix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the small model's checkpoint."""
    path = tmp_path_factory.mktemp("checkpoints") / "small.phoenix"
    small.save(path)
    return path


def with_header(saved: Path, change: dict[str, object], path: Path) -> Path:
    """Write a copy whose header says something else, with a hash that fits."""
    raw = saved.read_bytes()[:-32]
    size = int.from_bytes(raw[8:16], "little")
    header = msgspec.json.decode(raw[16 : 16 + size]) | change
    text = msgspec.json.encode(header)
    body = raw[:8] + len(text).to_bytes(8, "little") + text + raw[16 + size :]
    path.write_bytes(body + hashlib.sha256(body).digest())
    return path


def header_of(saved: Path) -> dict[str, object]:
    raw = saved.read_bytes()
    decoded: dict[str, object] = msgspec.json.decode(raw[16 : 16 + int.from_bytes(raw[8:16], "little")])
    return decoded


def test_a_loaded_model_scores_to_the_bit_as_the_saved_one(small: Phoenix, saved: Path) -> None:
    loaded = Phoenix.load(saved, saved.parent / "cache")
    context, posts = random_context(20, 1), random_posts(70, 2)
    assert loaded.version == small.version
    assert loaded.config == small.config
    assert loaded.rank(context, posts).tobytes() == small.rank(context, posts).tobytes()
    assert loaded.embed_viewer(context).tobytes() == small.embed_viewer(context).tobytes()


def test_saving_twice_gives_the_same_bytes(small: Phoenix, saved: Path, tmp_path: Path) -> None:
    small.save(tmp_path / "again.phoenix")
    assert (tmp_path / "again.phoenix").read_bytes() == saved.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.phoenix"]


def test_a_checkpoint_states_where_it_comes_from(small: Phoenix, tmp_path: Path) -> None:
    origin = Origin(command="train demo.jsonl", from_ms=1, to_ms=2, examples=3, steps=4, seed=5)
    Phoenix(small.config, small.parameters, origin).save(tmp_path / "x")
    assert Phoenix.load(tmp_path / "x", tmp_path / "cache").origin == origin


def test_the_demos_checkpoint_fits_into_4_mb(tmp_path: Path) -> None:
    Phoenix.untrained(DEMO).save(tmp_path / "demo.phoenix")
    assert (tmp_path / "demo.phoenix").stat().st_size < 4_000_000


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointRefused) as caught:
        Phoenix.load(path, path.parent / "cache")
    return str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").endswith("none: there is no such file")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"PK" * 100)
    assert "not a Phoenix checkpoint" in refusal(tmp_path / "x")


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_cut_or_damaged_file_is_refused(saved: Path, data: st.DataObject) -> None:
    raw = bytearray(saved.read_bytes())
    place = data.draw(st.integers(8, len(raw) - 1))
    broken = saved.with_name("broken")
    broken.write_bytes(raw[:place])
    assert "cut off or damaged" in refusal(broken)
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    broken.write_bytes(raw)
    assert "cut off or damaged" in refusal(broken)


def test_another_format_is_refused(saved: Path, tmp_path: Path) -> None:
    path = with_header(saved, {"format": 9, "new": "field"}, tmp_path / "x")
    assert "it has format 9; this version reads format 1" in refusal(path)


def test_an_unknown_configuration_is_refused(saved: Path, tmp_path: Path) -> None:
    config = header_of(saved)["config"]
    assert isinstance(config, dict)
    path = with_header(saved, {"config": config | {"experts": 8}}, tmp_path / "x")
    assert "unknown field `experts`" in refusal(path)
    path = with_header(saved, {"config": config | {"heads": 3}}, tmp_path / "x")
    assert "width of a head must be a multiple of 16" in refusal(path)


def test_shapes_that_do_not_fit_the_configuration_are_refused(saved: Path, tmp_path: Path) -> None:
    config = header_of(saved)["config"]
    assert isinstance(config, dict)
    path = with_header(saved, {"config": config | {"user_buckets": 77}}, tmp_path / "x")
    assert "ranker.around.user has shape [64, 32]; its configuration demands [77, 32]" in refusal(path)
    path = with_header(saved, {"config": config | {"layers": 3}}, tmp_path / "x")
    assert "ranker.blocks[2].norm_attention is missing" in refusal(path)
    path = with_header(saved, {"config": config | {"layers": 1}}, tmp_path / "x")
    assert "has no place for ranker.blocks[1]" in refusal(path)


def test_weights_beyond_f16_are_refused_before_they_are_used(small: Phoenix) -> None:
    large = small.parameters._replace(ranker=small.parameters.ranker._replace(norm=np.full(small.config.width, 1e6)))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"ranker\.norm holds a weight"):
        checkpoints.rounded(large)
