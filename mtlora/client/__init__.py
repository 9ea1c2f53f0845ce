"""A client of the server, for programs: typed answers, NumPy arrays, retries. Needs no torch.

    from mtlora.client import Client

    with Client("http://127.0.0.1:8000") as client:
        maps = client.predict("photo.jpg", tasks=["semseg", "normals"])
        maps.semseg   # uint8 [H, W], class of every pixel
        maps.normals  # float32 [H, W, 3], unit vectors

`AsyncClient` has the same methods, awaited. The command line is `mtlora remote`.
"""

from mtlora.client.answers import AdapterList, AdapterSet, ClassInfo, Pushed, Revision, ServerStatus, TaskInfo
from mtlora.client.asynchronous import AsyncClient
from mtlora.client.limits import Limits
from mtlora.client.maps import Pictures, Prediction
from mtlora.client.photos import Photo
from mtlora.client.retry import Retry
from mtlora.client.synchronous import Client
from mtlora.vocabulary.errors import BadAnswerError, LostAnswerError, RefusedError, RemoteError, UnreachableError

__all__ = [
    "AdapterList",
    "AdapterSet",
    "AsyncClient",
    "BadAnswerError",
    "ClassInfo",
    "Client",
    "Limits",
    "LostAnswerError",
    "Photo",
    "Pictures",
    "Prediction",
    "Pushed",
    "RefusedError",
    "RemoteError",
    "Retry",
    "Revision",
    "ServerStatus",
    "TaskInfo",
    "UnreachableError",
]
