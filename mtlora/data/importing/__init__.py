"""What labelling tools export, brought into the project's dataset layout: `mtlora data import`.

One file for each format reads an export into a common form (`shapes.py`); `draw.py` makes label maps of it, `write.py`
the folder. An export is not trusted: documents, sizes and counts are bounded, and only photos and masks that were found
below the given folders are opened, whatever names the export has for them.
"""
