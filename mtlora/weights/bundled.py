"""The search for adapter sets and backbones: by path, or by name among the bundled ones."""

import os
from pathlib import Path

from mtlora.vocabulary.errors import AdapterFileError, BackboneError

ADAPTERS_VARIABLE = "MTLORA_ADAPTERS"
BACKBONE_VARIABLE = "MTLORA_BACKBONE"
SUFFIX = ".safetensors"
BACKBONE_FILE = f"backbone{SUFFIX}"
"""The one file in the bundled folder that is no adapter set."""
FOLDER = "adapters"
_PACKAGE = Path(__file__).resolve().parents[1]


def bundled_folder() -> Path:
    """Folder of the bundled sets: `MTLORA_ADAPTERS`, or the package's own `adapters/`, or the checkout's."""
    named = os.environ.get(ADAPTERS_VARIABLE)
    return Path(named) if named else _beside(_PACKAGE)


def _beside(package: Path) -> Path:
    """A wheel has the folder within the package (setup.py puts it there), a checkout beside it."""
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parent / FOLDER


def bundled_adapters() -> dict[str, Path]:
    """Bundled adapter sets by name, sorted."""
    files = sorted(path for path in bundled_folder().glob(f"*{SUFFIX}") if path.name != BACKBONE_FILE)
    return {path.name.removesuffix(SUFFIX): path for path in files}


def find_adapter(name_or_path: str | Path) -> Path:
    """File of an adapter set: anything ending in `.safetensors` is a path, everything else a bundled set's name."""
    text = str(name_or_path)
    if text.endswith(SUFFIX):
        path = Path(text)
        if not path.is_file():
            raise AdapterFileError(f"there is no adapter file {path}")
        return path
    known = bundled_adapters()
    if text not in known:
        names = ", ".join(known) or "none"
        raise AdapterFileError(f"no adapter set is called {text!r}; bundled in {bundled_folder()}: {names}")
    return known[text]


def find_backbone(path: str | Path | None = None) -> Path:
    """File of a backbone: the one given, or the bundled one."""
    if path is None:
        return bundled_backbone()
    if not Path(path).is_file():
        raise BackboneError(f"there is no backbone file {path}")
    return Path(path)


def bundled_backbone() -> Path:
    """Backbone file of the bundled sets: `MTLORA_BACKBONE`, or `backbone.safetensors` in their folder."""
    named = os.environ.get(BACKBONE_VARIABLE)
    path = Path(named) if named else bundled_folder() / BACKBONE_FILE
    if not path.is_file():
        raise BackboneError(f"there is no backbone file {path}; give one with --backbone or {BACKBONE_VARIABLE}")
    return path
