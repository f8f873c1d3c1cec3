"""What stands around a worker, as far as it can be checked without an engine: the files fit each other and the code."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from streamdsl.cli.project import _COMPOSE
from streamdsl.cli.settings import gather
from streamdsl.cli.target import split_target
from streamdsl.runtime.exposition import FAMILIES

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yml").read_text())
SERVICES = COMPOSE["services"]
PORTS = {"redpanda": 19092, "worker": 9100, "postgres": 5432, "redis": 6379, "prometheus": 9090, "grafana": 3000}
#: A tag says which version it is, the digest says which image: a tag can be moved.
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+[a-z0-9.-]*@sha256:[0-9a-f]{64}")
METRIC = re.compile(r"\b(?:streamdsl|process)_[a-z_]+")


def metrics_in(text: str) -> set[str]:
    """Return the names of metrics in an expression (labels in braces are no metrics, buckets are their histogram)."""
    return {name.removesuffix("_bucket") for name in METRIC.findall(re.sub(r"{[^}]*}", "", text))}


def test_there_are_the_services_of_the_demo():
    assert set(SERVICES) == set(PORTS)


@pytest.mark.parametrize("service", PORTS)
def test_a_service_is_pinned_healthy_and_published_here_alone(service):
    made = SERVICES[service]
    assert "build" in made or PINNED.fullmatch(made["image"]), made.get("image")
    assert made["healthcheck"]["test"] and {"interval", "timeout", "retries"} <= set(made["healthcheck"])
    assert made["ports"] == [f"127.0.0.1:{PORTS[service]}:{PORTS[service]}"]


def test_each_service_says_what_it_serves():
    lines = (ROOT / "compose.yml").read_text().splitlines()
    for service in PORTS:
        assert lines[lines.index(f"  {service}:") - 1].strip().startswith("# "), service


def test_what_is_mounted_exists():
    for made in SERVICES.values():
        for volume in made.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
    used = {volume.partition(":")[0] for made in SERVICES.values() for volume in made.get("volumes", ())}
    assert set(COMPOSE["volumes"]) <= used


def test_what_is_depended_on_has_a_health_to_wait_for():
    for made in SERVICES.values():
        for other, how in made.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"} and other in SERVICES


def test_the_worker_is_asked_for_with_settings_that_exist():
    worker = SERVICES["worker"]
    settings = gather({}, None, worker["environment"])
    assert settings.metrics_port == 9100 and settings.config.broker == "redpanda:9092"
    # The state is in the volume, in a directory below it: its parent must be the worker's own.
    mount = worker["volumes"][0].partition(":")[2]
    assert Path(settings.config.state_dir).parent == Path(mount)
    place, attribute = split_target(worker["command"][worker["command"].index("-A") + 1])
    assert (ROOT / (place.replace(".", "/") + ".py")).exists() and attribute == "topology"
    assert (ROOT / worker["build"]["dockerfile"]).exists()


def dockerfile() -> list[list[str]]:
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_what_the_image_copies_exists_and_is_not_ignored():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for line in dockerfile():
        if line[0] == "COPY" and not line[1].startswith("--from"):
            for source in line[1:-1]:
                assert (ROOT / source).exists(), source
                assert not any(fnmatch(source, pattern) for pattern in ignored), source
    # A module built for this machine would be taken for one of the image's.
    assert {"**/*.so", ".venv", "build"} <= set(ignored)


def test_the_image_has_pinned_bases_and_no_root():
    bases = [line[1] for line in dockerfile() if line[0] == "FROM"]
    assert bases and all(PINNED.fullmatch(base) for base in bases)
    assert [line[1] for line in dockerfile() if line[0] == "USER"] == ["streamdsl"]


def test_a_new_projects_images_are_pinned():
    images = [made["image"] for made in yaml.safe_load(_COMPOSE)["services"].values()]
    assert images and all(PINNED.fullmatch(image) for image in images)


def test_the_builds_python_is_one_that_the_project_supports():
    needed = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert needed
    assert all(int(line[1].split(":3.")[1].split(".")[0]) >= int(needed[1]) for line in dockerfile() if line[0] == "FROM")


def test_prometheus_scrapes_the_worker_and_knows_the_alerts():
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    assert f"worker:{PORTS['worker']}" in scrape["static_configs"][0]["targets"]
    # Our figures have a label `job` themselves.
    assert scrape["honor_labels"] is True
    mounted = {Path(volume.split(":")[1]).name for volume in SERVICES["prometheus"]["volumes"]}
    assert set(config["rule_files"]) <= mounted


def test_alerts_ask_for_metrics_that_are_served():
    rules = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        found = metrics_in(rule["expr"])
        assert found and found <= set(FAMILIES), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"]


def board() -> dict:
    return json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "streamdsl.json").read_text())


def test_the_board_asks_for_metrics_that_are_served():
    for panel in board()["panels"]:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            found = metrics_in(target["expr"])
            assert found and found <= set(FAMILIES), (panel["title"], target["expr"])
            assert target["expr"].count("(") == target["expr"].count(")") and target["expr"].count("{") == target["expr"].count("}")


def test_rates_are_of_counters_and_levels_are_not():
    texts = [target["expr"] for panel in board()["panels"] for target in panel["targets"]]
    texts += [rule["expr"] for rule in yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"][0]["rules"]]
    for text in texts:
        for name in metrics_in(text):
            rated = re.search(rf"(?:rate|increase)\({name}\b", text)
            assert bool(rated) == (FAMILIES[name][0] == "counter"), text


def test_the_board_shows_what_somebody_on_call_asks_for():
    shown = set().union(*(metrics_in(target["expr"]) for panel in board()["panels"] for target in panel["targets"]))
    assert shown >= {
        "streamdsl_healthy", "streamdsl_source_records_total", "streamdsl_sink_records_total", "streamdsl_source_lag_records",
        "streamdsl_checkpoint_age_seconds", "streamdsl_checkpoint_duration_seconds", "streamdsl_checkpoint_size_bytes",
        "streamdsl_checkpoints_total", "streamdsl_state_bytes", "streamdsl_task_blocked_total", "streamdsl_operator_late_total",
        "streamdsl_source_rejected_total", "streamdsl_operator_dead_letters_total", "streamdsl_watermark_lag_seconds",
        "streamdsl_latency_seconds", "process_resident_memory_bytes",
    }  # fmt: skip


def test_grafana_is_given_the_board_and_the_source_that_it_names():
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == f"http://prometheus:{PORTS['prometheus']}"
    assert {panel["datasource"]["uid"] for panel in board()["panels"]} == {source["uid"]}
    path = yaml.safe_load((provisioning / "dashboards" / "streamdsl.yml").read_text())["providers"][0]["options"]["path"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == path
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "deploy" / "grafana" / "dashboards" / Path(home).relative_to(path)).exists()


def test_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


def test_a_container_is_given_as_long_to_stop_as_the_guide_says():
    told = re.search(r"`stop_grace_period: (\w+)`", (ROOT / "docs/guide/operations.md").read_text())
    assert told is not None and SERVICES["worker"]["stop_grace_period"] == told[1]


def test_the_lock_has_hashes_and_names_no_registry():
    lock = (ROOT / "requirements/dev.lock").read_text()
    assert "://" not in lock and "--index-url" not in lock
    pins = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", lock, flags=re.M).strip())
    assert all(re.match(r"[a-z0-9-]+==\S+", pin) and "--hash=sha256:" in pin for pin in pins), pins[0]


def test_everything_that_the_project_is_developed_with_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["test"], *extras["lint"], *extras["dev"][1:]]
    names = {re.match(r"[A-Za-z0-9-]+", want)[0].lower() for want in wanted}
    assert names <= set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/dev.lock").read_text(), flags=re.M))
