"""`meshd demo --json`, as a user runs it: accuracy, agreement and bytes, whatever the time."""

from __future__ import annotations

import json
import subprocess
import sys

PATIENCE_S = 600.0
CLI = "from meshd.cli.main import main; main()"


def test_demo_learns_agrees_and_sends_a_tenth() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLI, "demo", "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert set(result) == {
        "members",
        "epochs",
        "accuracy",
        "accuracy_float32_exchange",
        "seconds",
        "bytes_sent_per_member",
        "bytes_float32_ring",
        "weight_hashes",
    }
    assert result["accuracy"] >= 0.95
    assert abs(result["accuracy"] - result["accuracy_float32_exchange"]) <= 0.01
    assert len(result["weight_hashes"]) == 3 and len(set(result["weight_hashes"])) == 1
    for sent in result["bytes_sent_per_member"]:
        assert 10 * sent <= result["bytes_float32_ring"]
