"""GPUs are counted by asking the driver; what it says decides, and torch is not asked."""

import ctypes
from typing import Any

import pytest

from app.core.errors import SettingError
from app.startup import cuda_driver


class Driver:
    """Answers as libcuda does."""

    def __init__(self, gpus: int, *, init: int = 0) -> None:
        self._gpus, self._init = gpus, init

    def cuInit(self, flags: int) -> int:  # noqa: N802
        assert flags == 0
        return self._init

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._gpus
        return 0

    def cuGetErrorString(self, fault: int, text: Any) -> int:  # noqa: N802
        text._obj.value = b"unknown error" if fault == 999 else None
        return 0 if fault == 999 else 1


def install(monkeypatch: pytest.MonkeyPatch, driver: Driver | None, build: str = "2.9.1+cu128") -> None:
    def load(name: str) -> Driver:
        assert name == cuda_driver.LIBRARY
        if driver is None:
            raise OSError(f"{name}: cannot open shared object file")
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(cuda_driver, "version", lambda name: build)


@pytest.mark.parametrize(
    ("driver", "device", "words"),
    [
        (None, "cuda", "there is no NVIDIA driver here"),
        (Driver(0), "cuda", "shows no GPU to this process"),
        (Driver(0, init=100), "cuda:0", "shows no GPU to this process"),
        (Driver(0, init=999), "cuda", "cannot be used: unknown error"),
        (Driver(0, init=3), "cuda", "cannot be used: CUDA error 3"),
        (Driver(1), "cuda:1", "there is no such GPU; this machine has 1 GPU, cuda:0"),
        (Driver(4), "cuda:7", "this machine has 4 GPUs, cuda:0 to cuda:3"),
    ],
)
def test_a_device_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, driver: Driver | None, device: str, words: str
) -> None:
    install(monkeypatch, driver)
    with pytest.raises(SettingError, match=words) as refused:
        cuda_driver.check_device(device)
    assert refused.value.setting == "device"
    assert refused.value.detail.startswith(f"{device}: ")


@pytest.mark.parametrize(("gpus", "device"), [(1, "cuda"), (1, "cuda:0"), (4, "cuda:3")])
def test_a_device_that_is_there(monkeypatch: pytest.MonkeyPatch, gpus: int, device: str) -> None:
    install(monkeypatch, Driver(gpus))
    cuda_driver.check_device(device)


def test_the_build_of_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Driver(1), "2.9.1+cpu")
    with pytest.raises(SettingError, match=r"\(2\.9\.1\+cpu\) is built for CPUs only"):
        cuda_driver.check_device("cuda")
    install(monkeypatch, None, "2.9.1+rocm6.3")
    cuda_driver.check_device("cuda")  # another driver's devices: only torch can tell
