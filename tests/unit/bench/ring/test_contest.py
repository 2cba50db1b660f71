"""`meshd bench ring` on the loopback, which needs no root: real members, real links, real Gloo."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from meshd.bench.ring import run
from meshd.bench.ring.contestant import WIDTH, whole_rows
from meshd.bench.ring.crew import Crew, Turn
from meshd.bench.ring.exchange import binary_network
from meshd.bench.ring.hosts import hosts_for
from meshd.cli.bench_ring import EXCHANGES
from meshd.cli.bench_ring_report import report_lines
from meshd.cli.main import run as meshd
from meshd.core.errors import FailureError
from meshd.core.network.graph import resolve

NO_ROOT = "a lab needs root: it makes network namespaces"


@pytest.fixture
def without_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "unavailable", lambda: NO_ROOT)


def test_a_whole_run(without_lab: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--members", "2", "--params", "30000", "--rounds", "1", "--gamma", "128", "--json"]
    assert meshd(["bench", "ring", *words]) == 0
    out, err = capsys.readouterr()
    assert NO_ROOT in " ".join(err.split())
    report = json.loads(out)
    assert [one["exchange"] for one in report["results"]] == list(EXCHANGES)
    row = report["results"][0]
    assert list(row) == [
        *("exchange", "members", "params", "rate_mbit", "seconds", "bits_per_param"),
        *("link_share", "gloo_float32_seconds", "gloo_float16_seconds"),
    ]
    assert (row["exchange"], row["members"], row["params"]) == ("votes", 2, 30 * WIDTH)
    assert (row["rate_mbit"], row["link_share"]) == (None, None)
    assert all(row[key] > 0 for key in ("seconds", "gloo_float32_seconds", "gloo_float16_seconds"))
    # Half of the bits one way, half of the weights the other: no less can have been sent.
    assert all(one["bits_per_param"] > 1 for one in report["results"])
    assert report["network"] == {"kind": "loopback", "why": NO_ROOT}
    assert [one["link"] for one in report["ceilings"]] == ["tcp", "curve"]
    shown = [line.plain for line in report_lines(report, None)]
    assert any(line.startswith("votes     2  -     ") for line in shown)


def test_a_member_that_ends_is_named_with_its_last_word(tmp_path: Path) -> None:
    with hosts_for(2, None) as hosts:
        crew = Crew(hosts, WIDTH, 64, tmp_path)
        try:
            with pytest.raises(FailureError, match=r"member 0 ended: .*KeyError: 'nonsense'"):
                crew.turn("nonsense")
        finally:
            crew.close()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rate", "fast"], "no rate"),
        (["--gamma", "100"], "multiple of 64"),
        (["--members", "1"], "--members"),
        (["--exchange", "shout"], "--exchange"),
    ],
)
def test_a_mistake_is_said_before_anything_starts(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert meshd(["bench", "ring", *words]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize("params", [1, 1024, 30_000, 1 << 20, 10_000_000])
def test_the_network_has_all_parameters_and_binary_ones_only(params: int) -> None:
    found = resolve(binary_network(whole_rows(params))).parameters()
    assert sum(one.size for one in found) == whole_rows(params)
    assert all(one.beta > 0 for one in found)
    assert params <= whole_rows(params) < params + WIDTH


def test_shares_and_bits_are_those_of_the_best_turn_and_the_busiest_member() -> None:
    names = ("votes", "gloo_float32", "gloo_float16", "tcp", "curve")
    slow, fast = Turn(2.0, 1.0, [9_000_000, 9_000_000]), Turn(0.5, 0.25, [3_000_000, 5_000_000])
    held: Any = {name: [slow, fast] for name in names}
    settings = run.Settings(members=2, exchanges=("votes",))
    (row,) = run.rows(held, settings, 10_000_000, 100_000_000)
    assert row["seconds"] == 0.5
    assert math.isclose(row["bits_per_param"], 4.0)
    assert math.isclose(row["link_share"], 0.8)
    one, _ = run.ceiling_rows(held, 100_000_000)
    assert math.isclose(one["cpu_ns_per_byte"], 0.25e9 / 8_000_000)


def test_the_command_offers_what_can_be_measured() -> None:
    assert EXCHANGES == run.EXCHANGES
