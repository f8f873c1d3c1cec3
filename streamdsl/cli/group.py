"""Groups of commands: they suggest what was meant, and take ``-A`` behind a command as well as in front of it."""

from __future__ import annotations

from typing import Any

import click

from streamdsl.errors import ConfigError
from streamdsl.schema import nearest

__all__ = ["Group", "app_option", "with_app_option"]

_HELP = "module:topology or path/to/file.py:topology; the attribute is `topology` unless you say another."


class Group(click.Group):
    """A group that names the nearest command where there is none of that name."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            near = nearest(name, known)
            meant = f" Did you mean {near!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{meant} Commands: {', '.join(known)}")
        return super().resolve_command(ctx, args)


def app_option(*, inner: bool) -> Any:
    """Return the option ``-A``; `inner`: of a command, beside that in front of all commands."""
    return click.Option(
        ["-A", "--app", "target"],
        metavar="TOPOLOGY",
        envvar=None if inner else "STREAMDSL_APP",
        expose_value=not inner,
        callback=_take if inner else None,
        help=_HELP if not inner else "The same as in front of the command.",
    )


def with_app_option(command: click.Command) -> click.Command:
    """Give a command, and those below it, the option ``-A``."""
    if not any("-A" in option.opts for option in command.params):
        command.params.append(app_option(inner=True))
    if isinstance(command, click.Group):
        for each in command.commands.values():
            with_app_option(each)
    return command


def _take(ctx: click.Context, option: click.Parameter, target: str | None) -> None:
    if target is None:
        return
    source = ctx.find_root().get_parameter_source("target")
    if ctx.obj is not None and ctx.obj != target and source is not click.core.ParameterSource.ENVIRONMENT:
        raise ConfigError(f"-A was given twice: {ctx.obj} and {target}", remedy="give it once")
    ctx.obj = target
