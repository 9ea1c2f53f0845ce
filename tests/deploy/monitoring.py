"""Prometheus and Alertmanager as real processes on loopback: the configuration of deploy/, with shorter intervals."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from testing.serving import free_port, wait_until
from tests.deploy.tools import DEPLOY


class Prometheus:
    """What the tests ask of it."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10)

    def answers(self, path: str = "/-/ready") -> bool:
        try:
            return self._client.get(path).status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Samples of an instant query: `metric` (labels) and `value` ([time, text])."""
        answer = self._client.post("/api/v1/query", data={"query": expr}).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        return list(answer["data"]["result"])

    def value(self, expr: str) -> float | None:
        """The one sample, if there is one."""
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else None


@contextmanager
def process(*command: object, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        running = subprocess.Popen([str(part) for part in command], stdout=out, stderr=out)
    try:
        yield running
    finally:
        running.terminate()
        running.wait(20)


def impatient(rules: str) -> str:
    """The rules with every `for` cut to a second; what is asked stays as it is."""
    return re.sub(r"(?m)^(\s+for: ).*$", r"\g<1>1s", rules)


@contextmanager
def prometheus(target: str, folder: Path, *, alertmanager: str | None = None) -> Iterator[Prometheus]:
    """Prometheus as deployed, scraping `target` (HOST:PORT) every second."""
    folder.mkdir()
    (folder / "rules.yml").write_text(impatient((DEPLOY / "prometheus" / "rules.yml").read_text()))
    (folder / "key").touch()
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "mtlora")
    job["authorization"]["credentials_file"] = str(folder / "key")
    job["static_configs"] = [{"targets": [target]}]
    config["scrape_configs"] = [job]
    managers = [{"targets": [alertmanager]}] if alertmanager else []
    config["alerting"]["alertmanagers"][0]["static_configs"] = managers
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with process(*command, f"--web.listen-address={address}", log=folder / "log"):
        watching = Prometheus(f"http://{address}")
        wait_until(watching.answers, 30)
        yield watching


@contextmanager
def alertmanager(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Alertmanager as deployed, and the alerts that it sends to a receiver; (address, alerts)."""
    folder.mkdir()
    with webhook() as (url, received):
        config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
        config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        config["receivers"] = [{"name": "operators", "webhook_configs": [{"url": url}]}]
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
        address = f"127.0.0.1:{free_port()}"
        command = ("prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}")
        with process(*command, f"--web.listen-address={address}", "--cluster.listen-address=", log=folder / "log"):
            wait_until(Prometheus(f"http://{address}").answers, 30)
            yield address, received


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver of notifications; (url, alerts received so far)."""
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: Mapping[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.extend(body["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", received
    finally:
        server.shutdown()
        server.server_close()
