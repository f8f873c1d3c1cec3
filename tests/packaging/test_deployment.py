"""What is shipped beside the library: manifests, workflow, image, extras."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from streamdsl import __version__
from streamdsl.cli.settings import OWN_KEYS

ROOT = Path(__file__).resolve().parents[2]

#: The oldest and the newest Kubernetes that the manifests are held against, by its own schemas.
KUBERNETES = ("1.25", "1.37")


#: What a worker of systemd needs: time for its last checkpoint, a new start after a failure, and few rights.
SERVICE = {
    "Restart": "on-failure",
    "TimeoutStopSec": "15",
    "DynamicUser": "yes",
    "StateDirectory": "streamdsl/%i",
    "ProtectSystem": "strict",
    "NoNewPrivileges": "yes",
}


def manifests():
    return list(yaml.safe_load_all((ROOT / "deploy/kubernetes/worker.yml").read_text()))


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_are_what_kubernetes_takes(version):
    assert [manifest["kind"] for manifest in manifests()] == ["ServiceAccount", "ConfigMap", "Service", "StatefulSet"]
    for manifest in manifests():
        kubernetes_validate.validate(manifest, version, strict=True)
    wrong = manifests()[3]
    wrong["spec"]["template"]["spec"]["containers"][0]["imag"] = "streamdsl"
    with pytest.raises(kubernetes_validate.ValidationError, match="imag"):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_worker_has_no_rights_that_it_does_not_need():
    account, _, _, worker = manifests()
    pod = worker["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert account["automountServiceAccountToken"] is False and pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]) == {"requests", "limits"}


def test_one_worker_runs_and_is_given_time_to_stop():
    worker = manifests()[3]["spec"]
    assert worker["replicas"] == 1
    assert worker["template"]["spec"]["terminationGracePeriodSeconds"] >= 10
    (container,) = worker["template"]["spec"]["containers"]
    assert {"startupProbe", "livenessProbe"} <= set(container)
    assert re.fullmatch(r"[^:]+:[0-9]+\.[0-9]+\.[0-9]+", container["image"])


def test_manifests_fit_together():
    account, config, service, worker = manifests()
    pod = worker["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert worker["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"] == service["spec"]["selector"]
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    settings = {name.removeprefix("STREAMDSL_").lower() for name in config["data"]} - {"app"}
    assert settings <= set(OWN_KEYS)
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert config["data"]["STREAMDSL_STATE_DIR"].startswith(mounted["state"])
    assert set(mounted) == {"tmp", *[claim["metadata"]["name"] for claim in worker["spec"]["volumeClaimTemplates"]]}
    assert str(container["ports"][0]["containerPort"]) == config["data"]["STREAMDSL_METRICS_PORT"]
    assert container["image"].endswith(f":{__version__}")


def test_the_image_runs_as_no_root():
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1] not in ("root", "0")
    assert lines.index(f"USER {users[-1]}") < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    assert f"--uid {manifests()[3]['spec']['template']['spec']['securityContext']['runAsUser']} " in "\n".join(lines)


def test_extras_name_what_connectors_need():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    everything = re.fullmatch(r"streamdsl\[(.*)\]", extras["all"][0])
    assert everything is not None
    assert set(everything[1].split(",")) == set(extras) - {"all", "test", "lint", "dev", "docs", "train"}


def test_the_workflow_is_well_formed():
    workflow = yaml.safe_load((ROOT / ".github/workflows/wheels.yml").read_text())
    assert set(workflow["jobs"]) == {"check", "wheels", "sdist", "publish"}
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)
    assert any(step.get("run") == ".ci/run" for step in steps)
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert "cp311-*" in built["build"] and (ROOT / "tests/packaging/smoke.py").exists() and "smoke.py" in built["test-command"]


def test_the_service_is_what_systemd_takes(tmp_path):
    text = (ROOT / "deploy/systemd/streamdsl@.service").read_text()
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read_string(text)
    assert SERVICE.items() <= dict(unit["Service"]).items()
    given = re.findall(r"(STREAMDSL_\w+)=", unit["Service"]["Environment"])
    assert given == ["STREAMDSL_CONFIG", "STREAMDSL_STATE_DIR"]
    if analyze := shutil.which("systemd-analyze"):
        (tmp_path / "streamdsl@.service").write_text(text.replace("/opt/%i/.venv/bin/streamdsl", "/bin/true"))
        checked = subprocess.run(
            [analyze, "verify", "--man=no", tmp_path / "streamdsl@.service"], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0 and not checked.stderr, checked.stderr
