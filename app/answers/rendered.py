"""The parts of one image's answer on their way to its bytes."""

from dataclasses import dataclass, field

from app.answers.form import Pieces
from mtlora.maps.map_png import EncodedMap
from mtlora.vocabulary.tasks import Task


@dataclass(slots=True)
class Rendered:
    """The parts of one image's answer."""

    width: int  # of the maps
    height: int
    photo_size: tuple[int, int] | None = None  # width and height, where it is another
    orientation: int = 1
    documents: dict[Task, bytes] = field(default_factory=dict)  # JSON that says what a map holds
    maps: dict[Task, EncodedMap] = field(default_factory=dict)
    tensors: dict[Task, Pieces] = field(default_factory=dict)  # little-endian, or JSON without its brackets
    body: Pieces = field(default_factory=list)  # the whole answer, for forms that need nothing else
