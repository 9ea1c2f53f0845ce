"""Completion of the `mtlora` command, as each shell asks for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MTLORA = Path(sys.executable).with_name("mtlora")
ASKED = {
    "bash": {"COMP_WORDS": "mtlora remote ro", "COMP_CWORD": "2"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "mtlora remote ro"},
    "fish": {"_TYPER_COMPLETE_ARGS": "mtlora remote ro", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}
CHECK = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


def mtlora(*arguments: str, **environment: str) -> str:
    finished = subprocess.run(
        [MTLORA, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("shell", ASKED)
def test_the_word_is_completed(shell: str) -> None:
    found = mtlora(_MTLORA_COMPLETE=f"complete_{shell}", **ASKED[shell])
    assert "rollback" in found
    assert "predict" not in found


@pytest.mark.parametrize("shell", ASKED)
def test_the_script_is_one_of_the_shell(shell: str, tmp_path: Path) -> None:
    script = mtlora(_MTLORA_COMPLETE=f"source_{shell}")
    assert "_MTLORA_COMPLETE" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: its script is not parsed")
    (tmp_path / "script").write_text(script)
    subprocess.run([*CHECK[shell], tmp_path / "script"], check=True, timeout=60)
