"""The check for a GPU without torch, for `--device cuda`: by the device's name and the driver."""

import ctypes
from importlib.metadata import PackageNotFoundError, version

from app.core.errors import SettingError

LIBRARY = "libcuda.so.1"
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


def check_device(device: str) -> None:
    """`SettingError` if torch will not find this device (`cuda` or `cuda:N`)."""
    build = torch_build()
    if "rocm" in build:  # its devices are called cuda too, and have another driver
        return
    if "cpu" in build:
        raise SettingError(f"{device}: the torch installed here ({build}) is built for CPUs only", setting="device")
    count = count_devices(device)
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        there = "1 GPU, cuda:0" if count == 1 else f"{count} GPUs, cuda:0 to cuda:{count - 1}"
        raise SettingError(f"{device}: there is no such GPU; this machine has {there}", setting="device")


def torch_build() -> str:
    """Version of the torch that is installed, such as 2.9.1+cpu; read from its metadata, nothing is imported."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def count_devices(device: str) -> int:
    """GPUs that the driver shows to this process (CUDA_VISIBLE_DEVICES counts), at least 1; `SettingError` if none."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        raise SettingError(
            f"{device}: there is no NVIDIA driver here ({LIBRARY} cannot be loaded); use --device cpu or auto",
            setting="device",
        ) from None
    count = ctypes.c_int(0)
    fault = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if fault == NO_DEVICE or (not fault and count.value < 1):
        raise SettingError(f"{device}: the NVIDIA driver shows no GPU to this process", setting="device")
    if fault:
        raise SettingError(f"{device}: the NVIDIA driver cannot be used: {_words(driver, fault)}", setting="device")
    return count.value


def _words(driver: ctypes.CDLL, fault: int) -> str:
    text = ctypes.c_char_p()
    known = driver.cuGetErrorString(fault, ctypes.byref(text)) == 0 and text.value
    return f"{known.decode(errors='replace')} (CUDA error {fault})" if known else f"CUDA error {fault}"
