"""The command `mtlora bench`: load on a running server. Needs no torch."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlora.cli.connection import KeyFileOption, Server
from mtlora.cli.say import say, say_json

if TYPE_CHECKING:
    from mtlora.bench.measure import Measured

PHOTO_SIZE = (640, 480)


def bench(  # noqa: PLR0913 (a command's options)
    url: Annotated[str, typer.Argument(help="Address of the server.")],
    rate: Annotated[
        float, typer.Option(min=0, help="Requests a second; 0: half of what is answered one by one.")
    ] = 0.0,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long.")] = 20.0,
    photo: Annotated[Path | None, typer.Option(help="JPEG to send; default: one of 640x480 made here.")] = None,
    adapter: Annotated[list[str] | None, typer.Option(help="Adapter set; several times: in turn.")] = None,
    tasks: Annotated[str, typer.Option(help="Comma list of tasks; default: all of the set.")] = "",
    clients: Annotated[int, typer.Option(min=1, max=4096, help="Most connections at a time.")] = 64,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request counts as failed.")] = 60.0,
    key_file: KeyFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a server: throughput, latency and their ratios under requests that come at random times (Poisson).

    Requests are sent when they are due, whether or not earlier ones are answered, and latency counts from then.
    """
    from mtlora.bench.measure import Load, measure

    server = Server(url, key_file, timeout)
    with tempfile.TemporaryDirectory() as folder:
        path = photo or _write_photo(Path(folder) / "photo.jpg")
        load = Load(
            url=url, photo=path, content_type="image/*", adapters=tuple(adapter or ()), tasks=tasks,
            rate=rate, seconds=seconds, clients=clients, timeout_s=timeout,
        )  # fmt: skip
        with server.client() as client:  # says in words what is wrong, before anything is measured
            for name in adapter or [""]:
                client.pictures(path, tasks=tasks, adapter=name)
        measured = measure(load, server.key())
    if as_json:
        say_json(measured.document())
        return
    say(*_lines(measured, seconds))


def _lines(measured: "Measured", seconds: float) -> list[str]:
    document = measured.document()
    failures = ", ".join(f"{what}: {count}" for what, count in document["failures"].items())
    lines = [
        f"rate        {document['rate_rps']:g} requests/s for {seconds:g} s, open loop, Poisson",
        f"idle        {document['idle_ms']:g} ms, median of {measured.idle_answers} requests one at a time",
        f"answered    {document['answered']} of {document['sent']} ({measured.answered:.1%})"
        + (f"; {failures}" if failures else ""),
        f"throughput  {document['throughput_rps']:g} answers/s, {document['throughput_of_rate']:.2f} of the rate",
        "latency           ms  of idle",
        *(
            f"  {name.replace('_', '.'):<8} {ms:>9.1f}  {document['latency_of_idle'][name]:>7.2f}"
            for name, ms in document["latency_ms"].items()
        ),
    ]
    if document["p99_of_p50"] is not None:
        lines.append(f"p99 / p50   {document['p99_of_p50']:.2f}")
    lag, share = document["generator"]["lag_p99_ms"], document["generator"]["cpu_share"]
    lines.append(f"generator   p99 {lag:g} ms late, {share:.0%} of a core")
    if not measured.trustworthy:
        lines.append("WARNING: the generator was late beside the latencies: these figures are not to be quoted")
    return lines


def _write_photo(path: Path) -> Path:
    """A photo with structure and noise, always the same."""
    import numpy as np
    from PIL import Image

    width, height = PHOTO_SIZE
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 40 + y / 90), np.cos(y / 30), np.sin((x + y) / 60)], axis=-1) * 80 + 128
    noisy = waves + np.random.default_rng(0).normal(0, 12, waves.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=90)
    return path
