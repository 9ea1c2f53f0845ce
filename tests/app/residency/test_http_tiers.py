"""Tiers through HTTP: where sets are shown, what the metrics say, what loads, unloads and evictions move."""

from pathlib import Path

from testing.requests import predict, upload
from testing.serving import Weights, live_app, metric, settings_for


def test_a_set_that_leaves_the_device_stays_in_host_memory(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "a", form="merged")) as live:
        upload(live.client, weights.upload("cats"))
        predict(live.client, "cats")
        device_cache = live.service.parts.device_cache
        device_bytes = sum(device_cache.cost(ref) for ref in device_cache.resident())
    with live_app(settings_for(weights, tmp_path / "b", device_bytes=device_bytes, form="merged")) as live:

        def tiers() -> dict[str, str]:
            return {s["name"]: s["tier"] for s in live.client.get("/adapters").json()["adapters"]}

        for name in ("cats", "dogs"):
            upload(live.client, weights.upload(name))
            predict(live.client, name)
        assert tiers() == {"default": "device", "people": "disk", "cats": "host", "dogs": "device"}
        reads = metric(live, 'mtlora_adapter_loads_total{result="ok",tier="host"}')
        assert predict(live.client, "cats").headers["x-adapter-cold"] == "1"
        assert tiers() == {"default": "device", "people": "disk", "cats": "device", "dogs": "host"}
        assert metric(live, 'mtlora_adapter_loads_total{result="ok",tier="host"}') == reads
        files = [(weights.uploads / f"{name}.safetensors").stat().st_size for name in ("cats", "dogs")]
        default = (weights.bundled / "default.safetensors").stat().st_size
        assert metric(live, 'mtlora_adapter_bytes{tier="host"}') == default + sum(files)
        for name in ("cats", "dogs"):
            live.client.post(f"/adapters/{name}/unload")
        assert tiers() == {"default": "device", "people": "disk", "cats": "disk", "dogs": "disk"}
        assert metric(live, 'mtlora_adapter_bytes{tier="host"}') == default
        assert metric(live, 'mtlora_adapter_evictions_total{reason="unload",tier="host"}') == 2
