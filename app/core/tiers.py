"""The tiers that an adapter set can be in, and events of moving between them."""

from enum import StrEnum
from typing import Protocol


class Tier(StrEnum):
    """DISK: the file. HOST: checked tensors as stored, in main memory. DEVICE: the form that the engine runs."""

    DISK = "disk"
    HOST = "host"
    DEVICE = "device"


class TierEvents(Protocol):
    """What the tiers tell of themselves, from loader threads too; telemetry listens."""

    def loaded(self, tier: Tier, seconds: float, ok: bool) -> None:
        """A load into `tier` ended."""

    def evicted(self, tier: Tier, reason: str) -> None:
        """A set left `tier`: for `room`, by `unload`, by `delete`."""

    def looked_up(self, hit: bool) -> None:
        """A request asked for a set; `hit`: it was on the device."""
