"""Writes what is generated here: `python -m infra.deploy.generate` (the dashboard, and the table of metrics)."""

import json
from pathlib import Path
from typing import Final

from infra.deploy.dashboard import dashboard
from infra.operations import JoinMetrics, LearnMetrics, Metrics
from infra.operations.metric_set import Described

ROOT: Final = Path(__file__).parent.parent.parent
DASHBOARD: Final = ROOT / "infra" / "deploy" / "grafana" / "dashboards" / "foryou.json"
OPERATIONS: Final = ROOT / "docs" / "operations.md"
BEGIN: Final = "<!-- metrics -->\n"
END: Final = "<!-- /metrics -->\n"


def metrics() -> list[Described]:
    """Return the metrics of all processes: the job that serves, the join, and the process that learns."""
    return [one for process in (Metrics(), JoinMetrics(), LearnMetrics()) for one in process.described()]


def metrics_table() -> str:
    """Return the metrics as a table in Markdown."""
    lines = ["| Metric | Kind | Labels | What it tells |", "|---|---|---|---|"]
    for one in metrics():
        labels = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.help} |")
    return "\n".join(lines) + "\n"


def operations_page(page: str) -> str:
    """Return the page with its table of metrics as the code has them."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{metrics_table()}{END}{after}"


def files() -> dict[Path, str]:
    """Return every generated file with its text."""
    return {
        DASHBOARD: json.dumps(dashboard(), indent=1) + "\n",
        OPERATIONS: operations_page(OPERATIONS.read_text()),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
