"""Clients that generators make of the schema: they have good names, and they work."""

import importlib
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testing.serving import Live, Weights, encoded, live_app, picture, settings_for
from tests.deploy.tools import PROGRAMS, needs

PHOTO = encoded(picture(60, 40), "JPEG")
GENERATOR = "openapi-typescript@7"
USE = """
import type { operations, paths } from "./schema";
type Named = operations["predict"] | operations["uploadAdapter"] | operations["repositoryIndex"];
type Answer = operations["getAdapter"]["responses"]["200"]["content"]["application/json"];
export const nameOf = (set: Answer): string => set.name;
export const path: keyof paths = "/adapters/{name}";
export type { Named };
"""


@pytest.fixture(scope="module")
def server(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_app(settings_for(weights, tmp_path_factory.mktemp("clients") / "s", root_path="/vision")) as live:
        yield live


@pytest.fixture
def schema(server: Live, tmp_path: Path) -> Path:
    path = tmp_path / "schema.json"
    path.write_text(httpx.get(f"{server.url}/openapi.json").text)
    return path


@needs("openapi-python-client")
def test_a_generated_python_client(server: Live, schema: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "client"
    command = ["openapi-python-client", "generate", "--path", str(schema), "--output-path", str(out), "--meta", "none"]
    made = subprocess.run(
        [shutil.which(command[0], path=PROGRAMS) or command[0], *command[1:]],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    monkeypatch.syspath_prepend(str(tmp_path))

    def module(name: str) -> Any:
        return importlib.import_module(f"client.{name}")

    ask = module("client").Client(base_url=f"{server.url}{json.loads(schema.read_text())['servers'][0]['url']}")
    assert module("api.adapters.get_adapter").sync(client=ask, name="default").name == "default"
    assert {one.name for one in module("api.adapters.list_adapters").sync(client=ask).adapters} >= {"default"}
    file = module("types").File(payload=io.BytesIO(PHOTO), file_name="a.jpg", mime_type="image/jpeg")
    answer = module("api.predict.predict").sync_detailed(client=ask, body=file, tasks="semseg")
    assert answer.status_code == 200, answer.content
    assert list(json.loads(answer.content)["tasks"]) == ["semseg"]


@needs("npm", "npx")
def test_a_generated_typescript_client_compiles(schema: Path) -> None:
    folder = schema.parent
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent", GENERATOR, "typescript@5"],
        capture_output=True, text=True, timeout=240, check=False, cwd=folder,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"npm cannot install {GENERATOR} here: {installed.stderr[-300:]}")
    (folder / "use.ts").write_text(USE)
    for command in (
        ["npx", "openapi-typescript", str(schema), "-o", "schema.ts"],
        ["npx", "tsc", "--strict", "--noEmit", "--target", "es2022", "--moduleResolution", "bundler", "--module",
         "esnext", "use.ts"],
    ):  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=folder)
        assert ran.returncode == 0, ran.stdout + ran.stderr
