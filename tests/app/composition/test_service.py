import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from app.composition.pools import Pools
from app.composition.service import LOADS_NICE, UPLOADS_NICE, Service, _open_backbone
from app.core.errors import StartupError
from app.scheduling.admission import Admission
from app.startup.settings import Settings
from mtlora.weights.backbone import save_backbone
from testing.factories import make_backbone
from testing.serving import Weights, live_app, metric, settings_for


@pytest.fixture
def backbone_file(tmp_path: Path) -> Path:
    save_backbone(make_backbone(), tmp_path / "backbone.safetensors")
    return tmp_path / "backbone.safetensors"


def test_device_is_chosen(backbone_file: Path) -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert _open_backbone(Settings(backbone=backbone_file)).device.type == expected
    assert _open_backbone(Settings(backbone=backbone_file, device="cpu")).device.type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_said(backbone_file: Path) -> None:
    with pytest.raises(StartupError, match="cannot use device 'cuda'"):
        _open_backbone(Settings(backbone=backbone_file, device="cuda"))


def test_limits_are_exposed_so_that_ratios_need_no_constants(weights: Weights, tmp_path: Path) -> None:
    limits = {"device_bytes": 12345678, "host_bytes": 234567, "max_queue_images": 32}
    with live_app(settings_for(weights, tmp_path / "store", **limits)) as live:
        assert metric(live, 'mtlora_adapter_budget_bytes{tier="device"}') == 12345678
        assert metric(live, 'mtlora_adapter_budget_bytes{tier="host"}') == 234567
        assert metric(live, "mtlora_queue_limit_images") == 32


def test_a_scrape_reads_requests_on_the_event_loop(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come and go there: another thread would see their set change while it counts."""
    counting: list[int] = []
    asking: list[int] = []
    count, fault = vars(Admission)["images"].fget, Service.store_fault

    def counted(self: Admission) -> int:
        counting.append(threading.get_ident())
        return int(count(self))

    def asked(self: Service) -> str:
        asking.append(threading.get_ident())
        return fault(self)

    with live_app(settings_for(weights, tmp_path / "store")) as live:
        monkeypatch.setattr(Admission, "images", property(counted))
        monkeypatch.setattr(Service, "store_fault", asked)
        live.client.get("/readyz")  # answered on the loop, without any other thread
        loop = asking[0]
        assert live.client.get("/metrics").status_code == 200
    assert counting
    assert set(counting) == {loop}


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_uploads_and_loads_give_way_to_predictions() -> None:
    pools, own = Pools.make(Settings()), os.getpriority(os.PRIO_PROCESS, 0)

    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, 0)  # 0: the calling thread

    try:
        found = [pool.submit(nice).result() for pool in (pools.codec, pools.loader, pools.uploads)]
    finally:
        pools.close()
    assert found == [own, min(19, own + LOADS_NICE), min(19, own + UPLOADS_NICE)]


THREADS = """
import asyncio
import torch
from app.engine.micro_batch import BatchLimits
from app.engine.worker import Worker
from app.composition.pools import Pools
from app.startup.settings import Settings
from app.engine.torch_threads import CHOSEN
from testing.fake_engine import FakeEngine, NoEvents

async def main():
    settings = Settings(engine_threads={engine_threads})
    pools = Pools.make(settings)
    pools.warm(settings)
    worker = Worker(FakeEngine(), NoEvents(), BatchLimits(images=1), threads=settings.engine_threads)
    worker.start()
    found = []
    await worker.call(lambda: found.append(torch.get_num_threads()))
    worker.stop()
    others = (pools.codec, pools.loader, pools.uploads)
    print(CHOSEN, *found, *(pool.submit(torch.get_num_threads).result() for pool in others))
    pools.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("setting", [0, 3])
@pytest.mark.slow
def test_the_engine_has_all_cores_and_the_other_threads_one(setting: int) -> None:
    """In a process of its own, because what is set last is what new threads begin with."""
    command = [sys.executable, "-c", THREADS.format(engine_threads=setting)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    chosen, engine, *others = map(int, done.stdout.split())
    assert engine == (setting or chosen)
    assert others == [1, 1, 1]
