"""Budgets of compute against a real server: what is computed, what is said of it, what is refused."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from mtlora.weights.adapter_file import AdapterManifest, load_adapter, write_adapter
from testing.requests import upload
from testing.serving import Weights, encoded, picture

JPEG = {"Content-Type": "image/jpeg"}
PHOTO = encoded(picture(), "JPEG")


@pytest.fixture(scope="module", autouse=True)
def gated(live: object, weights: Weights) -> Iterator[None]:
    """A set with a policy beside those without."""
    client: httpx.Client = live.client  # type: ignore[attr-defined]
    assert upload(client, weights.upload("gated"), name="gated").status_code == 201
    yield
    client.delete("/adapters/gated")


def post(client: httpx.Client, query: str = "", **headers: str) -> httpx.Response:
    return client.post(f"/predict?adapter=gated&{query}", content=PHOTO, headers={**JPEG, **headers})


def maps(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 200, response.text
    return {name: task["png"] for name, task in response.json()["tasks"].items()}


def test_less_is_computed_and_the_answer_says_how_much(client: httpx.Client) -> None:
    whole = post(client)
    assert whole.json()["compute"] == {"share": 1.0}
    assert whole.headers["x-compute-share"] == "1"
    shares = {}
    for compute in ("0.3", "0.6", "0.9"):
        response = post(client, f"compute={compute}")
        shares[compute] = response.json()["compute"]["share"]
        assert float(response.headers["x-compute-share"]) == pytest.approx(shares[compute], abs=1e-3)
        assert 0 < shares[compute] <= float(compute) + 1e-3
        assert maps(response) != maps(whole)
    assert shares["0.3"] < shares["0.6"] < shares["0.9"]


def test_all_of_it_is_the_same_to_the_bit(client: httpx.Client) -> None:
    response = post(client, "compute=1")
    assert maps(response) == maps(post(client))


def test_the_server_chooses_the_most_while_nobody_waits(client: httpx.Client) -> None:
    assert post(client, "compute=auto").json()["compute"] == {"share": 1.0}
    assert 0.5 < post(client, "compute=0.5-0.8").json()["compute"]["share"] <= 0.8


def test_wherever_it_is_said(client: httpx.Client) -> None:
    expected = maps(post(client, "compute=0.5"))
    assert maps(post(client, "", **{"X-Compute": "0.5"})) == expected
    form = client.post("/predict", files={"image": PHOTO}, data={"adapter": "gated", "compute": "0.5"})
    document = {"image": base64.b64encode(PHOTO).decode(), "adapter": "gated", "compute": 0.5}
    assert maps(form) == expected
    assert maps(client.post("/predict", json=document)) == expected
    assert post(client, "compute=0.5", **{"X-Compute": "0.6"}).status_code == 400
    assert maps(post(client, "compute=0.50", **{"X-Compute": "0.5000000000000001"})) == expected
    masks = client.post("/?adapter=gated&tasks=semseg", content=PHOTO, headers={**JPEG, "X-Compute": "0.5"})
    assert masks.status_code == 200
    assert 0 < float(masks.headers["x-compute-share"]) <= 0.5


def test_what_was_computed_is_a_picture(client: httpx.Client) -> None:
    told = post(client, "compute=0.4&explain=compute").json()["compute"]
    with Image.open(io.BytesIO(base64.b64decode(told["png"]))) as image:
        pixels = np.asarray(image)
    assert image.mode == "L"
    assert image.size == (16, 16)
    assert 0.2 < pixels.mean() / 255 < 0.6
    assert post(client, "compute=0.4&explain=compute&format=npz").status_code == 422
    whole = post(client, "explain=compute").json()["compute"]
    assert whole["share"] == 1


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("compute=0.2", "adapter set gated@1 offers compute 0.3 to 1"),
        ("compute=lots", "must be a share such as 0.6"),
        ("compute=1.5", "must be a share such as 0.6"),
        ("compute=", "must be a share such as 0.6"),
        ("compute=1e-3", "must be a share such as 0.6"),
    ],
)
def test_refusals_say_what_is_offered(client: httpx.Client, query: str, words: str) -> None:
    response = post(client, query)
    assert response.status_code == 422
    assert words in response.text
    assert "Value error" not in response.text


def test_sets_without_a_policy(client: httpx.Client) -> None:
    def ask(compute: str) -> httpx.Response:
        return client.post(f"/predict?compute={compute}", content=PHOTO, headers=JPEG)

    assert ask("auto").status_code == ask("1").status_code == 200
    refused = ask("0.5")
    assert refused.status_code == 422
    assert "has no policy; a server computes everything of it: leave compute away" in refused.json()["detail"]
    assert client.get("/adapters/default").json()["compute"] is None
    assert client.get("/adapters/gated").json()["compute"] == 0.3


def test_tensors_of_a_budget(client: httpx.Client) -> None:
    """The Open Inference Protocol: as a parameter, or as the header."""

    def infer(parameters: dict[str, object], headers: dict[str, str]) -> httpx.Response:
        image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(PHOTO).decode()]}
        document = {"inputs": [image], "outputs": [{"name": "saliency"}], "parameters": parameters}
        return client.post("/v2/models/gated/infer", json=document, headers=headers)

    whole = infer({}, {})
    answers = [infer({"compute": 0.5}, {}), infer({"compute": "0.5"}, {}), infer({}, {"X-Compute": "0.5"})]
    assert whole.headers["x-compute-share"] == "1"
    assert all(answer.status_code == 200 for answer in answers), [answer.text[:300] for answer in answers]
    assert {answer.headers["x-compute-share"] for answer in answers} == {answers[0].headers["x-compute-share"]}
    assert all(answer.json()["outputs"] == answers[0].json()["outputs"] for answer in answers)
    assert answers[0].json()["outputs"] != whole.json()["outputs"]
    assert infer({"compute": 0.5}, {"X-Compute": "0.6"}).status_code == 400
    assert infer({"compute": 0.1}, {}).status_code == 422
    assert infer({"compute": True}, {}).status_code == 422


def test_metrics_tell_what_was_left_out(client: httpx.Client) -> None:
    def counted(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    before = (
        counted("mtlora_compute_share_count"),
        counted("mtlora_gated_blocks_total"),
        counted("mtlora_compute_saved"),
    )
    post(client, "compute=0.5")
    assert counted("mtlora_compute_share_count") == before[0] + 1
    assert counted("mtlora_gated_blocks_total") == pytest.approx(before[1] + 6)  # the blocks of the encoder
    assert counted("mtlora_compute_saved") > before[2]


@pytest.mark.parametrize("form", ["json", "zip", "npz", "overlay&tasks=semseg", "hf&tasks=semseg", "png&tasks=semseg"])
def test_every_form_says_the_share_where_it_is_asked_for_or_the_set_has_a_policy(
    client: httpx.Client, form: str
) -> None:
    def share(query: str) -> str | None:
        answer = client.post(f"/predict?{query}&format={form}", content=PHOTO, headers=JPEG)
        assert answer.status_code == 200, answer.text
        told: str | None = answer.headers.get("x-compute-share")
        return told

    assert 0 < float(share("adapter=gated&compute=0.5") or 0) <= 0.5
    assert share("adapter=gated") == share("adapter=default&compute=1") == share("adapter=default&compute=auto") == "1"
    assert share("adapter=default") is None


def test_of_several_images_the_header_has_the_mean_and_each_its_own(client: httpx.Client) -> None:
    other = encoded(picture(90, 30, seed=5), "JPEG")
    files = [("image", one) for one in (PHOTO, b"no photo", other)]
    answer = client.post("/predict?adapter=gated&compute=0.5&masks=none", files=files)
    assert answer.status_code == 207
    shares = [one["compute"]["share"] for one in answer.json()["results"] if "compute" in one]
    assert len(shares) == 2
    assert float(answer.headers["x-compute-share"]) == pytest.approx(sum(shares) / 2, abs=1e-3)


def test_a_set_says_what_it_computes_where_nobody_says_it(
    client: httpx.Client, weights: Weights, tmp_path: Path
) -> None:
    loaded = load_adapter(weights.uploads / "gated.safetensors")
    policy = loaded.manifest.policy
    assert policy is not None
    manifest = AdapterManifest(**{**dict(loaded.manifest), "policy": policy.usually(0.5)})
    write_adapter(tmp_path / "s.safetensors", manifest, loaded.tensors | loaded.policy_tensors, torch.float32)
    assert upload(client, (tmp_path / "s.safetensors").read_bytes(), name="sparing").status_code == 201

    def ask(query: str = "") -> httpx.Response:
        return client.post(f"/predict?adapter=sparing{query}", content=PHOTO, headers=JPEG)

    assert client.get("/adapters/sparing").json()["default_compute"] == "0.5"
    assert client.get("/adapters/gated").json()["default_compute"] == "1"
    assert client.get("/adapters/default").json()["default_compute"] == "1"
    assert maps(ask()) == maps(ask("&compute=0.5")) != maps(ask("&compute=1"))
    assert 0 < float(ask().headers["x-compute-share"]) <= 0.5
    assert ask("&compute=1").headers["x-compute-share"] == "1"
    client.delete("/adapters/sparing")
