"""LitServe around the same model, swapping adapter tensors per request, as its users would write it.

python -m benchmarks.baselines.litserve_server --port 8000 --backbone FILE --sets DIR
"""

import argparse
from pathlib import Path
from typing import Any

import litserve
from fastapi import Request

from benchmarks.baselines.model import SwappedModel


class Api(litserve.LitAPI):
    """One worker; a request is a form with `image` and `adapter`."""

    def __init__(self, backbone: Path, folder: Path) -> None:
        super().__init__(api_path="/predict")
        self._backbone, self._folder = backbone, folder

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Runs in the worker."""
        self._model = SwappedModel(self._backbone, self._folder)

    def decode_request(self, request: Request) -> tuple[bytes, str]:
        """The photo's bytes and the set's name."""
        return request["image"].file.read(), str(request["adapter"])  # LitServe hands in the parsed form

    def predict(self, x: tuple[bytes, str]) -> dict[Any, Any]:
        """All maps."""
        return self._model.maps(*x)

    def encode_response(self, output: dict[Any, Any]) -> dict[str, Any]:
        """Maps as PNG in JSON."""
        return self._model.document(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--sets", type=Path, required=True)
    options = parser.parse_args()
    server = litserve.LitServer(
        Api(options.backbone, options.sets), accelerator="cpu", devices=1, workers_per_device=1, timeout=120
    )
    server.run(host="127.0.0.1", port=options.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
