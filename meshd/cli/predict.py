"""`meshd predict`: what a model says about the test part of a data set, or about images.

Law: numpy and the kernels are loaded when the command runs; torch never is.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshd.cli.figures import count_text, percent_text, printable

if TYPE_CHECKING:
    from meshd.data.dataset import Dataset
    from meshd.data.pictures import Pictures
    from meshd.hbnn.runtime import Model, Outcome

MOST_CELLS = 20  # classes of a confusion table; more do not fit beside each other
MOST_LINES = 20  # of mistakes, and of single images
NAME_WIDTH = 14
NO_LABEL = ""


@click.command(help="Predict the test part of DATA, or images, with MODEL; torch is not needed.")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("data", metavar="DATA")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write every prediction to FILE.csv or FILE.json.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1 << 16),
    default=512,
    show_default=True,
    help="Samples that are made ready at a time.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Cores to use.  [default: all that this process may use]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: Path, data: str, out: Path | None, batch: int, threads: int | None, as_json: bool
) -> None:
    """Accuracy and confusion table where DATA has labels, else how many samples each class got."""
    writer = _writer(out)
    threads = threads or len(os.sched_getaffinity(0))
    limit_blas(threads)
    refuse_missing_libraries()
    from meshd.hbnn.runtime import evaluate, load

    ready = load(open_model(model), threads=threads)
    names, samples, labels = _samples(data)
    refuse_other_shape(ready, samples)
    began = time.perf_counter()
    outcome = evaluate(ready, samples.x_test, samples.fill_rows, labels, batch)
    seconds = time.perf_counter() - began
    classes = _class_names(ready, samples)
    if out is not None:
        from meshd.cli.files import opened_output

        with opened_output(out) as write:
            write(writer(outcome, classes, names).encode())
    if as_json:
        click.echo(json.dumps(_report(outcome, classes, seconds)))
        return
    for line in outcome_lines(outcome, classes, names):
        click.echo(line)


def limit_blas(threads: int) -> None:
    """Before numpy is loaded: its BLAS takes memory for each thread that it may use."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))


def refuse_missing_libraries() -> None:
    """Look for the libraries without loading them.

    Raises:
        NotConfiguredError: names what is missing and how to install it.
    """
    import importlib.util

    from meshd.net.local import NotConfiguredError

    missing = [n for n in ("numpy", "safetensors") if importlib.util.find_spec(n) is None]
    if missing:
        raise NotConfiguredError(
            f"models need {', '.join(missing)}; install: pip install 'meshd[predict]'"
        )


def open_model(path: Path) -> Path:
    """Say what is wrong with a model's path before it is read.

    Raises:
        UsageError, PermissionRefusedError, FailureError: one line.
    """
    from meshd.cli.files import open_data

    file, _ = open_data(path, "model")
    file.close()
    return path


def _samples(data: str) -> tuple[list[str], Dataset | Pictures, Any]:
    """Names of single images or none, the samples, and their labels or None."""
    from meshd.data.load import load_dataset
    from meshd.data.pictures import are_pictures, load_pictures

    if are_pictures(data):
        pictures = load_pictures(data)
        return list(pictures.names), pictures, None
    samples = load_dataset(data, part="test", scale=1.0)  # the model has the scale
    return [], samples, samples.y_test


def refuse_other_shape(model: Model, samples: Dataset | Pictures) -> None:
    """A model of flat samples takes images that have as many numbers.

    Raises:
        UsageError: another shape.
    """
    from meshd.net.local import UsageError

    wanted, found = model.network.description.input, samples.input_shape
    if wanted != found and (len(wanted) == 3 or wanted != (samples.inputs,)):
        raise UsageError(f"the data's samples are {found}, the model takes {wanted}")


def _class_names(model: Model, samples: Dataset | Pictures) -> list[str]:
    """The model's own, else the data's, else numbers."""
    known = model.class_names or samples.class_names
    names = [printable(name) for name in known]
    return [*names, *map(str, range(len(names), model.classes))][: model.classes]


