"""`berth completion SHELL`: prints the script that makes a shell complete berth's command line.

The script asks berth itself at each completion, so it never goes stale and knows every option that the chosen
command declares.
"""

import click
from click.shell_completion import get_completion_class

from berth.cli.exit_codes import Failure
from berth.cli.options import HELP_FLAGS

_ASK_VARIABLE = "_BERTH_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")


@click.command(context_settings=HELP_FLAGS)
@click.argument("shell", type=click.Choice(_SHELLS), metavar="|".join(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  source <(berth completion bash)
    zsh:   source <(berth completion zsh)
    fish:  berth completion fish | source
    """
    script = get_completion_class(shell)
    if script is None:
        raise Failure(f"no completion for {shell}")
    print(script(ctx.find_root().command, {}, "berth", _ASK_VARIABLE).source())
