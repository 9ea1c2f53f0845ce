"""XML of strangers, read without document types, so no entity is ever expanded, and within bounds."""

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mtlora.vocabulary.errors import DataError

_DEEPEST = 64


def parse_xml(data: bytes, where: str) -> Element:
    """The root element; `DataError` names `where` and what is wrong."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise DataError(f"{where}: elements lie within each other {depth} deep; {_DEEPEST} are read")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(name: str, *_: object) -> None:
        raise DataError(f"{where}: a document type is declared ({name[:60]!r}); no labelling tool writes one")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataError(f"{where} is no XML: {error}") from error
    return builder.close()
