"""Requests that many tests make."""

import httpx

from testing.serving import encoded, picture

PHOTO = encoded(picture(), "JPEG")


def upload(client: httpx.Client, content: bytes, **fields: str) -> httpx.Response:
    return client.post("/adapters", files={"file": content}, data=fields)


def predict(client: httpx.Client, adapter: str) -> httpx.Response:
    return client.post(f"/predict?adapter={adapter}", content=PHOTO, headers={"Content-Type": "image/jpeg"})
