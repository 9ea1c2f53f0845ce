"""The size of maps as clients write it: the photo's, the model's, or pixels of the longer side."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MOST_SIDE = 65_535  # of a map, as of a photo
_SIZE = re.compile(r"photo|model|[1-9][0-9]{0,4}")


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text) or (text.isdigit() and int(text) > MOST_SIDE):
        words = f"Input should be photo, model, or the pixels of the longer side from 1 to {MOST_SIDE}, such as 640"
        raise PydanticCustomError("map_size", "{words}", {"words": words})
    return text


MapSize = Annotated[str, AfterValidator(_size), Field(json_schema_extra={"pattern": f"^({_SIZE.pattern})$"})]
"""For the annotation of a size that a client writes."""
