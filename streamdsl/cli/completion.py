"""``streamdsl completion``: commands and options are completed by the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from streamdsl.cli.printing import echo

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for a shell.

    For bash: `streamdsl completion bash > ~/.local/share/bash-completion/completions/streamdsl`. For zsh:
    `eval "$(streamdsl completion zsh)"` in ~/.zshrc. For fish:
    `streamdsl completion fish > ~/.config/fish/completions/streamdsl.fish`.
    """
    from streamdsl.cli.app import app

    made = get_completion_class(shell)
    assert made is not None
    # As click does for _STREAMDSL_COMPLETE=bash_source; bash itself is not asked for its version.
    completion = made(app, {}, "streamdsl", "_STREAMDSL_COMPLETE")
    echo(completion.source_template % completion.source_vars())
