"""A plain FastAPI server that swaps adapter tensors per request; with --only it serves one set and never swaps.

    python -m benchmarks.baselines.swap_server --port 8000 --backbone FILE --sets DIR [--only NAME] [--threads N]

Model calls are serialised in one thread, as OpenMP wants; photos in and PNGs out use the framework's thread pool.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import torch
import uvicorn
from fastapi import FastAPI, Form, UploadFile

from benchmarks.baselines.model import SwappedModel


def create_app(model: SwappedModel, threads: int) -> FastAPI:
    """One endpoint and a health check."""
    app = FastAPI()
    limit = (lambda: torch.set_num_threads(threads)) if threads else (lambda: None)
    turn = ThreadPoolExecutor(1, initializer=limit)  # the lock, and the one thread that calls the model

    @app.post("/predict")
    def predict(image: UploadFile, adapter: Annotated[str, Form()] = "default") -> dict[str, Any]:
        photo = image.file.read()
        return model.document(turn.submit(model.maps, photo, adapter).result())

    @app.get("/health")
    def health() -> str:
        return "ok"

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    model = SwappedModel(options.backbone, options.sets, options.only)
    app = create_app(model, options.threads)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
