"""What hostile or broken clients send, in families, made from seeds: each with the answers that are right."""

import base64
import io
import json
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import torch

from app.api.open_inference.schemas import LENGTH_HEADER
from mtlora.weights.adapter_file.manifest import METADATA_KEY
from testing.adapter_bytes import LIES, join, split
from testing.hostile_images import BOMBS
from testing.oip_requests import LYING, head, packed
from testing.raw_http import CONFUSING
from testing.serving import Weights, encoded, picture
from tests.e2e.hostile_images import flipped_images, huge_pictures, image_bombs, no_images, photo_form, truncated_images
from tests.e2e.hostile_requests import (
    FORM,
    REFUSED,
    Case,
    Request,
    cats,
    document,
    form,
    part,
    upload,
)


def truncated_files() -> Iterator[Case]:
    for seed in range(20):
        share = random.Random(seed).random()
        yield Case(f"file cut {seed}", lambda w, s=share: upload(cats(w)[: int(len(cats(w)) * s)]), REFUSED)


def flipped_files() -> Iterator[Case]:
    """Bits of the header's length and of tensor entries: never a valid file."""

    def flipped(weights: Weights, seed: int) -> Request:
        content, chance = bytearray(cats(weights)), random.Random(seed)
        start = content.index(b'"data_offsets"') + 16 if seed % 2 else 0
        content[start + chance.randrange(4)] ^= 1 << chance.randrange(3, 8)
        return upload(bytes(content))

    for seed in range(20):
        yield Case(f"file with a flipped bit {seed}", lambda w, s=seed: flipped(w, s), REFUSED)


def lying_headers() -> Iterator[Case]:
    def lie(weights: Weights, name: str) -> Request:
        header, data = split(cats(weights))
        LIES[name][0](header)
        return upload(join(json.dumps(header).encode(), data))

    for name in LIES:
        yield Case(f"header: {name}", lambda w, n=name: lie(w, n), REFUSED)
    for length in (0, 1, 2**31, 2**63, 2**64 - 1):
        changed = length.to_bytes(8, "little")
        yield Case(f"header of {length} bytes", lambda w, c=changed: upload(c + cats(w)[8:]), REFUSED)
    for text in (
        "[" * 200_000,
        '{"a":' * 100_000,
        '{"a": NaN}',
        '{"a": ' + "9" * 5000 + "}",
        "{}",
        "\0",
        '{"a": 1, "a": 2}',
    ):
        yield Case(f"header {text[:12]!r}", lambda w, t=text: upload(join(t.encode(), b"")), REFUSED)


def lying_manifests() -> Iterator[Case]:
    def lie(weights: Weights, path: tuple[str, ...], value: Any) -> Request:
        header, data = split(cats(weights))
        manifest = json.loads(header["__metadata__"][METADATA_KEY])
        place = manifest
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        header["__metadata__"][METADATA_KEY] = json.dumps(manifest)
        return upload(join(json.dumps(header).encode(), data))

    for path, value in (
        (("backbone_fingerprint",), "0" * 64),
        (("backbone_fingerprint",), None),
        (("format_version",), 999),
        (("name",), "../../etc/passwd"),
        (("spec",), []),
        (("spec", "image_size"), 2**40),
        (("spec", "image_size"), -64),
        (("spec", "ranks"), [2**30] * 4),
        (("spec", "ranks"), [1]),
        (("spec", "tasks"), []),
        (("spec", "backbone", "embed_dim"), 10**9),
        (("spec", "backbone", "depths"), [10**6] * 4),
        (("spec", "mean"), [float("nan")] * 3),
        (("spec", "std"), [0, 0, 0]),
    ):
        yield Case(f"manifest: {'.'.join(path)} {value!r:.20}", lambda w, p=path, v=value: lie(w, p, v), REFUSED)


def files_of_other_kinds() -> Iterator[Case]:
    def with_value(weights: Weights, seed: int, value: float) -> Request:
        content, chance = bytearray(cats(weights)), random.Random(seed)
        start = 8 + int.from_bytes(content[:8], "little")
        place = start + 2 * chance.randrange((len(content) - start) // 2)
        content[place : place + 2] = struct.pack("<e", value)
        return upload(bytes(content))

    for seed, value in enumerate([float("nan"), float("inf"), -float("inf")] * 4):
        yield Case(f"value {value} {seed}", lambda w, s=seed, v=value: with_value(w, s, v), REFUSED)
    for name in ("foreign", "wider"):
        yield Case(f"backbone: {name}", lambda w, n=name: upload(w.upload(n)), REFUSED)
    checkpoint = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, checkpoint)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros", b"\0" * 20_000_000)
    others = {
        "pickle": pickle.dumps({"a": 1}),
        "checkpoint": checkpoint.getvalue(),
        "zip bomb": archive.getvalue(),
        "gzip bomb": zlib.compress(b"\0" * 20_000_000, wbits=31),
        "picture": encoded(picture(), "PNG"),
        "nothing": b"",
        "noise": random.Random(1).randbytes(50_000),
        "zeros": bytes(50_000),
        "program": b"\x7fELF" + bytes(2000),
    }
    for name, content in others.items():
        yield Case(f"file: {name}", lambda _, c=content: upload(c), REFUSED)
    yield Case("file: more at its end", lambda w: upload(cats(w) + b"\0"), REFUSED)
    yield Case("file: too large", lambda w: upload(cats(w) + bytes(3_000_000)), frozenset({413}))


