import os
import sys
from pathlib import Path

import pytest
import torch

from app.errors import StartupError
from app.service import LOADS_NICE, UPLOADS_NICE, Pools, _open_backbone
from app.settings import Settings
from mtlora.backbone import save_backbone
from tests.factories import make_backbone
from tests.serving import Weights, live_app, metric, settings_for


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
