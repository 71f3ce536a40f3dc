"""The Grafana dashboard: a row for each question one asks of the job. `python -m infra.deploy.generate` writes it."""

from dataclasses import dataclass
from typing import Any, Final

TITLE: Final = "For You"
UID: Final = "foryou"
# Grafana's grid is 24 wide; 8 high shows a legend beside a readable curve.
GRID_WIDTH: Final = 24
PANEL_HEIGHT: Final = 8
STAT_HEIGHT: Final = 4
# The schema of dashboards that Grafana 8 to 12 read.
SCHEMA_VERSION: Final = 39

_HERE: Final = '{instance=~"$instance"}'


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: a title, its unit in Grafana's names, and queries with their legends. A `stat` shows the last."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""
    kind: str = "timeseries"


def _here(*matchers: str) -> str:
    return "{" + ", ".join(('instance=~"$instance"', *matchers)) + "}"


def _rate(metric: str, by: str, *matchers: str) -> str:
    return f"sum by ({by}) (rate({metric}{_here(*matchers)}[$__rate_interval]))"


def _share(part: str, whole: str, by: str) -> tuple[str, str]:
    return f"{_rate(part, by)} / {_rate(whole, by)}", f"{{{{{by}}}}}"


def _quantile(share: float, metric: str, by: str, *matchers: str) -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', f'{by}, le' if by else 'le', *matchers)})"


