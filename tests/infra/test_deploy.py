"""What is deployed fits what is published, and fits the code: schemas, metric names, ports, files, flags."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

import run_flow
from flows.learning.watching import JOIN_CONDITIONS, LEARN_CONDITIONS
from infra.deploy.generate import files, metrics
from infra.operations.health import CONDITIONS
from infra.operations.learning_metrics import ENGAGEMENT_OUTCOMES
from infra.operations.metrics import OUTCOMES, STAGES

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "infra" / "deploy"
SCHEMAS = Path(__file__).parent / "schemas"
KINDS = {
    "StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "Service": "io.k8s.api.core.v1.Service",
    "ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
    "Job": "io.k8s.api.batch.v1.Job",
    "PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
}
# Series of a histogram besides its name.
SERIES = re.compile(r"_(bucket|count|sum)$")


def load(path: Path) -> Any:
    """Return a YAML file; a key given twice is refused."""

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{path}: a key is given twice: {keys}"
        loader.flatten_mapping(node)
        return loader.construct_mapping(node)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return yaml.load(path.read_text(), Strict)


def manifest(kind: str, name: str) -> dict[str, Any]:
    """Return one manifest of Kubernetes."""
    content = load(DEPLOY / "kubernetes" / f"{name}.yaml")
    assert content["kind"] == kind
    return dict(content)


def compose() -> dict[str, Any]:
    """Return the compose file."""
    return dict(load(DEPLOY / "compose.yaml"))


def rules() -> list[dict[str, Any]]:
    """Return all recording and alerting rules."""
    return [rule for group in load(DEPLOY / "alerts.yaml")["groups"] for rule in group["rules"]]


def dashboard_queries() -> list[str]:
    """Return every query of the dashboard."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "foryou.json").read_text())
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"]]
    return variables + [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def metric_names(queries: list[str]) -> set[str]:
    """Return our metrics that queries use, histograms by their own names; recorded rules are not ours."""
    names = {name for query in queries for name in re.findall(r"\bforyou_\w+\b", query)}
    histograms = {one.name for one in metrics() if one.kind == "histogram"}
    return {SERIES.sub("", name) if SERIES.sub("", name) in histograms else name for name in names}


WORKLOADS = (
    ("StatefulSet", "statefulset"),
    ("StatefulSet", "post-counts"),
    ("StatefulSet", "learning/join-examples"),
    ("StatefulSet", "learning/learn"),
    ("Job", "topics"),
)


def serve_commands() -> Iterator[list[str]]:
    """Yield every command line of the job in what is deployed."""
    for service in compose()["services"].values():
        if str(service.get("image")).startswith("foryou-stream"):
            yield service["command"]
    for kind, name in WORKLOADS:
        yield manifest(kind, name)["spec"]["template"]["spec"]["containers"][0]["args"]


def test_compose_fits_its_published_schema() -> None:
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text())
    jsonschema.validate(compose(), schema, jsonschema.Draft201909Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"job": {"imagine": "x"}}}, schema, jsonschema.Draft201909Validator)


def fits_its_kind(content: Any) -> dict[str, Any]:
    """Hold a manifest to the schema of its kind, and return that."""
    schema = json.loads((SCHEMAS / "kubernetes-1.32.json").read_text())
    one = {"$ref": f"#/$defs/{KINDS[content['kind']]}", "$defs": schema["$defs"]}
    jsonschema.validate(content, one, jsonschema.Draft7Validator)
    return one


@pytest.mark.parametrize("path", sorted((DEPLOY / "kubernetes").rglob("*.yaml")), ids=lambda path: path.name)
def test_manifests_fit_the_published_schema_of_their_kind(path: Path) -> None:
    content = load(path)
    one = fits_its_kind(content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"specs": {}}, one, jsonschema.Draft7Validator)


def test_the_generated_files_are_up_to_date() -> None:
    for path, text in files().items():
        assert path.read_text() == text, f"{path.name} is behind the code: run python -m infra.deploy.generate"


def test_alerts_and_dashboard_use_only_metrics_that_exist() -> None:
    exist = {one.name for one in metrics()}
    assert metric_names(dashboard_queries()) <= exist
    assert metric_names([rule["expr"] for rule in rules()]) <= exist


def test_every_metric_is_on_the_dashboard() -> None:
    assert {one.name for one in metrics()} <= metric_names(dashboard_queries())


def test_what_is_recorded_is_used_and_what_is_used_is_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for rule in rules() for name in re.findall(r"\bforyou:[\w:]+", rule["expr"])}
    assert recorded == used


