"""Write deploy/env.example: every setting, commented out at its default. Run it after a change of the settings."""

import textwrap
from pathlib import Path

from pydantic.fields import FieldInfo

from app.startup.settings import Settings

TARGET = Path(__file__).parents[1] / "deploy" / "env.example"
DECIDED = ("host", "port", "store", "insecure", "keys_file")  # by compose.yaml and compose.keys.yaml
INSTALLED = ("backbone", "adapters", "config")  # paths in the image

HEAD = """\
# Settings of the stack. Copy to .env beside compose.yaml and uncomment what you change; docs/settings.md explains each.
# Made by scripts/env_example.py from app/startup/settings.py.

# ---- The stack: ports on loopback; the server's container; images

#STACK_PORT=8000
#STACK_PROMETHEUS_PORT=9090
#STACK_ALERTMANAGER_PORT=9093
#STACK_GRAFANA_PORT=3000
#STACK_MEMORY=4g
#STACK_STOP_GRACE=45s
#STACK_IMAGE=mtlora-server:local
#STACK_PROMETHEUS_IMAGE=
#STACK_ALERTMANAGER_IMAGE=
#STACK_GRAFANA_IMAGE=
#TORCH_INDEX=https://download.pytorch.org/whl/cpu
"""


def env_example() -> str:
    """The file's text; it names no path of the machine it was made on."""
    fields = Settings.model_fields
    own = "\n".join(_lines(name, info) for name, info in fields.items() if name not in (*DECIDED, *INSTALLED))
    paths = "\n".join(_lines(name, info) for name, info in fields.items() if name in INSTALLED)
    decided = "\n".join(_lines(name, info) for name, info in fields.items() if name in DECIDED)
    return (
        f"{HEAD}\n# ---- The server\n\n{own}\n"
        f"# ---- Paths inside the container: mount what you name here\n\n{paths}\n"
        f"# ---- Decided by compose.yaml and compose.keys.yaml; a value here has no effect\n\n{decided}"
    )


def _lines(name: str, info: FieldInfo) -> str:
    text = textwrap.fill(info.description or "", 120, initial_indent="# ", subsequent_indent="# ")
    return f"{text}\n#MTLORA_{name.upper()}={_default(info)}\n"


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None or info.default is None:
        return ""
    return str(info.default).lower() if isinstance(info.default, bool) else str(info.default)


if __name__ == "__main__":
    TARGET.write_text(env_example())
