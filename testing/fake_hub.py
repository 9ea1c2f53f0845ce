"""A hub of our own on 127.0.0.1: what huggingface_hub asks when it fetches a file or commits some, and no more."""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class FakeHub:
    """A running hub.

    files:    {(ORG/NAME, revision): {path: content}}
    private:  repositories that want the token
    requests: method and path of every one, in order
    """

    url: str = ""
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    token: str = "hf_of_the_test"
    requests: list[str] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)  # uploaded, not yet committed

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a process that asks this hub, with a cache of its own and no token."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        ours = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        return kept | ours | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: FakeHub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._serve_file()

    def do_GET(self) -> None:
        self._serve_file()

    def do_POST(self) -> None:
        body = self._body()
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:3] == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts[:2] == ["api", "models"] and parts[4] == "preupload":
            self._answer({"files": [_preuploaded(each) for each in json.loads(body)["files"]]})
        elif parts[-2:] == ["objects", "batch"]:
            self._answer({"transfer": "basic", "objects": [self._upload(each) for each in json.loads(body)["objects"]]})
        elif parts[:2] == ["api", "models"] and parts[4] == "commit":
            self._commit(f"{parts[2]}/{parts[3]}", parts[5], body)
        else:
            self._answer({}, 200 if parts[:2] == ["api", "validate-yaml"] else 404)

    def do_PUT(self) -> None:
        content = self._body()
        self.hub.large[hashlib.sha256(content).hexdigest()] = content
        self._answer({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _allowed(self, repo: str) -> bool:
        return repo not in self.hub.private or self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _serve_file(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        repo, revision = "/".join(parts[:2]), parts[3] if len(parts) > 3 else ""
        stored = self.hub.files.get((repo, "main" if revision == COMMIT else revision))
        known = any(each == repo for each, _ in self.hub.files)
        content = (stored or {}).get("/".join(parts[4:]))
        if not known or not self._allowed(repo):
            self._answer({"error": "not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif stored is None:
            self._answer({"error": "not found"}, 404, {"X-Error-Code": "RevisionNotFound"})
        elif content is None:
            self._answer({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            digest = hashlib.sha256(content).hexdigest()
            self._send(content, 200, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._answer({"error": "Invalid username or password."}, 401)
            return
        there = (repo, "main") in self.hub.files
        self.hub.files.setdefault((repo, "main"), {})
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(repo)
        self._answer({"url": f"{self.hub.url}/{repo}", "name": repo}, 409 if there else 200)

    def _upload(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"}}}

    def _commit(self, repo: str, revision: str, body: bytes) -> None:
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                self.hub.files[repo, revision][value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                self.hub.files[repo, revision][value["path"]] = self.hub.large[value["oid"]]
        self._answer({"commitUrl": f"{self.hub.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})

    def _answer(self, document: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(document).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _preuploaded(asked: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if asked["path"].endswith(".safetensors") else "regular"
    return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that runs within; it is gone afterwards."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