def test_queries_group_and_match_by_labels_that_exist() -> None:
    queries = dashboard_queries() + [rule["expr"] for rule in rules()]
    labels = {label for one in metrics() for label in one.labels} | {"instance", "job", "le"}
    groups = [group for query in queries for group in re.findall(r"\b(?:by|on) \(([^)]+)\)", query)]
    grouped = {label for group in groups for label in group.split(", ")}
    matched = {label for query in queries for label in re.findall(r"(\w+)=~?\"", query)}
    assert grouped | matched <= labels
    values = {value for query in queries for value in re.findall(r"stage=\"(\w+)\"", query)}
    assert values <= set(STAGES)
    outcomes = {one for query in queries for one in re.findall(r"outcome=~?\"([\w|]+)\"", query)}
    assert {one for several in outcomes for one in several.split("|")} <= {*OUTCOMES, *ENGAGEMENT_OUTCOMES}


def test_every_alert_says_how_bad_it_is_and_has_its_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    described = set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert described == set(alerts)
    for rule in alerts.values():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]


def test_alerts_fire_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    subprocess.run([promtool, "test", "rules", Path(__file__).parent / "alerts_test.yaml"], check=True)


def test_the_panels_of_the_dashboard_fit_its_grid() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "foryou.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, f"{panel['title']} lies over another"
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    grafana = compose()["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    for source in mounts:
        assert not source.startswith("./") or (DEPLOY / source).is_dir()
    (source,) = load(DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert '"uid": "prometheus"' in (DEPLOY / "grafana/dashboards/foryou.json").read_text()
    assert source["uid"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    (provider,) = load(DEPLOY / "grafana/provisioning/dashboards/foryou.yaml")["providers"]
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]


def test_prometheus_finds_the_instances_and_the_rules() -> None:
    prometheus = load(DEPLOY / "prometheus.yml")
    assert prometheus["rule_files"] == ["alerts.yaml"]
    commands = {"foryou": {"serve"}, "foryou-learning": {"join-examples", "learn"}}
    assert [job["job_name"] for job in prometheus["scrape_configs"]] == list(commands)
    services = compose()["services"]
    for job in prometheus["scrape_configs"]:
        (discovery,) = job["dns_sd_configs"]
        found = [one for one in services.values() if commands[job["job_name"]] & set(one.get("command", ()))]
        assert len(found) == 2
        for service in found:
            assert discovery["names"] == service["networks"]["default"]["aliases"]
            assert str(discovery["port"]) == service["command"][service["command"].index("--port") + 1]
            assert "healthcheck" not in service, "the image's own asks this port"
    named = {job for rule in rules() for job in re.findall(r"job=\"([\w-]+)\"", rule["expr"])}
    assert named <= set(commands)


def test_kubernetes_agrees_with_itself() -> None:
    spec = manifest("StatefulSet", "statefulset")["spec"]
    pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
    (container,) = pod["containers"]
    assert str(spec["replicas"]) == manifest("ConfigMap", "config")["data"]["INSTANCES"]
    assert spec["selector"]["matchLabels"] == labels
    service = manifest("Service", "service")
    assert service["spec"]["selector"] == labels
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["name"] == spec["serviceName"]
    assert manifest("PodDisruptionBudget", "disruption")["spec"]["selector"]["matchLabels"] == labels
    topics = manifest("Job", "topics")["spec"]["template"]
    assert topics["metadata"]["labels"] != labels, "the Service must not name the Job's pod"
    assert container["args"][container["args"].index("--instance") + 1] == "$(ORDINAL)/$(INSTANCES)"
    assert [one["name"] for one in container["volumeMounts"]] == ["foryou", "tmp"]
    assert [one["metadata"]["name"] for one in spec["volumeClaimTemplates"]] == ["foryou"]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for content in (spec["template"], topics):
        assert content["spec"]["securityContext"]["runAsNonRoot"] is True
        assert content["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False


def test_learning_on_kubernetes_reads_and_writes_one_registry() -> None:
    config = manifest("ConfigMap", "config")["data"]
    serving, joining, learning = (
        manifest("StatefulSet", name) for name in ("statefulset", "learning/join-examples", "learning/learn")
    )
    service = manifest("Service", "learning/service")
    for one in (joining, learning):
        spec, pod = one["spec"], one["spec"]["template"]
        assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert spec["serviceName"] == service["metadata"]["name"]
        (container,) = pod["spec"]["containers"]
        paths = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
        assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        volumes = [*pod["spec"]["volumes"], *(claim["metadata"] for claim in spec.get("volumeClaimTemplates", ()))]
        assert mounted == {volume["name"] for volume in volumes}
    labels = manifest("Service", "service")["spec"]["selector"]
    assert not labels.items() <= joining["spec"]["template"]["metadata"]["labels"].items()
    assert config["JOINS"] == str(joining["spec"]["replicas"])
    assert learning["spec"]["replicas"] == 1
    assert flag(joining, "--instance") == "$(ORDINAL)/$(JOINS)"
    assert flag(serving, "--set") == "learning.features_enabled=$(LEARNING)"
    assert config["LEARNING"] in ("true", "false")

    # The patch as `kubectl patch` applies it: containers, mounts and volumes are merged by their keys.
    patch = load(DEPLOY / "kubernetes" / "learning" / "serve.patch")["spec"]["template"]["spec"]
    pod = serving["spec"]["template"]["spec"]
    (container,), (patched,) = pod["containers"], patch["containers"]
    assert container["name"] == patched["name"]
    container["volumeMounts"] += patched["volumeMounts"]
    pod["volumes"] += patch["volumes"]
    fits_its_kind(serving)
    claim = manifest("PersistentVolumeClaim", "learning/models")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for workload, option in ((serving, "--models"), (learning, "--registry")):
        pod = workload["spec"]["template"]["spec"]
        (volume,) = [one["name"] for one in pod["volumes"] if "persistentVolumeClaim" in one]
        (path,) = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == volume]
        assert path == flag(workload, option)
        claims = [
            volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if volume["name"] == "models"
        ]
        assert claims == [claim["metadata"]["name"]]


def flag(workload: dict[str, Any], name: str) -> str:
    """Return the value of an option of a workload's command line."""
    arguments = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    return str(arguments[arguments.index(name) + 1])


def test_every_port_is_the_same_one() -> None:
    names = ("statefulset", "learning/join-examples", "learning/learn")
    workloads = [manifest("StatefulSet", name) for name in names]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    named = {
        *(str(one["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]) for one in workloads),
        *(flag(one, "--port") for one in workloads),
        *re.findall(r"EXPOSE (\d+)", dockerfile),
        *re.findall(r"127\.0\.0\.1:(\d+)", dockerfile),
    }
    assert named == {"9400"}


def test_the_image_is_not_run_by_root_and_kubernetes_knows_its_user() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert int(user) > 0
    for kind, name in WORKLOADS:
        assert manifest(kind, name)["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == int(user)


def test_what_is_deployed_uses_commands_and_flags_that_exist() -> None:
    cli: Any = typer.main.get_command(run_flow.app)
    lines = list(serve_commands())
    assert len(lines) == 11
    for line in lines:
        command, words = cli, iter(line)
        while hasattr(command, "commands"):
            command = command.commands[next(words)]
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= flags, line


def test_compose_runs_the_kafka_that_tests_run() -> None:
    (version,) = re.findall(r"<kafka.version>(.+)</kafka.version>", (ROOT / "infra/kafka/pom.xml").read_text())
    assert compose()["services"]["kafka"]["image"] == f"apache/kafka:{version}"


def test_the_image_holds_all_that_the_command_line_needs(tmp_path: Path) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (\w\S*) \S+$", dockerfile, re.MULTILINE)
    let_in = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    for name in copied:
        assert name.partition("/")[0] in let_in
    for name in let_in:
        source, target = ROOT / name, tmp_path / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    command = [sys.executable, "run_flow.py", "--help"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr


def pins(path: Path) -> dict[str, str]:
    """Return what a requirements file pins, by name: version, marker and hashes."""
    blocks = re.split(r"\n(?=\S)", path.read_text().strip())
    return {re.split(r"[=\[ ]", block, maxsplit=1)[0]: block for block in blocks}


def test_the_image_installs_what_was_tested_and_all_that_is_needed() -> None:
    image, tested = pins(DEPLOY / "requirements.txt"), pins(ROOT / "requirements.txt")
    way_out = "run make requirements"
    assert {name: pin for name, pin in image.items() if tested.get(name) != pin} == {}, way_out
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[=<>~ ;]", one, maxsplit=1)[0].lower() for one in project["dependencies"]}
    assert needed <= set(image), way_out
    assert "pytest" not in image
    assert all("--hash=sha256:" in pin for pin in image.values())


def test_conditions_and_commands_are_in_the_manual() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for condition in (*CONDITIONS, *JOIN_CONDITIONS, *LEARN_CONDITIONS):
        assert f"`{condition}`" in page
