"""The kernels and their binding under the address and undefined-behaviour sanitizers: any finding
ends the run with an error.

The kernels in their own test program, where every array is an allocation of exactly its size; the
binding in an interpreter that calls it with wrong arguments of every kind.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import native
import pytest

import meshd
from meshd.bits import ops

SEED = 20_261_123
HERE = Path(__file__).parent
# Leaks are not looked for in the interpreter: it gives back nothing at its end.
PYTHON_OPTIONS = "detect_leaks=0"


def sanitized() -> Path:
    """The test program; beside it lies the extension, where it can be built."""
    options = {"MESHD_SANITIZE": "ON", "MESHD_PYTHON": "OFF"}
    if importlib.util.find_spec("nanobind"):
        options |= {"MESHD_PYTHON": "ON", "Python_EXECUTABLE": sys.executable}
    return native.built("sanitized", **options)


def test_the_kernels_are_clean() -> None:
    reports = native.reports(native.run([sanitized(), "--seed", str(SEED)]))
    assert [report.isa for report in reports] == ops.list_isas()
    assert {report.digest for report in reports} == {native.native_digest(SEED)}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("behind", "heap-buffer-overflow"),
        ("before", "heap-buffer-overflow"),
        ("overflow", "signed integer overflow"),
    ],
)
def test_a_fault_is_an_error(fault: str, words: str) -> None:
    done = native.run([sanitized(), "--fault", fault])
    assert done.returncode != 0 and words in done.stderr


def python_with_sanitized_kernels(folder: Path, *arguments: str | Path) -> native.Done:
    """Run the interpreter in `folder`, on a copy of meshd.bits with the sanitizers' extension."""
    modules = sorted(sanitized().parent.glob("_kernels*.so"))
    if not modules:
        pytest.skip("nanobind is not installed: no build of the extension with sanitizers")
    package = folder / "meshd"
    if not package.exists():
        source = Path(meshd.__file__).parent
        shutil.copytree(source / "bits", package / "bits", ignore=shutil.ignore_patterns("*.so"))
        shutil.copy(source / "__init__.py", package)
        shutil.copy(modules[0], package / "bits")
    compiler = native.need("c++")
    runtimes = [
        native.output(compiler, f"-print-file-name={name}").strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return native.run(
        [sys.executable, *arguments],
        folder,
        LD_PRELOAD=os.pathsep.join(runtimes),
        ASAN_OPTIONS=PYTHON_OPTIONS,
        PYTHONPATH=os.pathsep.join([str(folder), *filter(None, sys.path)]),
    )


def test_the_binding_is_clean(tmp_path: Path) -> None:
    loaded = python_with_sanitized_kernels(
        tmp_path, "-c", "from meshd.bits import _kernels; print(_kernels.__file__)"
    )
    assert loaded.stdout.startswith(str(tmp_path)), loaded.stdout + loaded.stderr
    tests = [HERE / "test_arguments.py", HERE / "test_chance.py"]
    options = ["-q", "-p", "no:cacheprovider", "-c", native.ROOT / "pyproject.toml"]
    done = python_with_sanitized_kernels(tmp_path, "-m", "pytest", *options, *tests)
    assert done.returncode == 0, done.stdout + done.stderr
