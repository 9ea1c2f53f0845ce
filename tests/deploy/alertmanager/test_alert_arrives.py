"""From a server that stops to the message an operator gets, through a real Prometheus and Alertmanager."""

import signal
from pathlib import Path
from typing import Any

from testing.serving import ServerProcess, Weights, wait_until
from tests.deploy.monitoring import alertmanager, prometheus
from tests.deploy.tools import DEPLOY, needs, run


@needs("amtool")
def test_configuration_is_valid() -> None:
    run("amtool", "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


@needs("prometheus", "prometheus-alertmanager")
def test_draining_then_gone(weights: Weights, tmp_path: Path) -> None:
    server = ServerProcess(weights, tmp_path / "store", drain_delay_s=120)
    target = f"127.0.0.1:{server.port}"
    try:
        server.wait_ready()
        with (
            alertmanager(tmp_path / "alertmanager") as (address, received),
            prometheus(target, tmp_path / "prometheus", alertmanager=address) as watching,
        ):
            wait_until(lambda: watching.value('mtlora_ready{job="mtlora"}') == 1, 30)
            server.process.send_signal(signal.SIGTERM)
            not_ready = await_alert(received, "MTLoRANotReady")
            assert not_ready["labels"]["instance"] == target
            assert not_ready["annotations"]["summary"] == f"{target} runs, but takes no requests"
            server.kill()
            down = await_alert(received, "MTLoRADown")
            assert down["labels"]["severity"] == "critical"
            assert down["annotations"]["runbook_url"].endswith("operations.md#mtloradown")
            assert {alert["labels"]["alertname"] for alert in received} == {"MTLoRANotReady", "MTLoRADown"}
    finally:
        server.kill()


def await_alert(received: list[dict[str, Any]], name: str) -> dict[str, Any]:
    def firing() -> list[dict[str, Any]]:
        return [a for a in received if a["labels"]["alertname"] == name and a["status"] == "firing"]

    wait_until(lambda: bool(firing()), 60)
    return firing()[0]
