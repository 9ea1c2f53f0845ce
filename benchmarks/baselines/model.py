"""What the baselines share: the library's model, every set's tensors in memory, the library's own maps as PNG."""

import base64
from pathlib import Path
from typing import Any

from mtlora.maps.map_png import encode_map
from mtlora.model.mtlora import build_model
from mtlora.prediction.predict import predict
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone


class SwappedModel:
    """One model; the tensors of the set that a request names are copied into it when they are not there already."""

    def __init__(self, backbone: Path, folder: Path, only: str = "") -> None:
        paths = [folder / f"{only}.safetensors"] if only else sorted(folder.glob("*.safetensors"))
        adapters = {path.stem: load_adapter(path) for path in paths}
        first = next(iter(adapters))
        self._model = build_model(load_backbone(backbone), adapters[first].manifest.spec).eval()
        self._sets = {
            name: {key: tensor.float() for key, tensor in adapter.tensors.items()} for name, adapter in adapters.items()
        }
        self._current = ""

    def maps(self, photo: bytes, adapter: str) -> dict[Any, Any]:
        """Maps of all tasks at the photo's size. One call at a time."""
        if adapter != self._current:
            self._model.load_adapter_tensors(self._sets[adapter])
            self._current = adapter
        return predict(self._model, photo)

    def document(self, maps: dict[Any, Any]) -> dict[str, Any]:
        """The part of an answer that holds the maps, as in the service."""
        return {
            "tasks": {
                task.value: {"png": base64.b64encode(encode_map(values, self._model.spec.task(task)).png).decode()}
                for task, values in maps.items()
            }
        }
