"""The job file: every key known, every number bounded, contradictions named in one line."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import UsageError
from meshd.core.jobspec import (
    JobSpec,
    TrainingSpec,
    canonical_json,
    parse_json,
    parse_spec,
    parse_toml,
)

WRONG = {
    'nam = "x"': "nam: unknown key",
    'name = "X"': "name: needs",
    'name = ""': "name: needs",
    "name = 3": "name: needs",
    'name = "x"\n[network]\nwdth = 3': "network.wdth: unknown key",
    'name = "x"\n[network]\nwidth = 7': "network.width: 7 is out of bounds, 8 to 16384",
    'name = "x"\n[network]\nwidth = 64.0': "network.width: must be a whole number",
    'name = "x"\n[network]\nwidth = true': "network.width: must be a whole number",
    'name = "x"\n[network]\nbeta_w = 0': "network.beta_w: 0 is out of bounds",
    'name = "x"\n[network]\ncut = "1"': "network.cut: must be a number",
    'name = "x"\n[network]\ncut = nan': "network.cut: nan is out of bounds",
    'name = "x"\n[network]\npreset = "resnet"': "network.preset: must be one of seed",
    'name = "x"\nnetwork = 3': "network: must be a table",
    'name = "x"\n[training]\nlearning_rate = inf': "training.learning_rate: the number is out of",
    'name = "x"\n[training]\nepochs = -1': "training.epochs: -1 is out of bounds",
    'name = "x"\n[training]\nschedule = "cos"': "must be one of linear, constant, cosine, step",
    'name = "x"\n[exchange]\ngamma = 100': "exchange.gamma 100 must be a multiple of 64",
    'name = "x"\n[exchange]\nkind = "smoke"': "kind: must be one of votes, direct, onebit, float32",
    'name = "x"\n[mesh]\nmembers_min = 5\nmembers_max = 3': "members_min 5 is more than",
    'name = "x"\n[training]\nbatch = 2\n[mesh]\nmembers_min = 3': "training.batch 2 gives some",
    'name = "x" name = "y"': "not valid TOML",
    "name = " + "[" * 5000: "not valid TOML",
    "#" * 70_000: "larger than",
    'name = "x"\n[training]\nlearning_rate = ' + "9" * 400: "learning_rate: the number is out of",
    'name = "x"\n[training]\nepochs = ' + "9" * 5000: "not valid TOML",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:40].replace("\n", " "))
def test_wrong_files_are_one_line_that_names_the_key(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_toml(text)
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_defaults_are_valid_and_canonical_form_round_trips() -> None:
    spec = parse_toml('name = "x"')
    assert spec == JobSpec("x")
    assert parse_json(canonical_json(spec)) == spec


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
tables = st.dictionaries(
    st.sampled_from(["name", "network", "training", "exchange", "mesh", "else"]),
    json_values
    | st.dictionaries(st.sampled_from(["width", "batch", "gamma", "kind", "cut"]), json_values),
)


@given(tables)
def test_whatever_a_peer_sends_is_a_spec_or_a_usage_error(table: dict) -> None:
    try:
        spec = parse_spec(table)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert parse_json(canonical_json(spec)) == spec


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"name": NaN}', "[" * 60_000])
def test_broken_json_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_json(text)


def test_canonical_form_is_sorted_and_compact() -> None:
    text = canonical_json(parse_toml('name = "x"'))
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_the_documented_keys_are_the_keys() -> None:
    """docs/training.md: the table of [training], row by row."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (.*) \| (.*) \|$", text, re.MULTILINE)
    known = []
    for key in dataclasses.fields(TrainingSpec):
        about = key.metadata
        ends = f"{about.get('low')} to {about.get('high')}"
        allowed = ", ".join(about["choices"]) if "choices" in about else ends
        known.append((key.name, str(key.default), allowed, about["about"]))
    assert rows == known
