"""`meshd`: the group of commands, and the one place where errors become a line and an exit code.

Law of this file: a command's module is imported when it is called, not before, so that
`meshd --help` stays as fast as Python itself.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130  # 128 + SIGINT, as a shell says it

try:
    import importlib
    import os
    from collections.abc import Sequence
    from pathlib import Path

    import click

    from meshd import __version__
    from meshd.cli.settings import Settings, default_state_folder

    FOLDER = click.Path(path_type=Path, file_okay=False)  # translates a word: loads more modules
except KeyboardInterrupt:  # most of a short command's time is spent here
    raise SystemExit(INTERRUPTED) from None

# Name -> what `meshd --help` says about it. The module of the same name holds `command`.
COMMANDS = {
    "run": "Run this machine's daemon in the foreground.",
    "key": "Show this machine's key, for others to trust.",
    "trust": "Put a machine's key on the roster.",
    "submit": "Start a training job on the mesh.",
    "status": "Show machines and jobs on one screen.",
    "logs": "Show a job's log.",
    "cancel": "End a job for good.",
    "resume": "Go on with a stopped job from its last checkpoint.",
    "fetch": "Save a finished job's model.",
    "train": "Train a job in this process, without a mesh.",
    "data": "Look into data sets, fetch known ones, convert them for jobs.",
    "predict": "Use a model on data or images, without torch.",
    "export": "Write a model as ONNX.",
    "demo": "Train on three daemons of this machine.",
    "bench": "Measure the kernels beside torch and the processor's limits.",
    "reproduce": "Try the project's claims, with tables and pictures.",
}

EPILOG = (
    "Exit codes: 0 ok, 1 failure, 2 usage, 4 no permission, 6 not configured, 7 no daemon runs,"
    " 130 interrupted."
)

USAGE = 2


class LazyGroup(click.Group):
    """A group that knows its commands by name and loads only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the command's module; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"meshd.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    name="meshd",
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"max_content_width": 100},
)
@click.option(
    "--state",
    metavar="DIR",
    envvar="MESHD_STATE",
    show_envvar=True,
    type=FOLDER,
    help="The daemon's folder: keys, roster, jobs.  [default: ~/.local/state/meshd]",
)
@click.version_option(__version__, message="meshd %(version)s")
@click.pass_context
def group(ctx: click.Context, state: Path | None) -> None:
    """Idle machines train Hadamard Binary Neural Networks together.

    Start with `meshd demo`, or on each machine with `meshd run`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)
    source = ctx.get_parameter_source("state")
    ctx.obj = Settings(
        state=state or default_state_folder(os.environ),
        explicit=source is click.core.ParameterSource.COMMANDLINE,
    )


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; only a defect of ours leaves as an exception."""
    try:
        code = group.main(args=list(arguments), prog_name="meshd", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.UsageError as error:
        context = f" (see: {error.ctx.command_path} --help)" if error.ctx else ""
        return complain(error.format_message() + context, error.exit_code)
    except click.ClickException as error:
        return complain(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        from meshd.net.local import MeshdError

        if not isinstance(error, MeshdError):
            raise
        return complain(str(error), int(error.exit_code))


def complain(message: str, code: int) -> int:
    """Say in one line on stderr what is wrong."""
    click.echo("meshd: " + " ".join(message.split()), err=True)
    return code


def main() -> None:
    """Entry point of the `meshd` program."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # a terminal without our signs shows "?"
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # outside of the command itself
        code = INTERRUPTED
    sys.exit(code)
