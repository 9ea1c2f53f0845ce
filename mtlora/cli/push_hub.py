"""The command `mtlora push-hub`: an adapter set with its model card, to the Hugging Face Hub. Needs the extra `hub`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from mtlora.cli.hub import REPO_NAME, SCHEME, hub_errors
from mtlora.cli.model_card import CARD_FILE, model_card, validation_scores
from mtlora.cli.pushing import RESULT, file_to_push
from mtlora.cli.say import say
from mtlora.vocabulary.errors import RemoteError
from mtlora.vocabulary.shown import shown


def push_hub(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or an adapter file (.safetensors).")],
    repo: Annotated[str, typer.Option(help="Repository on the Hub, ORG/NAME; made if it is not there.")],
    revision: Annotated[str, typer.Option(help="Branch that gets the files.")] = "main",
    private: Annotated[bool, typer.Option("--private", help="A new repository is seen by its owners only.")] = False,
    card: Annotated[
        Path | None, typer.Option(help="Model card of your own, Markdown; default: one is written.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the card, upload nothing.")] = False,
) -> None:
    """Upload a run's best set to the Hugging Face Hub, with a model card; the file is checked first.

    The token is the one `hf auth login` keeps, or HF_TOKEN. Nothing else of the run is uploaded.
    """
    from mtlora.weights.adapter_file import load_adapter

    if not re.fullmatch(REPO_NAME, repo):
        raise RemoteError(f"--repo must be ORG/NAME, got {shown(repo)}")
    file = file_to_push(str(run))
    checked = load_adapter(file)
    scores = validation_scores(file.parent, checked.manifest.provenance.get("steps"))
    source = f"{SCHEME}{repo}/{RESULT}"
    text = _text(card) if card else model_card(checked.manifest, digest=checked.digest, source=source, scores=scores)
    if dry_run:
        say(*text.splitlines())
        return
    say(f"{_upload(file, text, repo, revision, private)}: sha256 {checked.digest}")


def _text(card: Path) -> str:
    try:
        return card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RemoteError(f"cannot read the model card {shown(card)}: {error}") from error


def _upload(file: Path, card: str, repo: str, revision: str, private: bool) -> str:
    """Both files in one commit; where the set is then, with the commit."""
    with hub_errors(f"{SCHEME}{repo}"):
        from huggingface_hub import CommitOperationAdd, HfApi

        hub = HfApi(library_name="mtlora")
        hub.create_repo(repo, private=private or None, exist_ok=True)
        made = hub.create_commit(
            repo,
            operations=[CommitOperationAdd(RESULT, str(file)), CommitOperationAdd(CARD_FILE, card.encode())],
            commit_message=f"Adapter set of {file.stat().st_size / 1e6:.1f} MB and its card",
            revision=revision,
        )
        return f"{SCHEME}{repo}@{made.oid}/{RESULT}"
