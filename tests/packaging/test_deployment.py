"""What is shipped beside the library: manifests, workflow, image, extras."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import jsonschema
import yaml

from streamdsl import __version__
from streamdsl.cli.settings import OWN_KEYS

ROOT = Path(__file__).resolve().parents[2]

NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 63}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
PROBE = {
    "type": "object",
    "properties": {
        "httpGet": {"type": "object", "required": ["path", "port"]},
        **{name: {"type": "integer", "minimum": 1} for name in ("periodSeconds", "timeoutSeconds", "failureThreshold")},
    },
    "required": ["httpGet"],
    "additionalProperties": False,
}
CONTAINER = {
    "type": "object",
    "required": ["name", "image", "securityContext", "resources", "startupProbe", "livenessProbe"],
    "additionalProperties": False,
    "properties": {
        "name": NAME,
        "image": {"type": "string", "pattern": r"^[^:]+:[0-9]+\.[0-9]+\.[0-9]+$"},
        "args": {"type": "array", "items": {"type": "string"}},
        "envFrom": {"type": "array", "items": {"type": "object", "maxProperties": 1}},
        "ports": {"type": "array", "items": {"type": "object", "required": ["name", "containerPort"]}},
        "securityContext": {
            "type": "object",
            "properties": {"allowPrivilegeEscalation": {"const": False}, "readOnlyRootFilesystem": {"const": True}, "capabilities": {}},
            "required": ["allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"],
            "additionalProperties": False,
        },
        "startupProbe": PROBE,
        "livenessProbe": PROBE,
        "resources": {"type": "object", "required": ["requests", "limits"]},
        "volumeMounts": {"type": "array", "items": {"type": "object", "required": ["name", "mountPath"]}},
    },
}
#: What of the API of Kubernetes the manifests use, strictly: a field that is not here does not exist, or nobody has thought of it.
SCHEMAS = {
    "ServiceAccount": {"properties": {"automountServiceAccountToken": {"const": False}}},
    "ConfigMap": {"properties": {"data": TEXTS}, "required": ["data"]},
    "Service": {"properties": {"spec": {"type": "object", "required": ["selector", "ports"]}}, "required": ["spec"]},
    "StatefulSet": {
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["serviceName", "selector", "template", "replicas", "volumeClaimTemplates"],
                "additionalProperties": False,
                "properties": {
                    "serviceName": NAME,
                    "replicas": {"const": 1},
                    "selector": {"type": "object", "required": ["matchLabels"]},
                    "volumeClaimTemplates": {"type": "array", "items": {"type": "object", "required": ["metadata", "spec"]}},
                    "template": {
                        "type": "object",
                        "required": ["metadata", "spec"],
                        "properties": {
                            "metadata": {"type": "object", "properties": {"labels": TEXTS, "annotations": TEXTS}},
                            "spec": {
                                "type": "object",
                                "required": ["containers", "securityContext", "terminationGracePeriodSeconds"],
                                "additionalProperties": False,
                                "properties": {
                                    "serviceAccountName": NAME,
                                    "automountServiceAccountToken": {"const": False},
                                    "terminationGracePeriodSeconds": {"type": "integer", "minimum": 10},
                                    "securityContext": {"type": "object", "properties": {"runAsNonRoot": {"const": True}}},
                                    "containers": {"type": "array", "minItems": 1, "items": CONTAINER},
                                    "volumes": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                                },
                            },
                        },
                    },
                },
            }
        },
    },
}


def manifests():
    return list(yaml.safe_load_all((ROOT / "deploy/kubernetes/worker.yml").read_text()))


def test_manifests_are_what_kubernetes_takes():
    kinds = [manifest["kind"] for manifest in manifests()]
    assert kinds == ["ServiceAccount", "ConfigMap", "Service", "StatefulSet"]
    for manifest in manifests():
        schema = SCHEMAS[manifest["kind"]]
        common = {
            "apiVersion": {"enum": ["v1", "apps/v1"]},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "required": ["name"]},
        }
        jsonschema.validate(manifest, {**schema, "properties": {**common, **schema["properties"]}, "additionalProperties": False})


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
    assert all("@" in step["uses"] for step in steps if "uses" in step)
    assert any(step.get("run") == ".ci/run" for step in steps)
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert "cp311-*" in built["build"] and (ROOT / "tests/packaging/smoke.py").exists() and "smoke.py" in built["test-command"]
