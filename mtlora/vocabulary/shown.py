"""Text of others, made safe to show: what a server, a file or a file's name says goes to terminals and logs.

A terminal obeys control characters, and bidirectional ones make a line read as another. Here they are spelled out.
"""

SHOWN_CHARACTERS = 1000
"""Of one text, unless its place says otherwise."""


def shown(text: object, most: int = SHOWN_CHARACTERS) -> str:
    """One line of printable characters: all others as in a Python string (`\\x1b`, `\\n`, `\\u202e`), the end cut off.

    text: anything; shown as `str` has it
    most: characters that are shown
    """
    whole = str(text)
    kept = whole[:most]
    if not kept.isprintable():
        kept = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in kept)
    return kept if len(whole) <= most else f"{kept}… ({len(whole)} characters)"