def odd_uploads() -> Iterator[Case]:
    names = ["A", "a b", "../x", "a/b", "a+b", ".hidden", "x" * 65, "a\0b", "ü", "a\r\nb", "a%2fb"]
    for name in names:
        yield Case(f"name {name!r:.20}", lambda w, n=name: upload(cats(w), name=n), REFUSED)
    yield Case("name of a bundled set", lambda w: upload(cats(w), name="people"), frozenset({409}))
    yield Case("name of the default set", lambda w: upload(cats(w), name="default"), frozenset({409}))
    yield Case("activate perhaps", lambda w: upload(cats(w), activate="perhaps"), REFUSED)
    yield Case("long field", lambda w: upload(cats(w), name="x" * 5000), frozenset({400}))
    yield Case("unknown field", lambda w: upload(cats(w), more="x"), REFUSED)
    good = part('name="file"; filename="f"', b"x")
    bad = {
        "two files": form(good, good),
        "two names": form(part('name="name"', b"a"), part('name="name"', b"b"), good),
        "no file": form(part('name="name"', b"a")),
        "file under another name": form(part('name="other"; filename="f"', b"x")),
    }
    for what, body in bad.items():
        yield Case(f"form: {what}", lambda _, b=body: Request("/adapters", b, FORM), frozenset({400, 422}))
    yield Case(
        "no form at all", lambda w: Request("/adapters", cats(w), {"Content-Type": "image/png"}), frozenset({415})
    )


def odd_multipart() -> Iterator[Case]:
    image = part('name="image"; filename="f"', encoded(picture(), "PNG"))
    bad_request = frozenset({400})
    bodies = {
        "no boundary in the body": (b"nothing", bad_request),
        "no end": (image, bad_request),
        "cut in a header": (image[:40], bad_request),
        "no headers": (form(b"--edge\r\n\r\nx\r\n"), bad_request),
        "no disposition": (form(image.replace(b"Content-Disposition", b"X-Other")), bad_request),
        "two dispositions": (form(part('name="image"', b"x", 'Content-Disposition: form-data; name="b"')), bad_request),
        "attachment": (form(image.replace(b"form-data", b"attachment")), bad_request),
        "two names": (form(part('name="image"; name="file"', b"x")), bad_request),
        "a name and a starred name": (form(part("name=\"image\"; name*=utf-8''file", b"x")), bad_request),
        "no name": (form(part('filename="f"', b"x")), bad_request),
        "empty name": (form(part('name=""', b"x")), bad_request),
        "huge header": (form(part('name="image"', b"x", "X: " + "a" * 20_000)), bad_request),
        "many headers": (form(part('name="image"', b"x", *[f"X-{i}: a" for i in range(50)])), bad_request),
        "header without colon": (form(part('name="image"', b"x", "no colon")), bad_request),
        "folded header": (form(part('name="image"', b"x", "X: a", " folded")), bad_request),
        "bare line feeds": (form(image).replace(b"\r\n", b"\n"), bad_request),
        "line that begins like a boundary": (form(part('name="image"', b"a\r\n--edgeX")), bad_request),
        "padded boundary": (form(image).replace(b"--edge\r\n", b"--edge \t\r\n"), bad_request),
        "flood of near boundaries": (form(part('name="image"', b"\r\n--edgeX" * 100_000)), bad_request),
        "flood of parts": (form(*[part('name="x"', b"")] * 3000), bad_request),
        "preamble": (b"preamble\r\n" + form(image), bad_request),
        "only an end": (b"--edge--\r\n", REFUSED),
        "no part named image": (form(part('name="photo"', b"x")), REFUSED),
        "empty image": (form(part('name="image"', b"")), REFUSED),
        "a multipart in a part": (
            form(
                part(
                    'name="image"',
                    form(image).replace(b"edge", b"inner"),
                    "Content-Type: multipart/mixed; boundary=inner",
                )
            ),
            frozenset({415}),
        ),
        "base64 in a part": (
            form(
                part('name="image"', base64.b64encode(encoded(picture(), "PNG")), "Content-Transfer-Encoding: base64")
            ),
            frozenset({415}),
        ),
        "too many images": (form(*[part('name="image"', b"x")] * 17), REFUSED),
    }
    for name, (body, expected) in bodies.items():
        yield Case(f"multipart: {name}", lambda _, b=body: Request(body=b, headers=FORM), expected)
    for boundary in ("", '"edge "', "edge; boundary=other", "x" * 71, "é", '"ed\tge"', "edge; boundary*=utf-8''b"):
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        yield Case(f"boundary {boundary[:24]!r}", lambda _, h=headers: photo_form(h), bad_request)


