"""Three real daemons on loopback, and what tests ask of them; waits are bounded, and look whenever
the product's own watch prints a line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from meshd.cli.fleet import Desk, Fleet

PATIENCE_S = 120.0
CLI = "from meshd.cli.main import main; main()"  # what the installed `meshd` script does
SEED = 5


class Mesh:
    """A fleet whose machines trust and see each other."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder
        fleet.wait_until_ready()
        fleet.exchange_keys()
        for _ in fleet.wait_until_found():
            pass

    def desk(self, name: str) -> Desk:
        return next(desk for desk in self.fleet.desks if desk.name == name)

    def status(self, name: str = "desk-1") -> dict[str, Any]:
        return self.desk(name).settings.ask("status")

    def cli(self, *arguments: str, desk: str = "desk-1") -> subprocess.CompletedProcess[str]:
        """Run the installed command line as a user does."""
        state = str(self.desk(desk).settings.state)
        command = [sys.executable, "-c", CLI, "--state", state, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def submit(self, epochs: int, *lines: str, name: str = "job", least: int = 3) -> str:
        """Submit a small job on generated data that waits for `least` machines; returns its id."""
        job = self.folder / f"{name}.toml"
        job.write_text(
            f'name = "{name}"\n[network]\nwidth = 64\n[training]\nbatch = 24\nepochs = {epochs}\n'
            f"learning_rate = 1e-2\ncheckpoint_steps = 20\n[mesh]\nmembers_min = {least}\n"
            + "\n".join(lines)
        )
        done = self.cli("submit", str(job), "--data", str(self.data()))
        assert done.returncode == 0, done.stderr
        return next(j["job"] for j in self.status()["jobs"] if j["name"] == name)

    def data(self) -> Path:
        path = self.folder / "data.npz"
        if not path.exists():
            print(f"seed {SEED}")
            generator = np.random.default_rng(SEED)
            centres = generator.integers(40, 200, (4, 30))
            y = generator.integers(0, 4, 300)
            x = np.clip(centres[y] + generator.normal(0, 25, (300, 30)), 0, 255).astype(np.uint8)
            np.savez(path, x_train=x[:240], y_train=y[:240], x_test=x[240:], y_test=y[240:])
        return path

    def job(self, job: str, desk: str = "desk-1") -> dict[str, Any]:
        return next(j for j in self.status(desk)["jobs"] if j["job"] == job)

    def machine(self, name: str, desk: str = "desk-1") -> dict[str, Any]:
        return next(m for m in self.status(desk)["machines"] if m["name"] == name)

    def wait(self, what: Callable[[], Any], why: Callable[[], object], desk: str = "desk-1") -> Any:
        """Look again at every line of `meshd status --json --watch`; fail after PATIENCE_S.

        Raises:
            AssertionError: it did not come, or that desk's daemon ended first; with `why()`.
        """
        state = str(self.desk(desk).settings.state)
        command = [sys.executable, "-c", CLI, "--state", state, "status", "--json", "--watch"]
        deadline = time.monotonic() + PATIENCE_S
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
            try:
                assert watch.stdout is not None
                for _ in watch.stdout:
                    if answer := what():
                        return answer
                    assert time.monotonic() < deadline, why()
                raise AssertionError(f"{desk} answers no more: {why()}")
            finally:
                watch.kill()

    def wait_for(self, job: str, desk: str = "desk-1", **wanted: Any) -> dict[str, Any]:
        """Wait until a job's entry has these values; a callable is asked about the value."""

        def reached() -> dict[str, Any] | None:
            entry = self.job(job, desk)
            fits = all(
                want(entry[key]) if callable(want) else entry[key] == want
                for key, want in wanted.items()
            )
            return entry if fits else None

        return dict(self.wait(reached, lambda: (wanted, self.job(job, desk)), desk))

    def worker_of(self, name: str) -> psutil.Process:
        """The worker process of a daemon."""
        daemon = psutil.Process(self.desk(name).process.pid)

        def find() -> psutil.Process | None:
            for child in daemon.children(recursive=True):
                if "meshd.worker" in child.cmdline():
                    return child
            return None

        found: psutil.Process = self.wait(find, lambda: f"{name} has no worker")
        return found
