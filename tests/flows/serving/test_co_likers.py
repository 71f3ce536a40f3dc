"""A model that reads what co-likers say isn't served from a state that doesn't keep them."""

from pathlib import Path

import msgspec
import pytest

from flows.serving.durable import DurableState
from models.checkpoints import CheckpointRefused
from models.config import DEMO
from models.phoenix import Phoenix
from operators.parameters import DEFAULTS


def test_a_model_with_co_likers_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    phoenix = Phoenix.untrained(msgspec.structs.replace(DEMO, co_likers=True))
    with pytest.raises(CheckpointRefused, match="serve a model without `co_likers`, or replay a log"):
        DurableState(tmp_path / "state", range(2), 0, DEFAULTS, phoenix)
    assert not (tmp_path / "state").exists()