def _report(outcome: Outcome, classes: list[str], seconds: float) -> dict[str, Any]:
    report: dict[str, Any] = {
        "samples": len(outcome.predicted),
        "class_names": classes,
        "counts": outcome.counts(),
        "seconds": round(seconds, 6),
    }
    if outcome.labels is not None:
        report["correct"] = outcome.correct
        report["accuracy"] = outcome.correct / len(outcome.predicted)
        report["confusion"] = outcome.confusion()
    return report


def outcome_lines(outcome: Outcome, classes: list[str], names: list[str]) -> list[str]:
    """What a person reads."""
    if outcome.labels is None:
        return [*_single_lines(outcome, classes, names), *_count_lines(outcome, classes)]
    total = len(outcome.predicted)
    share = percent_text(outcome.correct / total)
    lines = [f"accuracy {share}: {outcome.correct} of {count_text(total, 'sample')}"]
    table = outcome.confusion()
    if len(classes) <= MOST_CELLS:
        return [*lines, "", *_table_lines(table, classes)]
    return [*lines, "", *_mistake_lines(table, classes)]


def _table_lines(table: list[list[int]], classes: list[str]) -> list[str]:
    """Rows: labels; columns: predicted classes, by number."""
    width = max(len(str(cell)) for row in table for cell in [*row, len(classes)])
    first = min(NAME_WIDTH, max(map(len, classes)))
    number = len(str(len(classes) - 1))
    head = " ".join(f"{i:>{width}}" for i in range(len(classes)))
    lines = [f"{'label':<{first + number + 1}}  {head}  right"]
    for i, row in enumerate(table):
        cells = " ".join(f"{cell or '.':>{width}}" for cell in row)
        right = percent_text(row[i] / sum(row)) if sum(row) else "-"
        lines.append(f"{i:>{number}} {classes[i][:first]:<{first}}  {cells}  {right:>7}")
    return lines


def _mistake_lines(table: list[list[int]], classes: list[str]) -> list[str]:
    """The most frequent mistakes."""
    mistakes = [
        (cell, i, j) for i, row in enumerate(table) for j, cell in enumerate(row) if i != j and cell
    ]
    mistakes.sort(key=lambda one: (-one[0], one[1:]))
    return [
        f"{cell:>6} {classes[i]} taken for {classes[j]}" for cell, i, j in mistakes[:MOST_LINES]
    ]


def _single_lines(outcome: Outcome, classes: list[str], names: list[str]) -> list[str]:
    if len(names) > MOST_LINES:
        return []
    width = max(map(len, names), default=0)
    return [
        f"{printable(name):<{width}}  {classes[given]}"
        for name, given in zip(names, outcome.predicted.tolist(), strict=True)
    ]


def _count_lines(outcome: Outcome, classes: list[str]) -> list[str]:
    if len(outcome.predicted) == 1:
        return []
    counts = [(count, i) for i, count in enumerate(outcome.counts()) if count]
    counts.sort(key=lambda one: (-one[0], one[1]))
    return [f"{count:>8} {classes[i]}" for count, i in counts[:MOST_LINES]]


def _writer(out: Path | None) -> Any:
    """How predictions become text, by the name of the file."""
    if out is None or out.suffix.lower() == ".csv":
        return _csv
    if out.suffix.lower() == ".json":
        return _json
    from meshd.net.local import UsageError

    raise UsageError(f"--out {out}: the name must end in .csv or .json")


def _rows(outcome: Outcome, classes: list[str], names: list[str]) -> list[dict[str, Any]]:
    labels = None if outcome.labels is None else outcome.labels.tolist()
    rows = []
    for i, given in enumerate(outcome.predicted.tolist()):
        row = {"sample": names[i] if names else i, "class": given, "name": classes[given]}
        if labels is not None:
            row["label"] = labels[i]
        rows.append(row)
    return rows


def _json(outcome: Outcome, classes: list[str], names: list[str]) -> str:
    return json.dumps(_rows(outcome, classes, names)) + "\n"


def _csv(outcome: Outcome, classes: list[str], names: list[str]) -> str:
    import csv
    import io

    text = io.StringIO()
    columns = ["sample", "class", "name", *(["label"] if outcome.labels is not None else [])]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(outcome, classes, names))
    return text.getvalue()
