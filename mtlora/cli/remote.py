"""The command `mtlora remote`: a running server, asked over HTTP. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlora.cli.connection import UNAUTHORIZED, Server, adapter_names, with_server
from mtlora.cli.prelabels import AsOption, check_tool, maps_of_folder, write_for_tool
from mtlora.cli.pushing import file_to_push, name_for, playground_link
from mtlora.cli.say import say, say_json, say_text
from mtlora.vocabulary.errors import RefusedError, RemoteError
from mtlora.vocabulary.shown import shown

if TYPE_CHECKING:
    from mtlora.client import AdapterSet
    from mtlora.client.folder import FolderReport

remote = typer.Typer(help="Ask a running server: predict folders, manage adapter sets.", no_args_is_help=True)

CELL_CHARACTERS = 200

NameArgument = Annotated[str, typer.Argument(help="Adapter set's name.", autocompletion=adapter_names)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@remote.command()
@with_server
def predict(  # noqa: PLR0913 (a command's options)
    server: Server,
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders with photos at any depth.")],
    out: Annotated[Path, typer.Option(help="Folder for the maps: PHOTO.TASK.png, and PHOTO.json.")],
    adapter: Annotated[
        str, typer.Option(help="NAME or NAME@REVISION; default: the server's.", autocompletion=adapter_names)
    ] = "",
    tasks: Annotated[str, typer.Option(help="Comma list of tasks; default: all of the set.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Photos on their way at a time.")] = 4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict again what is there.")] = False,
    compute: Annotated[
        str, typer.Option(help="Share of the encoder that is computed: 0.6, 0.5-1, or auto; default: the server's.")
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Also PHOTO.computed.png: where something was computed.")
    ] = False,
    edges: Annotated[str, typer.Option(help="Of class maps: scores (default) or nearest.")] = "",
    size: Annotated[str, typer.Option(help="Of the maps: photo (default), model, or pixels of the longer side.")] = "",
    masks: Annotated[
        str, typer.Option(help="Into PHOTO.json, for every class: rle (run lengths) or polygons (outlines).")
    ] = "",
    tiles: Annotated[
        str, typer.Option(help="Cut photos in overlapping tiles: auto, or rows x columns such as 2x3.")
    ] = "",
    deadline_ms: Annotated[
        int | None, typer.Option(min=1, help="The server gives a photo up after so long; default: its own limit.")
    ] = None,
    tool: AsOption = "",
) -> None:
    """Predict the maps of photos on the server. Run it again to go on: what is there is skipped."""
    import asyncio

    from mtlora.cli.progress import bar
    from mtlora.client.folder import Wanted, find_photos, predict_folder

    check_tool(tool)
    sources = find_photos(photos, out)
    wanted = Wanted.make(
        out, tasks, adapter, overwrite=overwrite, masks=masks, explain=explain,
        compute=compute, edges=edges, size=size, tiles=tiles, deadline_ms=deadline_ms,
    )  # fmt: skip

    async def work() -> "FolderReport":
        async with server.async_client(concurrency) as client:
            with bar("predict") as progress:
                return await predict_folder(client, sources, wanted, concurrency=concurrency, progress=progress)

    report = asyncio.run(work())
    for photo, reason in sorted(report.failed.items()):
        say_text(f"{shown(photo)}: {reason}", err=True)
    say(_summary(report, out))
    if tool:
        write_for_tool(tool, maps_of_folder(sources, wanted, report), out)
    if report.failed:
        raise typer.Exit(1)


@remote.command()
@with_server
def push(
    server: Server,
    files: Annotated[
        list[str], typer.Argument(help="Adapter files (.safetensors), folders of runs, or hf://ORG/REPO/FILE.")
    ],
    name: Annotated[str, typer.Option(help="Name of the set; default: the one the file carries.")] = "",
    activate: Annotated[bool, typer.Option(help="Make it the current revision.")] = True,
) -> None:
    """Upload adapter files; the server checks each and says everything that is wrong with it.

    Of a run's folder its best set is uploaded, under the name it carries or else the folder's.
    """
    if name and len(files) > 1:
        raise RemoteError(f"--name names one set, got {len(files)} files")
    with server.client() as client:
        for source in files:
            file = file_to_push(source)
            try:
                pushed = client.push(file, name or name_for(source, file), activate=activate)
            except RefusedError as error:
                if error.status == UNAUTHORIZED:
                    raise
                raise RemoteError(f"{shown(file)}: {error}") from error
            found = pushed.adapter
            what = "new" if pushed.created else "there already"
            current = "current" if pushed.revision == found.current else f"current is {found.current}"
            say(f"{found.name}@{pushed.revision}: {what}, {current}; {', '.join(found.tasks)}")
            say(playground_link(server.url, found.name if activate else f"{found.name}@{pushed.revision}"))


@remote.command(name="list")
@with_server
def list_sets(server: Server, as_json: JsonOption = False) -> None:
    """Show the server's adapter sets: current revision, tasks, where they are, size."""
    with server.client() as client:
        found = client.adapters()
    if as_json:
        say_json(found.model_dump(mode="json"))
        return
    rows = [("SET", "REVISIONS", "TASKS", "WHERE", "SIZE", ""), *(_row(each) for each in found.adapters)]
    say(*_columns(rows))


