"""Alerts fire when they should, stay quiet when they should, and lead to a runbook."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.telemetry.metrics import LATENCY_BUCKETS, Levels, Metrics
from testing.paths import ROOT
from tests.deploy.tools import DEPLOY, needs, run

RULES = DEPLOY / "prometheus" / "rules.yml"
CASES = Path(__file__).with_name("rules_test.yml")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


@needs("promtool")
def test_rules_are_valid_and_do_as_their_cases_say() -> None:
    run("promtool", "check", "rules", RULES)
    run("promtool", "test", "rules", CASES)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not(alert: str) -> None:
    tests = yaml.safe_load(CASES.read_text())["tests"]
    cases = [c for test in tests for c in test.get("alert_rule_test", []) if c["alertname"] == alert]
    assert any(c["exp_alerts"] for c in cases)
    assert any(not c["exp_alerts"] for c in cases)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_leads_to_its_runbook(alert: str) -> None:
    page, _, anchor = ALERTS[alert]["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == alert.lower()
    assert alert in headings


def test_no_runbook_for_an_alert_that_is_gone() -> None:
    headings = re.findall(r"^### (MTLoRA\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert headings == list(ALERTS)


def test_rules_ask_only_for_metrics_that_there_are() -> None:
    exposed = set(re.findall(r"^# TYPE (\w+)", Metrics(adapter_labels=1).expose(Levels()).decode(), re.MULTILINE))
    asked = set(re.findall(r"(?<!:)\bmtlora_\w+", " ".join(rule["expr"] for rule in rules())))
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked} <= exposed


def test_the_documented_command_makes_the_operator_s_rules_of_them() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    command = re.search(r"\{ printf .*?; \}", page, re.DOTALL)
    assert command is not None
    made = yaml.safe_load(run("sh", "-c", f"cd {ROOT} && {command[0]}"))
    assert made["kind"] == "PrometheusRule"
    assert made["spec"] == yaml.safe_load(RULES.read_text())


def test_the_objective_is_a_bucket() -> None:
    thresholds = {le for rule in rules() for le in re.findall(r'le="([\d.]+)"', rule["expr"])}
    assert len(thresholds) == 1
    assert float(thresholds.pop()) in LATENCY_BUCKETS
