"""The stack may be started without reading: loopback only, no secret in it, nothing missing from the clone."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from app.startup.settings import Settings
from testing.paths import ROOT
from tests.deploy.tools import DEPLOY, needs, run

FILES = {
    name: yaml.safe_load((DEPLOY / name).read_text())
    for name in ("compose.yaml", "compose.gpu.yaml", "compose.keys.yaml")
}
STACK = FILES["compose.yaml"]
SERVICES: dict[str, dict[str, Any]] = STACK["services"]


@needs("check-jsonschema")
@pytest.mark.parametrize("name", FILES)
def test_files_follow_the_compose_specification(name: str) -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / name)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_kept_small_and_on_loopback(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}
    assert ":latest" not in service["image"]


@pytest.mark.parametrize("name", SERVICES)
def test_whatever_is_mounted_is_in_the_repository(name: str) -> None:
    tracked = subprocess.run(["git", "ls-files", "deploy"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert f"deploy/{source.removeprefix('./')}/" in tracked
        else:
            assert source in STACK["volumes"]
    assert f"deploy/{STACK['secrets']['metrics_key']['file'].removeprefix('./')}\n" in tracked


def test_no_password_and_no_key_is_committed() -> None:
    text = " ".join((DEPLOY / name).read_text() for name in FILES)
    assert not re.search(r"(PASSWORD|TOKEN|API_KEYS)\w*:", text)
    assert SERVICES["grafana"]["environment"]["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert (DEPLOY / "prometheus" / "no-key").read_text() == ""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"deploy/.env", "deploy/secrets/"} <= set(ignored)


def test_settings_of_the_server_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {f"MTLORA_{name.upper()}" for name in Settings.model_fields}
    for stack in FILES.values():
        assert stack["services"]["mtlora"]["environment"].keys() <= known


def test_keys_close_what_is_open() -> None:
    merged = SERVICES["mtlora"]["environment"] | FILES["compose.keys.yaml"]["services"]["mtlora"]["environment"]
    assert SERVICES["mtlora"]["environment"]["MTLORA_INSECURE"] == "true"
    assert merged["MTLORA_INSECURE"] == "false"
    assert merged["MTLORA_KEYS_FILE"].startswith("/var/lib/mtlora/")


def test_a_stop_waits_for_the_drain() -> None:
    defaults = Settings()
    grace = re.fullmatch(r"\$\{STACK_STOP_GRACE:-(\d+)s\}", SERVICES["mtlora"]["stop_grace_period"])
    assert grace is not None
    assert float(grace[1]) > defaults.drain_delay_s + defaults.grace_s


def test_every_knob_of_the_stack_is_in_the_example() -> None:
    knobs = {knob for name in FILES for knob in re.findall(r"\$\{(\w+)", (DEPLOY / name).read_text())}
    listed = set(re.findall(r"^#(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert knobs <= listed


def test_prometheus_scrapes_and_alerts_by_the_names_of_services() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["mtlora"]["static_configs"] == [{"targets": ["mtlora:8000"]}]
    assert SERVICES["mtlora"]["environment"]["MTLORA_PORT"] == "8000"
    assert jobs["mtlora"]["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    assert SERVICES["prometheus"]["secrets"] == ["metrics_key"]
    assert config["alerting"]["alertmanagers"][0]["static_configs"] == [{"targets": ["alertmanager:9093"]}]