@remote.command()
@with_server
def activate(
    server: Server, name: NameArgument, revision: Annotated[int, typer.Argument(min=1, help="Revision's number.")]
) -> None:
    """Make a revision the current one, forward or back; requests under way finish on the old one."""
    with server.client() as client:
        found = client.activate(name, revision)
    say(f"{found.name}@{found.current} is current")


@remote.command()
@with_server
def rollback(server: Server, name: NameArgument) -> None:
    """Go back to the newest revision that is older than the current one."""
    with server.client() as client:
        before = client.adapter(name)
        target = before.before()
        if target is None:
            numbers = ", ".join(str(r.revision) for r in before.revisions)
            raise RemoteError(
                f"{name}@{before.current} is the oldest revision there is ({numbers}): nothing to go back to"
            )
        found = client.activate(name, target)
    say(f"{found.name}@{found.current} is current, was {before.current}")


@remote.command()
@with_server
def pin(server: Server, name: NameArgument) -> None:
    """Keep a set in memory whatever else is asked for."""
    with server.client() as client:
        found = client.pin(name)
    say(f"{found.name} is pinned, in {found.tier} memory")


@remote.command()
@with_server
def unpin(server: Server, name: NameArgument) -> None:
    """Let a set be evicted again."""
    with server.client() as client:
        found = client.unpin(name)
    say(f"{found.name} is no longer pinned")


@remote.command()
@with_server
def delete(
    server: Server,
    name: NameArgument,
    revision: Annotated[int | None, typer.Option(min=1, help="Only this revision.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a set with all its revisions, or one revision. There is no way back."""
    what = name if revision is None else f"{name}@{revision}"
    if not yes:
        typer.confirm(f"Delete {shown(what)} from {shown(server.url)}?", abort=True)
    with server.client() as client:
        client.delete(name, revision)
    say(f"{what} is deleted")


@remote.command()
@with_server
def status(server: Server, as_json: JsonOption = False) -> None:
    """Say whether the server takes requests, and what it waits for; exit status 1 if it is not ready."""
    with server.client() as client:
        found = client.status()
    if as_json:
        say_json(found.model_dump(mode="json"))
    else:
        say(f"{server.url}: {found.status}")
        say(*(f"  waiting for: {reason}" for reason in found.waiting_for))
        say(*(f"  pinned, but not in memory: {missing.adapter}: {missing.reason}" for missing in found.missing))
        say(*([f"  sets cannot be changed: {found.store}"] if found.store else []))
    if not found.ready:
        raise typer.Exit(1)


def _row(found: "AdapterSet") -> tuple[str, ...]:
    others = ", ".join(str(r.revision) for r in found.revisions if not r.current)
    revisions = f"{found.current} ({others})" if others else str(found.current)
    marks = [word for word in ("default", "bundled", "pinned") if getattr(found, word)]
    if found.status != "ready":
        marks.append(f"{found.status}: {found.reason}" if found.reason else found.status)
    return found.name, revisions, ",".join(found.tasks), found.tier, f"{found.bytes / 1e6:.1f} MB", ", ".join(marks)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells below each other; what a cell says is made fit to be shown first, for its width to be right."""
    rows = [[shown(cell, CELL_CHARACTERS) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _summary(report: "FolderReport", out: Path) -> str:
    parts = [f"{report.predicted} predicted", f"{report.already_there} already there", f"{len(report.failed)} failed"]
    by = ", ".join(f"{adapter} ({count})" for adapter, count in sorted(report.answered_by.items()))
    return f"{out}: {', '.join(parts)}{f'; answered by {by}' if by else ''}"
