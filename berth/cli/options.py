"""Declared options as click commands. The only place that knows both.

Click splits the command line and prints the help; values are read by `berth.config.load`, so that flags,
environment and file obey one rule and all problems are told at once. Beside click's spellings, Go's work too:
`-flag value`, `-flag=value`, `--flag=true`.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import click
from click.shell_completion import CompletionItem

from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.lazy import import_named
from berth.config import ConfigErrors, Option, load, options_of
from berth.config.render import help_line, metavar

T = TypeVar("T")

HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
_CONFIG = "config_file"


class _Text(click.ParamType):
    """A text that click does not judge; it only knows how a shell completes it."""

    name = "text"

    def __init__(self, option: Option) -> None:
        self._kind = option.kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        if self._kind.name == "path":
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(choice) for choice in self._kind.choices if choice.startswith(incomplete)]


class DeclaredOption(click.Option):
    """One declared option on a click command. Its value is the text given, None when there is none."""

    def __init__(self, option: Option, scope: str) -> None:
        # Click reads even a flag_value of None as a flag that may stand alone.
        alone: dict[str, Any] = {"is_flag": True, "flag_value": "true"} if option.kind.name == "bool" else {}
        super().__init__(
            [option.field, *option.flags],
            type=_Text(option),
            metavar=metavar(option),
            multiple=option.kind.repeated,
            hidden=option.opt.hidden,
            default=None,
            **alone,
        )
        self.option = option
        self._scope = scope

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return None if self.hidden else help_line(self.option, self._scope)


def click_options(cls: type, scope: str) -> list[DeclaredOption]:
    """The options of `cls` for a click command, its own before those that it inherits."""
    own_first = {
        field: depth
        for depth, base in reversed([*enumerate(cls.__mro__)])
        for field in vars(base).get("__annotations__", {})
    }
    return [
        DeclaredOption(option, scope)
        for option in sorted(options_of(cls), key=lambda option: own_first[option.field])
    ]


def flags_given(ctx: click.Context) -> dict[str, tuple[str, ...]]:
    """The texts that this command's part of the line gives, by field; what it does not mention is absent."""
    given: dict[str, tuple[str, ...]] = {}
    for param in ctx.command.params:
        if isinstance(param, DeclaredOption):
            value = ctx.params[param.option.field]
            texts = value if isinstance(value, tuple) else () if value is None else (value,)
            if texts:
                given[param.option.field] = texts
    return given


class GoStyle(click.Command):
    """A command (mix-in) that also understands the way Go's flags are written."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [param.option for param in self.params if isinstance(param, DeclaredOption)]
        plain, switches = _from_go(args, options, interspersed=ctx.allow_interspersed_args)
        rest = super().parse_args(ctx, plain)
        ctx.params.update(switches)
        return rest


def _from_go(
    args: Sequence[str], options: Iterable[Option], *, interspersed: bool
) -> tuple[list[str], dict[str, str]]:
    """`args` as click reads them, and by field the texts of the booleans, which click could not read.

    Walks the line as click will, so that the value of an option is never taken for a flag.
    """
    by_name = {flag: option for option in options for flag in option.flags}
    by_name |= {flag[1:]: option for flag, option in by_name.items() if flag.startswith("--")}
    plain: list[str] = []
    switches: dict[str, str] = {}
    walk = iter(args)
    for arg in walk:
        name, has_value, value = arg.partition("=")
        option = by_name.get(name)
        if arg == "--" or (not interspersed and not arg.startswith("-")):
            return [*plain, arg, *walk], switches
        elif option is None:
            plain.append(arg)
        elif option.kind.name == "bool":
            switches[option.field] = value if has_value else "true"
        elif has_value:
            plain.append(f"{option.flag}={value}")
        else:
            plain += [option.flag, *islice(walk, 1)]
    return plain, switches


class OptionsCommand(GoStyle, Generic[T]):
    """A command whose function gets its options loaded, after them the values of its arguments.

    What the function returns is the exit code, None being 0. It may be given by name, as `module:attribute`,
    and is then imported only to run.

    Under a role's scope it takes `--config FILE`; without one it is a client command, for which the groups
    above it may have been given options too.
    """

    def __init__(
        self,
        name: str,
        cls: type[T],
        run: Callable[..., int | None] | str,
        *,
        scope: str = "",
        arguments: Sequence[click.Argument] = (),
        summary: str,
    ) -> None:
        params: list[click.Parameter] = [*arguments, *click_options(cls, scope)]
        if scope:
            params.append(_config_option(scope))
        super().__init__(name, params=params, help=summary, context_settings=HELP_FLAGS)
        self.options_class = cls
        self._run = run
        self.scope = scope

    def invoke(self, ctx: click.Context) -> int | None:
        try:
            loaded = load(
                self.options_class,
                self.scope,
                flags=self._flags(ctx),
                env=os.environ,
                file=ctx.params.get(_CONFIG),
            )
        except ConfigErrors as fault:
            raise Failure(_all_problems(fault, ctx), ExitCode.USAGE) from None
        arguments = [
            ctx.params[str(param.name)] for param in self.params if isinstance(param, click.Argument)
        ]
        run = import_named(self._run) if isinstance(self._run, str) else self._run
        return run(loaded.options, *arguments)

    def _flags(self, ctx: click.Context) -> dict[str, tuple[str, ...]]:
        """What the line gives, before the command's name and after it; the later one counts."""
        above: dict[str, tuple[str, ...]] = {}
        group = ctx.parent
        while group is not None:
            above = flags_given(group) | above
            group = group.parent
        if above and self.scope:
            raise click.UsageError(
                f"options before {self.name!r} are for client commands; a role takes its own after its name",
                ctx,
            )
        return above | flags_given(ctx)


class OptionsGroup(GoStyle, click.Group):
    """A group of client commands; it takes their common options too, wherever people write them."""

    def __init__(self, name: str, cls: type, *, summary: str, commands: Sequence[click.Command] = ()) -> None:
        super().__init__(
            name,
            params=[*click_options(cls, "")],
            help=summary,
            commands=commands,
            context_settings=HELP_FLAGS,
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their declaration, the everyday ones first."""
        return list(self.commands)


def _config_option(scope: str) -> click.Option:
    return click.Option(
        [_CONFIG, "--config"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"TOML file; its table [{scope}] holds these options, dashes written as underscores",
    )


def _all_problems(fault: ConfigErrors, ctx: click.Context) -> str:
    if len(fault.problems) == 1:
        lines = fault.problems[0]
    else:
        lines = f"{len(fault.problems)} problems with the options\n" + "\n".join(
            f"  {problem}" for problem in fault.problems
        )
    return f"{lines}\nTry '{ctx.command_path} --help'."
