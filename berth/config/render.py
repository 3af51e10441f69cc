"""Declared options as text for people: lines of help, and a table for the manual."""

from collections.abc import Iterator

from berth.config.option import REQUIRED, Option, options_of


def help_line(option: Option, scope: str) -> tuple[str, str]:
    """What `--help` shows: the spellings with their metavar; the doc with variable and default."""
    spelling = ", ".join(option.flags)
    if option.kind.name != "bool":
        spelling = f"{spelling} {metavar(option)}"
    notes = "; ".join(_notes(option, scope))
    return spelling, f"{option.opt.doc}  [{notes}]" if notes else option.opt.doc


def metavar(option: Option) -> str:
    """The placeholder of the value: the choices, else as declared, else the kind."""
    return "|".join(option.kind.choices) or option.opt.metavar or option.kind.name.upper()


def markdown_table(cls: type, scope: str, *, but: type | None = None) -> str:
    """The options of a class as a Markdown table, one row each, without hidden ones and those of `but`.

    Empty when none are left. The client, whose scope is empty, has no column for a file.
    """
    elsewhere = {option.field for option in options_of(but)} if but else set[str]()
    shown = [option for option in options_of(cls) if not option.opt.hidden and option.field not in elsewhere]
    if not shown:
        return ""
    heading = ("Flag", "Environment", "TOML key", "Type", "Default", "Meaning")
    rows = [heading, ("---",) * len(heading), *(_row(option, scope) for option in shown)]
    columns = [column for column in range(len(heading)) if scope or heading[column] != "TOML key"]
    return "".join(f"| {' | '.join(row[column] for column in columns)} |\n" for row in rows)


def _row(option: Option, scope: str) -> tuple[str, ...]:
    default = default_text(option)
    elsewhere = not option.opt.flag_only
    cells = (
        ", ".join(f"`{flag}`" for flag in option.flags),
        f"`{option.env(scope)}`" if elsewhere else "",
        f"`{option.key}`" if elsewhere else "",
        _type_text(option),
        f"`{default}`" if default else "required" if option.default is REQUIRED else "",
        option.opt.doc + (" (applies on reload)" if option.opt.reloadable else ""),
    )
    return tuple(cell.replace("|", "\\|") for cell in cells)


def _type_text(option: Option) -> str:
    text = ", ".join(f"`{choice}`" for choice in option.kind.choices) or option.kind.name
    if option.opt.unit:
        text = f"{text} ({option.opt.unit})"
    return f"{text}, repeatable" if option.kind.repeated else text


def _notes(option: Option, scope: str) -> Iterator[str]:
    if option.kind.repeated:
        yield "repeatable"
    if not option.opt.flag_only:
        yield f"env: {option.env(scope)}"
    if option.default is REQUIRED:
        yield "required"
    elif default := default_text(option):
        yield f"default: {default}"


def default_text(option: Option) -> str:
    """The default as one would write it; empty when there is none to speak of."""
    default = option.default
    if default is REQUIRED or default is None or default is False or option.kind.name == "secret":
        return ""
    if option.kind.repeated:
        return ",".join(option.kind.show(item) for item in default)
    return option.kind.show(default)
