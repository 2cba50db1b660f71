"""`meshd export`: a model as ONNX, for programs that know nothing of bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from meshd.cli.figures import bytes_text

PATH = click.Path(path_type=Path)


@click.command(help="Write MODEL as float32 ONNX to OUT.onnx.")
@click.argument("model", metavar="MODEL", type=PATH)
@click.argument("output", metavar="OUT.onnx", type=PATH)
def command(model: Path, output: Path) -> None:
    """The file is written whole or not at all."""
    from meshd.cli.predict import open_model, refuse_missing_libraries
    from meshd.net.local import NotConfiguredError, UsageError

    if output.suffix.lower() != ".onnx":
        raise UsageError(f"{output}: the name must end in .onnx")
    refuse_missing_libraries()
    if importlib.util.find_spec("onnx") is None:
        raise NotConfiguredError("ONNX needs onnx; install: pip install 'meshd[onnx]'")
    from meshd.cli.files import opened_output
    from meshd.hbnn.runtime.model_file import read_model
    from meshd.hbnn.runtime.onnx_graph import onnx_model

    content = onnx_model(*read_model(open_model(model))).SerializeToString()
    with opened_output(output) as write:
        write(content)
    click.echo(f"{bytes_text(len(content))} in {output}", err=True)
