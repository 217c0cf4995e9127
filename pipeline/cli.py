"""`photodrag`: a table of commands. Only the one that is asked for is imported, so that help comes at once."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Command:
    """Where a command's class is, and what it does in a line: the first of the class's docstring."""

    module: str  # in pipeline.commands
    name: str
    help: str


COMMANDS = {
    name: Command(*rest)
    for name, *rest in [
        (
            "edit",
            "edit",
            "Edit",
            "The whole way: a photo in, the same photo out with points dragged, or gestures made.",
        ),
        ("demo", "demo", "Demo", "Edits a photo that comes with the project: a smile, then a turn of the head."),
        ("web", "web", "Web", "The editor in the browser: drop a photo, drag its points with the mouse."),
        ("faces", "faces", "Faces", "Lists the faces in a photo and writes a picture with their numbers."),
        ("gesture", "gesture", "GestureCommand", "Shows what gestures would do, as points and a mask; edits nothing."),
        ("align", "stages", "Align", "First stage: takes a photo into a session folder and cuts out the face."),
        ("invert", "stages", "Invert", "Second stage: finds the face in the generator, then tunes it to the face."),
        (
            "drag",
            "stages",
            "Drag",
            "Third stage: drags points, or makes gestures. Run again, it goes on from the current edit.",
        ),
        (
            "export",
            "stages",
            "Export",
            "Last stage: writes the photo with the current edit in it, and with those of its other faces.",
        ),
        ("report", "report", "Report", "Writes a page with pictures, film and figures of an edit."),
        ("undo", "history", "Undo", "Back to the edit that the current one stands on; nothing is deleted."),
        ("redo", "history", "Redo", "Forward again, on the branch that was left last."),
        ("goto", "history", "Goto", "To any edit by its number, or to the photo."),
        ("history", "history", "Show", "Lists a session's edits as a tree and draws them side by side."),
        ("diff", "history", "Diff", "Says and shows what differs between two edits' results."),
        (
            "weights",
            "weights",
            "Weights",
            "Generators and other weights: lists, fetches, imports, verifies and removes them.",
        ),
    ]
}


def main() -> None:
    """Runs a command. A user's mistake is one line and exit status 1; Ctrl-C keeps what was done, status 130.

    Where nobody reads on, as in `photodrag weights list | head -2`, it ends without a word, status 141.
    """
    try:
        chosen(*sys.argv[1:])
        sys.stdout.flush()  # here, where it is known what to do when nobody reads it
    except KeyboardInterrupt:
        print("photodrag: stopped; what was done is kept in the session", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Who read this has had enough, as `head` has. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def chosen(name: str = "--help", *arguments: str) -> None:
    """Shows the overview, or runs the command of that name."""
    if name in ("-h", "--help", "help"):
        print(overview())
        return
    if name not in COMMANDS:
        sys.exit(f'photodrag: there is no command "{name}": it is one of {", ".join(COMMANDS)}')
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("PIL").setLevel(logging.WARNING)
    run(name, arguments)


def run(name: str, arguments: Sequence[str]) -> None:
    """Imports a command, reads its arguments and runs it; a user's mistake ends in one line."""
    import tyro

    from pipeline.commands.common import USER_ERRORS

    command: Any = tyro.cli(load(COMMANDS[name]), prog=f"photodrag {name}", args=arguments)
    try:
        command.run()
    except USER_ERRORS as error:
        sys.exit(f"photodrag: {error}")


def load(command: Command) -> Any:
    """The command's class."""
    return getattr(import_module(f"pipeline.commands.{command.module}"), command.name)


def overview() -> str:
    """What `photodrag --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "photodrag: drag points of a face in your photo, and get the same photo back, changed as asked.",
            "",
            "usage: photodrag COMMAND ...      (photodrag COMMAND --help says what each understands)",
            "",
            *lines,
            "",
            "To begin:  photodrag edit me.jpg --smile 0.6 -o out.jpg",
        ]
    )


if __name__ == "__main__":
    main()
