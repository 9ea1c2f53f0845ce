"""Keys and region from the files that Amazon's own tools keep, which the bucket's client does not read itself."""

import configparser
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region")


def from_profile(environment: Mapping[str, str]) -> dict[str, str]:
    """What the profile named by `AWS_PROFILE` (else `default`) says and the environment does not; files may lack.

    Keys in the environment count, and then none of a file. A profile that only says where else to ask is left out.
    """
    profile = environment.get("AWS_PROFILE") or "default"
    home = Path(environment.get("HOME") or "/")
    config = Path(environment.get("AWS_CONFIG_FILE") or home / ".aws" / "config")
    credentials = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials")
    found = _section(config, profile if profile == "default" else f"profile {profile}") | _section(credentials, profile)
    if not {"aws_access_key_id", "aws_secret_access_key"} <= found.keys() or _keys_elsewhere(environment):
        found = {name: value for name, value in found.items() if name == "region"}
    if environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"):
        found.pop("region", None)
    return found


def _keys_elsewhere(environment: Mapping[str, str]) -> bool:
    names = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")
    return any(environment.get(name) for name in names)


def _section(path: Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    with suppress(OSError, UnicodeDecodeError, configparser.Error):
        parser.read_string(path.read_text(encoding="utf-8"))
    if not parser.has_section(name):
        return {}
    return {key: value for key, value in parser.items(name) if key in _KEYS}
