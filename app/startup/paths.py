"""The files that the settings mean. No torch here: they are looked at before it is imported."""

from pathlib import Path

from app.startup.settings import Settings
from mtlora.weights.bundled import BACKBONE_FILE, bundled_folder


def adapters_folder(settings: Settings) -> Path:
    """The folder of read-only adapter sets: the one given, or the installed one."""
    return settings.adapters or bundled_folder()


def backbone_file(settings: Settings) -> Path:
    """The backbone: the one given, else the one beside the sets given, else the bundled one. It need not be there."""
    if settings.backbone is not None:
        return settings.backbone
    beside = adapters_folder(settings) / BACKBONE_FILE
    return beside if beside.is_file() else bundled_folder() / BACKBONE_FILE
