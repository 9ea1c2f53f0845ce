"""Which request of HTTP each call takes."""

import pytest

from app.core.errors import BadBodyError
from app.rpc.calls import CALLS
from app.rpc.messages import message


def asked(call: str, kind: str = "NameAndVersion", **fields: str) -> tuple[str, str]:
    ask = CALLS[call].ask(message(kind)(**fields).SerializeToString())
    return ask.method, ask.path


@pytest.mark.parametrize("name", ["leaf", "stats", "metadata", "config", "ready", "versions", "infer", "index"])
def test_no_name_of_a_set_is_taken_for_anything_else(name: str) -> None:
    assert asked("ModelMetadata", name=name) == ("GET", f"/v2/models/{name}/metadata")
    assert asked("ModelMetadata", name=name, version="2") == ("GET", f"/v2/models/{name}/versions/2")
    assert asked("ModelReady", name=name) == ("GET", f"/v2/models/{name}/ready")
    assert asked("ModelConfig", name=name) == ("GET", f"/v2/models/{name}/config")
    assert asked("ModelStatistics", name=name) == ("GET", f"/v2/models/{name}/stats")


def test_statistics_of_all_models_have_no_version() -> None:
    assert asked("ModelStatistics") == ("GET", "/v2/models/stats")
    with pytest.raises(BadBodyError, match="version '2' of which model"):
        asked("ModelStatistics", version="2")
