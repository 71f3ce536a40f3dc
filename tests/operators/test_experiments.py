"""Viewers fall into arms by a stable hash, in the shares stated, and independently between experiments."""

from collections import Counter
from pathlib import Path

import pytest

from operators.experiments import NO_EXPERIMENTS, Arm, Experiments
from operators.parameters import DEFAULTS, ParameterRefused

TWO = Experiments(
    {
        "length": {"control": Arm(0.75), "short": Arm(0.25, {"selection.result_size": 20})},
        "network": {"control": Arm(0.5), "wide": Arm(0.5, {"scoring.oon_factor": 1.0, "selection.result_size": 30})},
    }
)


def test_arms_hold_their_shares_and_do_not_depend_on_each_other() -> None:
    arms = [dict(TWO.exposures(viewer)) for viewer in range(1, 20_001)]
    seen = Counter((one["length"], one["network"]) for one in arms)
    # A share of 20,000 draws wanders by 60 (a deviation) at most: five of them are not chance.
    for (length, network), count in seen.items():
        expected = 20_000 * {"control": 0.75, "short": 0.25}[length] * 0.5
        assert abs(count - expected) < 300, (length, network)


def test_a_viewer_stays_in_an_arm() -> None:
    # Held to these values: another hash would move everybody to another arm in the middle of an experiment.
    assert [dict(TWO.exposures(viewer))["length"] for viewer in (1, 2, 3, 4, 5, 6, 7, 8)] == ARMS_OF_EIGHT


ARMS_OF_EIGHT = [*["control"] * 7, "short"]


def test_arms_override_the_job_and_requests_override_arms() -> None:
    short = next(v for v in range(1, 99) if dict(TWO.exposures(v)) == {"length": "short", "network": "control"})
    both = next(v for v in range(1, 99) if dict(TWO.exposures(v)) == {"length": "short", "network": "wide"})
    resolved, exposures = TWO.for_request(DEFAULTS, short, {})
    assert (resolved.selection.result_size, resolved.scoring.oon_factor) == (20, 0.75)
    assert exposures == (("length", "short"), ("network", "control"))
    assert TWO.for_request(DEFAULTS, both, {})[0].selection.result_size == 30
    assert TWO.for_request(DEFAULTS, both, {"selection.result_size": 7})[0].selection.result_size == 7
    assert NO_EXPERIMENTS.for_request(DEFAULTS, both, {}) == (DEFAULTS, ())


REFUSED = {
    "shares": ("[a]\nx = { share = 0.5 }\ny = { share = 0.4 }", "experiment a: shares of its arms sum to 0.9"),
    "negative": ("[a]\nx = { share = 1.5 }\ny = { share = -0.5 }", "must sum to 1"),
    "unknown parameter": (
        '[a]\nx = { share = 1.0, parameters = { "scoring.oon_facter" = 1.0 } }',
        "experiment a, arm x: no parameter is called scoring.oon_facter; did you mean scoring.oon_factor?",
    ),
    "parameter of the job": (
        '[a]\nx = { share = 1.0, parameters = { "posts.retention_s" = 1 } }',
        "belongs to the job",
    ),
    "no arms": ("[a]", "sum to 0"),
    "unknown field": ("[a]\nx = { part = 1.0 }", "can't be read"),
    "no toml": ("[a", "can't be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str, tmp_path: Path) -> None:
    text, said = REFUSED[name]
    file = tmp_path / "experiments.toml"
    file.write_text(text)
    with pytest.raises(ParameterRefused) as refused:
        Experiments.load(file)
    assert said in str(refused.value)