def _latencies(metric: str, *matchers: str) -> tuple[tuple[str, str], ...]:
    return tuple((_quantile(share, metric, "", *matchers), f"p{share * 100:g}") for share in (0.5, 0.9, 0.99))


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Is it well?": (
        Panel("ready", "bool_yes_no", ((f"min(foryou_ready{_HERE})", ""),), kind="stat"),
        Panel("feeds", "reqps", ((f"sum({_rate('foryou_feeds_total', 'instance')})", ""),), kind="stat"),
        Panel(
            "request to feed, p99",
            "s",
            ((_quantile(0.99, "foryou_stage_seconds", "", 'stage="end_to_end"'), ""),),
            kind="stat",
        ),
        Panel("furthest behind", "s", ((f"max(foryou_lag_seconds{_HERE})", ""),), kind="stat"),
        Panel("model", "none", ((f"foryou_model_info{_HERE}", "{{version}}"),), kind="stat"),
        Panel("instances", "none", ((f"foryou_instance_info{_HERE}", "{{ordinal}} of {{instances}}"),), kind="stat"),
    ),
    "Where does the time go?": (
        Panel(
            "median by stage",
            "s",
            ((_quantile(0.5, "foryou_stage_seconds", "stage"), "{{stage}}"),),
            "request: read to answered; end_to_end: published to delivered, by the clocks of both ends",
        ),
        Panel("p99 by stage", "s", ((_quantile(0.99, "foryou_stage_seconds", "stage"), "{{stage}}"),)),
        Panel(
            "requests under way",
            "short",
            (
                (f"foryou_requests_in_work{_HERE}", "in work {{instance}}"),
                (f"foryou_requests_waiting{_HERE}", "waiting for the ranker {{instance}}"),
            ),
        ),
    ),
    "What goes out?": (
        Panel("feeds by outcome", "reqps", ((_rate("foryou_feeds_total", "outcome"), "{{outcome}}"),)),
        Panel("failures of components", "ops", ((_rate("foryou_degraded_total", "component"), "{{component}}"),)),
        Panel("models refused", "short", ((f"foryou_models_refused_total{_HERE}", "{{instance}}"),)),
        Panel("taking a model up", "s", ((f"foryou_model_swap_seconds{_HERE}", "{{instance}}"),)),
        Panel(
            "outputs the broker did not take",
            "ops",
            (
                (_rate("foryou_delivery_errors_total", "instance"), "{{instance}}"),
                (_rate("foryou_shadow_lost_total", "instance"), "shadow scores {{instance}}"),
            ),
        ),
    ),
    "Does it keep up?": (
        Panel("messages read", "ops", ((_rate("foryou_events_total", "topic"), "{{topic}}"),)),
        Panel("lag in messages", "short", ((f"sum by (topic) (foryou_lag_messages{_HERE})", "{{topic}}"),)),
        Panel("lag in seconds", "s", ((f"max by (topic) (foryou_lag_seconds{_HERE})", "{{topic}}"),)),
    ),
    "What is refused?": (
        Panel(
            "dead letters by reason",
            "ops",
            ((_rate("foryou_dead_letters_total", "topic, reason"), "{{topic}}: {{reason}}"),),
            "Reasons beyond the first hundred count as other; the dead letters themselves hold each in full",
        ),
        Panel(
            "share of messages refused",
            "percentunit",
            (
                (
                    f"{_rate('foryou_dead_letters_total', 'topic')} / {_rate('foryou_events_total', 'topic')}",
                    "{{topic}}",
                ),
            ),
        ),
    ),
    "How large is it?": (
        Panel(
            "posts and viewers",
            "short",
            (
                (f"max(foryou_live_posts{_HERE})", "live posts"),
                (f"sum by (where) (foryou_viewers{_HERE})", "viewers in {{where}}"),
            ),
        ),
        Panel(
            "state on disk",
            "bytes",
            (
                (f"sum by (store) (foryou_store_bytes{_HERE})", "{{store}}"),
                (f"min(foryou_state_free_bytes{_HERE})", "free"),
            ),
        ),
        Panel("memory", "bytes", ((f"process_resident_memory_bytes{_HERE}", "{{instance}}"),)),
        Panel(
            "processor",
            "percentunit",
            ((_rate("process_cpu_seconds_total", "instance", 'job="foryou"'), "{{instance}}"),),
            "1 is one core",
        ),
    ),
    "What does a commit cost?": (
        Panel("the event loop stands still", "s", _latencies("foryou_commit_stall_seconds")),
        Panel("until durable", "s", _latencies("foryou_commit_seconds"), "Beside the event loop"),
        Panel("commits", "ops", ((_rate("foryou_commits_total", "instance"), "{{instance}}"),)),
    ),
    "Are the candidates good, and is it warm?": (
        Panel(
            "recall of the index",
            "percentunit",
            ((f"foryou_index_recall{_HERE}", "{{instance}}"),),
            "Against exact search, by the last probe",
        ),
        Panel("warmed up", "percentunit", ((f"foryou_warm_up_ratio{_HERE}", "{{instance}}"),)),
        Panel(
            "conditions of readiness", "bool_yes_no", ((f"min by (condition) (foryou_ready{_HERE})", "{{condition}}"),)
        ),
    ),
    "Does it learn?": (
        Panel(
            "how far examples are behind",
            "s",
            (
                ("foryou_join_behind_seconds", "the join {{instance}}"),
                ("foryou_join_oldest_open_seconds", "oldest open feed {{instance}}"),
                ("foryou_learn_newest_example_age_seconds", "newest feed learned from {{instance}}"),
                ("foryou_learn_feed_to_model_seconds", "from a feed to the model that knows it {{instance}}"),
            ),
        ),
        Panel(
            "examples",
            "ops",
            (
                ("sum(rate(foryou_join_examples_total[$__rate_interval]))", "closed by the join"),
                ("sum(rate(foryou_learn_examples_total[$__rate_interval]))", "learned from"),
                ("sum by (reason) (rate(foryou_learn_passed_over_total[$__rate_interval]))", "passed over: {{reason}}"),
            ),
        ),
        Panel(
            "models",
            "short",
            (
                ("increase(foryou_learn_published_total[1h])", "published in an hour"),
                ("increase(foryou_learn_not_published_total[1h])", "not published: {{reason}}"),
                ("increase(foryou_learn_intervals_total[1h])", "intervals in an hour"),
                ("increase(foryou_learn_skipped_steps_total[1h])", "steps skipped in an hour"),
            ),
        ),
        Panel(
            "loss before learning",
            "none",
            (
                ("foryou_learn_loss", "ranker, {{model}}"),
                ("foryou_learn_retrieval_loss", "towers, {{model}}"),
                ("foryou_learn_worse_ratio", "worse than the best, share"),
            ),
            "Of each interval, before it is learned from",
        ),
    ),
    "Does the join keep up?": (
        Panel(
            "what came of engagements",
            "ops",
            (("sum by (outcome) (rate(foryou_join_engagements_total[$__rate_interval]))", "{{outcome}}"),),
        ),
        Panel(
            "features passed over or refused",
            "ops",
            (
                ("sum by (reason) (rate(foryou_join_features_passed_total[$__rate_interval]))", "{{reason}}"),
                ("sum(rate(foryou_join_deleted_total[$__rate_interval]))", "of deleted users"),
                ("sum by (topic, reason) (rate(foryou_join_dead_letters_total[$__rate_interval]))", "{{reason}}"),
            ),
        ),
        Panel(
            "what waits",
            "short",
            (
                ("foryou_join_open_feeds", "open feeds {{instance}}"),
                ("foryou_join_waiting_messages", "messages for the other topic {{instance}}"),
                ("foryou_learn_waiting_examples", "examples for their interval {{instance}}"),
            ),
        ),
        Panel(
            "messages not yet read",
            "short",
            (("sum by (topic, partition) (foryou_join_lag_messages)", "{{topic}} {{partition}}"),),
        ),
        Panel(
            "are they ready, and how long does an interval take?",
            "none",
            (
                ("min by (instance, condition) (foryou_join_ready)", "{{instance}}: {{condition}}"),
                ("min by (instance, condition) (foryou_learn_ready)", "{{instance}}: {{condition}}"),
                ("foryou_learn_interval_seconds", "interval, s {{instance}}"),
            ),
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for question, row in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": question,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": GRID_WIDTH, "h": 1},
                "panels": [],
            }
        )
        width = GRID_WIDTH // len(row)
        height = STAT_HEIGHT if row[0].kind == "stat" else PANEL_HEIGHT
        for column, panel in enumerate(row):
            position = {"x": column * width, "y": y + 1, "w": width, "h": height}
            panels.append(_panel(panel, len(panels) + 1, position))
        y += 1 + height
    return {
        "uid": UID,
        "title": TITLE,
        "tags": ["foryou-stream"],
        "schemaVersion": SCHEMA_VERSION,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_instances()]},
        "panels": panels,
    }


def _instances() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "instance",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "query": {"query": "label_values(foryou_instance_info, instance)", "refId": "instances"},
        "refresh": 2,  # whenever the time range changes
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(panel: Panel, panel_id: int, position: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "prometheus"}
    names = panel.kind == "stat" and bool(
        panel.queries[0][1]
    )  # a stat with a legend shows the name, not the 1 behind it
    shown: dict[str, Any] = (
        {"textMode": "name" if names else "value", "reduceOptions": {"calcs": ["lastNotNull"]}}
        if panel.kind == "stat"
        else {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    )
    return {
        "id": panel_id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": shown,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": source,
                "expr": query,
                "legendFormat": legend or panel.title,
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }
