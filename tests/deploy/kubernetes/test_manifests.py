"""The manifests are strictly valid, fit each other, and give requests time to end."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.startup.settings import Settings
from mtlora.version import __version__
from testing.paths import ROOT
from tests.deploy.tools import DEPLOY, needs, run

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: dict[str, dict[str, Any]] = {
    (found := yaml.safe_load((FOLDER / name).read_text()))["kind"]: found for name in KUSTOMIZATION["resources"]
}
BUILT_IN = [kind for kind, found in OBJECTS.items() if "coreos.com" not in found["apiVersion"]]
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
ENV = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}


def test_everything_asked_for_is_there() -> None:
    assert set(OBJECTS) == {
        "Deployment",
        "Service",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "ServiceMonitor",
    }
    assert {path.name for path in FOLDER.iterdir()} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


@pytest.mark.parametrize("kind", BUILT_IN)
@pytest.mark.parametrize("version", ["1.27", "1.34"])
def test_strictly_valid(kind: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


def test_validation_would_notice_a_slip() -> None:
    slip = OBJECTS["Deployment"] | {"spec": OBJECTS["Deployment"]["spec"] | {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(slip, "1.34", strict=True)


@needs("kubectl")
def test_kustomize_builds_it_with_this_version() -> None:
    built = run("kubectl", "kustomize", FOLDER)
    assert f"image: mtlora-server:{__version__}\n" in built


def test_service_monitor_finds_the_service_and_names_the_job_that_the_alerts_expect() -> None:
    """The operator's own schema knows more; these are the parts in use. The job is the service's name."""
    monitor, service = OBJECTS["ServiceMonitor"], OBJECTS["Service"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"].keys() == {"selector", "endpoints"}
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint.keys() == {"port", "path", "interval", "authorization"}
    assert endpoint["authorization"]["credentials"].keys() == {"name", "key"}
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert re.search(rf'up{{job="{service["metadata"]["name"]}"}}', (DEPLOY / "prometheus" / "rules.yml").read_text())


def test_selectors_meet() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert OBJECTS["Service"]["spec"]["selector"] == labels
    assert OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert (
        OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
        == OBJECTS["Deployment"]["metadata"]["name"]
    )
    claim = next(volume for volume in POD["volumes"] if volume["name"] == "store")["persistentVolumeClaim"]["claimName"]
    assert OBJECTS["PersistentVolumeClaim"]["metadata"]["name"] == claim


def test_probes_ask_what_they_mean() -> None:
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert CONTAINER["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_there_is_time_to_leave_the_endpoints_and_to_drain() -> None:
    before = float(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    noticed = CONTAINER["readinessProbe"]["periodSeconds"] * CONTAINER["readinessProbe"]["failureThreshold"]
    assert before >= noticed
    drain = float(ENV["MTLORA_DRAIN_DELAY_S"]) + float(ENV["MTLORA_GRACE_S"])
    assert POD["terminationGracePeriodSeconds"] >= before + drain + 5


def test_the_pod_meets_the_restricted_standard() -> None:
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert f"USER {POD['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()


def test_settings_exist_and_the_server_would_start_with_keys_only() -> None:
    assert ENV.keys() <= {f"MTLORA_{name.upper()}" for name in Settings.model_fields}
    assert "MTLORA_INSECURE" not in ENV
    keys = next(mount for mount in CONTAINER["volumeMounts"] if mount["name"] == "keys")
    assert ENV["MTLORA_KEYS_FILE"].startswith(keys["mountPath"])


def test_autoscaler_asks_for_a_metric_that_there_is() -> None:
    (metric,) = OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert f"`{metric['pods']['metric']['name']}`" in (ROOT / "docs" / "metrics.md").read_text()
