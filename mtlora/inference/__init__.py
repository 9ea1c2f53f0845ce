"""The engine's library: backends that prepare adapter sets on a device and run them, behind one interface."""

from mtlora.inference.backends.backend import Backend, Query, Resident
from mtlora.inference.backends.choose import make_backend
from mtlora.inference.backends.cpu import CpuBackend
from mtlora.inference.backends.reference import ReferenceBackend
from mtlora.inference.prepare.needs import device_bytes, forward_bytes
from mtlora.inference.prepare.planner import ComputePlan

__all__ = [
    "Backend",
    "ComputePlan",
    "CpuBackend",
    "Query",
    "ReferenceBackend",
    "Resident",
    "device_bytes",
    "forward_bytes",
    "make_backend",
]