def odd_documents() -> Iterator[Case]:
    good = base64.b64encode(encoded(picture(), "PNG")).decode()
    texts: dict[str, str | bytes] = {
        "no JSON": "{",
        "deep": "[" * 9000,
        "deeper": "[" * 1_000_000,
        "deep objects": '{"image":' * 3000,
        "flood of lists": '{"image": "", "x": [' + "[]," * 400_000 + "[]]}",
        "flood of strings": '{"images": [' + '"",' * 400_000 + '""]}',
        "flood of keys": "{" + ",".join(f'"{i}":0' for i in range(100_000)) + "}",
        "huge number": '{"image": ' + "9" * 100_000 + "}",
        "not a number": '{"image": NaN}',
        "a list": "[]",
        "null": "null",
        "both": json.dumps({"image": good, "images": [good]}),
        "neither": "{}",
        "a number": '{"image": 1}',
        "a list for an image": '{"image": []}',
        "a string for images": json.dumps({"images": good}),
        "no base64": '{"image": "&&&&"}',
        "base64 cut": json.dumps({"image": good[: len(good) // 8 * 4 + 1]}),
        "other alphabet": '{"image": "АБВГ"}',
        "not UTF-8": b'{"image": "\xff\xfe"}',
        "half a surrogate": '{"image": "\\ud800"}',
        "data URL of nothing": '{"image": "data:image/png;base64,"}',
        "empty list": '{"images": []}',
        "too many": json.dumps({"images": ["QQ=="] * 17}),
    }
    for name, text in texts.items():
        yield Case(f"JSON: {name}", lambda _, t=text: document(t), frozenset({400, 422}))
    yield Case("JSON: an image that is none", lambda _: document('{"image": "QUJD"}'), frozenset({415}))


def odd_parameters() -> Iterator[Case]:
    good = encoded(picture(), "PNG")
    queries = {
        "tasks=nonsense": {422},
        "tasks=": {422},
        "tasks=depth": {422},
        f"tasks={'semseg,' * 1000}x": {422},
        "adapter=nobody": {404},
        "adapter=../../etc/passwd": {404},
        "adapter=default@99": {404},
        "adapter=default@1@1": {404},
        "adapter=%00": {404},
        f"adapter={'a' * 5000}": {404, 422},
        "format=exe": {406},
        "format=png": {406},
        "deadline_ms=-1": {422},
        "deadline_ms=soon": {422},
        "masks=maybe": {422},
        "logits=perhaps": {422},
    }
    for query, expected in queries.items():
        wanted = Request(f"/predict?{query}", good, {"Content-Type": "image/png"})
        yield Case(f"query {query[:30]}", lambda _, r=wanted: r, frozenset(expected))


def odd_connections() -> Iterator[Case]:
    for name, (raw, status) in CONFUSING.items():
        yield Case(f"HTTP: {name}", lambda _, r=raw: Request(raw=r), frozenset({status}))


def odd_tensors() -> Iterator[Case]:
    """Requests of the Open Inference Protocol that lie about themselves, or carry what is no good image."""
    for name, ((body, announced, _), _, _) in LYING.items():
        yield Case(f"tensors: {name}", lambda _, b=body, a=announced: tensors(b, a), frozenset({400, 415, 422}))
    bad = {"bomb": max(BOMBS.values(), key=len)[:1_900_000], "huge": huge_pictures()["PNG"], "text": b"hello", "": b""}
    for name, content in bad.items():
        binary = packed(encoded(picture(), "PNG"), content)
        document = head(size=len(binary), input={"shape": [2]})
        request = tensors(document + binary, str(len(document)))
        yield Case(f"tensors: image {name!r}", lambda _, r=request: r, frozenset({413, 415, 422}))


def tensors(body: bytes, announced: str | None) -> Request:
    """A request for inference; `announced`: how many bytes of it are said to be JSON."""
    return Request("/v2/models/default/infer", body, {LENGTH_HEADER: announced} if announced else {})


FAMILIES = (
    truncated_files,
    flipped_files,
    lying_headers,
    lying_manifests,
    files_of_other_kinds,
    odd_uploads,
    odd_multipart,
    truncated_images,
    flipped_images,
    image_bombs,
    no_images,
    odd_documents,
    odd_parameters,
    odd_connections,
    odd_tensors,
)
CASES = [case for family in FAMILIES for case in family()]
