"""Every help text is pinned, so that no flag vanishes or changes its meaning unnoticed.

After a change that is wanted, `python -m tests.cli.test_help` writes the files anew; read the difference.
"""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from berth.cli.main import COMMANDS, LazyGroup
from berth.cli.roles import ROLES

FOLDER = Path(__file__).parent / "help"


def texts() -> dict[str, str]:
    """The help of every command, by the name of its file."""
    root = click.Context(
        LazyGroup(COMMANDS, ROLES), info_name="berth", max_content_width=100, terminal_width=100
    )
    return {ctx.command_path.replace(" ", "-") + ".txt": ctx.get_help() + "\n" for ctx in _commands(root)}


def _commands(ctx: click.Context) -> Iterator[click.Context]:
    yield ctx
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            assert command is not None
            yield from _commands(
                click.Context(command, parent=ctx, info_name=name, **command.context_settings)
            )


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.txt")))
def test_help_is_as_pinned(name: str):
    assert texts()[name] == (FOLDER / name).read_text()


def test_every_command_is_pinned():
    assert sorted(texts()) == sorted(path.name for path in FOLDER.glob("*.txt"))


if __name__ == "__main__":
    for old in FOLDER.glob("*.txt"):
        old.unlink()
    for file, text in texts().items():
        (FOLDER / file).write_text(text)
