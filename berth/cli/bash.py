"""How bash asks for a completion: it takes `--flag=val` apart at the sign, and completes `val` alone."""

from click.shell_completion import BashComplete, add_completion_class


@add_completion_class
class Bash(BashComplete):
    """Click's own, but that the sign is no word of the line."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return [arg for arg in args if arg != "="], incomplete
