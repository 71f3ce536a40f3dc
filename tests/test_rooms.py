"""Imports point one way, and the rooms stay readable."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What each room may import of the project.
ALLOWED = {
    "schemas": set(),
    "models": {"schemas"},
    "operators": {"schemas", "models"},
    "infra": {"schemas"},
    "flows": {"schemas", "models", "operators", "infra"},
}
ROOMS = [*ALLOWED, "benchmarks", "docs", "tests", "run_flow"]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_point_one_way(room: str) -> None:
    for path in sorted((ROOT / room).rglob("*.py")):
        others = imported(path) & set(ROOMS) - {room}
        assert others <= ALLOWED[room], f"{path.relative_to(ROOT)} imports {others - ALLOWED[room]}"


def test_the_engine_stays_at_the_edge() -> None:
    with_engine = {
        str(path.relative_to(ROOT)) for path in (ROOT / "operators").rglob("*.py") if "bytewax" in imported(path)
    }
    assert with_engine == {"operators/ranking.py"}
    assert not [
        path for room in ("schemas", "models") for path in (ROOT / room).rglob("*.py") if "bytewax" in imported(path)
    ]


def test_files_stay_under_400_lines() -> None:
    rooms = [*ALLOWED, "benchmarks", "tests"]
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")] + [ROOT / "run_flow.py"]
    long = {str(path.relative_to(ROOT)): count for path in files if (count := len(path.read_text().splitlines())) > 400}
    assert long == {}
