"""Only plain files are opened, and nothing is waited for."""

import errno
import os
from pathlib import Path

import pytest

from mtlora.weights.plain_files import open_plain


def test_a_file_and_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_plain(tmp_path / name) as file:
            assert file.read() == b"content"


def test_everything_else_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, number in (
        (tmp_path / "pipe", errno.EINVAL),
        (Path("/dev/zero"), errno.EINVAL),
        (tmp_path, errno.EISDIR),
        (tmp_path / "none", errno.ENOENT),
        (tmp_path / ("x" * 300), errno.ENAMETOOLONG),
    ):
        with pytest.raises(OSError) as refused:
            open_plain(path)
        assert refused.value.errno == number
