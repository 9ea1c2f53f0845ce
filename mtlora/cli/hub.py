"""Files of the Hugging Face Hub, by `hf://ORG/REPO@REVISION/FILE`. For the command line only: no server fetches them.

Needs the extra `hub`. The token is taken from where huggingface_hub keeps it; what was fetched before is found in its
cache, without a network too.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from mtlora.cli.say import say
from mtlora.vocabulary.errors import RemoteError
from mtlora.vocabulary.shown import shown

SCHEME = "hf://"
SUFFIX = ".safetensors"
REPO_NAME = r"[\w.-]+/[\w.-]+"
_SOURCE = re.compile(rf"hf:/{{1,2}}(?P<repo>{REPO_NAME})(?:@(?P<revision>[^/@]+))?/(?P<file>[^@]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of the Hub that lies in the local cache.

    source: `hf://ORG/REPO@COMMIT/FILE`, which always means these bytes
    digest: sha256 of the file, 64 hexadecimal digits
    """

    path: Path
    source: str
    digest: str


def is_hub(source: str | Path) -> bool:
    """Whether this names a file of the Hub; a `Path` has lost one of the slashes."""
    return str(source).startswith("hf:/")


def fetch(source: str | Path) -> HubFile:
    """The file, from the cache or the Hub; `RemoteError` says why there is none. Only `.safetensors` are fetched."""
    found = _SOURCE.fullmatch(str(source))
    if found is None or ".." in found["file"].split("/"):
        raise RemoteError(
            f"{shown(source)} names no file of the Hub: hf://ORG/REPO/FILE or hf://ORG/REPO@REVISION/FILE"
        )
    if not found["file"].endswith(SUFFIX):
        raise RemoteError(f"{shown(source)}: only {SUFFIX} files are fetched from the Hub, not pickles")
    revision = unquote(found["revision"] or "main")
    with hub_errors(str(source)):
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(found["repo"], found["file"], revision=revision, library_name="mtlora"))
    commit = next((part for part in path.parts if _COMMIT.fullmatch(part)), revision)
    return HubFile(path, f"{SCHEME}{found['repo']}@{commit}/{found['file']}", _checked_digest(path, source))


def _checked_digest(path: Path, source: str | Path) -> str:
    """sha256 of the file. The cache calls a large file by what its digest should be: then the two must agree."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = path.resolve().name
    if _DIGEST.fullmatch(expected) and expected != digest:
        raise RemoteError(
            f"{shown(source)}: sha256 of {path} is {digest}, the Hub says {expected}: delete it, try again"
        )
    return digest


def local_path(source: str) -> Path:
    """The file itself, or the local copy of one of the Hub, of which a line then says commit and digest."""
    if not is_hub(source):
        return Path(source)
    fetched = fetch(source)
    say(f"{fetched.source}: sha256 {fetched.digest}")
    return fetched.path


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Whatever huggingface_hub raises within, as a `RemoteError` of one line."""
    try:
        yield
    except ImportError as error:
        raise RemoteError(
            f"{shown(what)}: the Hub is asked with huggingface_hub, which is not installed: pip install huggingface_hub"
        ) from error
    # Its errors have no common root: some are of httpx, some OSErrors, some ValueErrors.
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RemoteError(f"{shown(what)}: {_reason(error)}{shown(first, 300)}") from error


def _reason(error: Exception) -> str:
    if getattr(getattr(error, "response", None), "status_code", 0) in _NOT_ALLOWED and type(error).__name__ == _PLAIN:
        return "the token is missing or may not do this (`hf auth login`, or HF_TOKEN): "
    kinds = {kind.__name__ for kind in type(error).__mro__}
    for kind, words in _REASONS.items():
        if kind in kinds:
            return f"{words}: "
    return ""


_NOT_ALLOWED = (401, 403)
_PLAIN = "HfHubHTTPError"  # the others say more
_REASONS = {
    "GatedRepoError": "the repository's terms must be accepted on the Hub first",
    "RevisionNotFoundError": "there is no such revision",
    "RepositoryNotFoundError": "there is no such repository, or the token may not read it",
    "LocalEntryNotFoundError": "not in the cache, and the Hub could not be reached",
    "EntryNotFoundError": "the repository has no such file",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
}
