"""[network] tables: round trips, bounds, and whatever a forged file may hold."""

from __future__ import annotations

import dataclasses
import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.errors import UsageError
from meshd.core.jobspec import canonical_json, parse_json, parse_toml
from meshd.core.network.layers import KINDS, MAX_DEPTH, MAX_LAYERS, layer_table, parse_layers
from meshd.core.network.spec import (
    MAX_INPUT,
    NetworkDescription,
    NetworkSpec,
    describe,
    network_table,
    parse_description,
    parse_network,
)


def values_of(spec: dataclasses.Field) -> st.SearchStrategy:
    """Every value that a field's bounds or choices allow."""
    if "choices" in spec.metadata:
        return st.sampled_from(spec.metadata["choices"])
    if "flag" in spec.metadata:
        return st.booleans()
    low, high = spec.metadata["low"], spec.metadata["high"]
    if isinstance(spec.default, int):
        return st.integers(low, high)
    return st.floats(low, high) | st.just(low) | st.just(high)


def settings_of(kind: type) -> dict[str, st.SearchStrategy]:
    return {f.name: values_of(f) for f in dataclasses.fields(kind) if f.metadata}


def tables_of(kind: str) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries({"layer": st.just(kind)}, optional=settings_of(KINDS[kind]))


def residuals(inner: st.SearchStrategy[dict]) -> st.SearchStrategy[dict]:
    part = st.lists(inner, max_size=2)
    optional = {"body": part, "shortcut": part}
    return st.fixed_dictionaries({"layer": st.just("residual")}, optional=optional)


simple = st.sampled_from(sorted(KINDS.keys() - {"residual"})).flatmap(tables_of)
layer_lists = st.lists(st.recursive(simple, residuals, max_leaves=4), min_size=1, max_size=4)
shared = {key: s for key, s in settings_of(NetworkSpec).items() if key.startswith(("beta", "cut"))}
networks = st.fixed_dictionaries({"layers": layer_lists}, optional=shared) | st.fixed_dictionaries(
    {},
    optional={
        **shared,
        "preset": st.sampled_from(["seed", "lenet", "nin", "alexnet", "resnet18", "convnet"]),
        "width": st.just(0) | st.integers(8, 16384),
        "first": st.sampled_from(["dense", "binary"]),
    },
)
shapes = st.tuples(st.integers(1, 5000)) | st.tuples(*[st.integers(1, 200)] * 3)


@settings(deadline=None)
@given(networks, shapes, st.integers(1, 65_536))
def test_a_description_survives_its_table_and_json(table, shape, classes):
    description = NetworkDescription(parse_network(table), shape, classes)
    written = describe(description)
    assert parse_description(written) == description
    assert parse_description(json.loads(json.dumps(written, allow_nan=False))) == description
    assert describe(parse_description(written)) == written


@settings(deadline=None)
@given(networks)
def test_a_job_file_survives_its_canonical_form(table):
    text = 'name = "x"\n[network]\n' + "".join(f"{k} = {toml(v)}\n" for k, v in table.items())
    assert tomllib.loads(text)["network"] == table
    spec = parse_toml(text)
    assert spec.network == parse_network(table)
    again = parse_json(canonical_json(spec))
    assert again == spec
    assert canonical_json(again) == canonical_json(spec)


def toml(value: object) -> str:
    """A value as TOML writes it, inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(value)


def test_a_layers_table_says_only_what_is_not_a_default():
    tables = [{"layer": "conv", "out": 3, "kernel": 3, "bias": False}, {"layer": "residual"}]
    assert [layer_table(layer) for layer in parse_layers(tables, "layers")] == [
        {"layer": "conv", "out": 3},
        {"layer": "residual", "body": [], "shortcut": []},
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
forged_layers = st.lists(
    json_values
    | st.fixed_dictionaries(
        {"layer": st.sampled_from(sorted(KINDS)) | json_values},
        optional={
            k: json_values for k in ("out", "kernel", "body", "shortcut", "cut", "bias", "x")
        },
    ),
    max_size=3,
)
forged = st.fixed_dictionaries(
    {},
    optional={
        "network": json_values
        | st.fixed_dictionaries(
            {}, optional={"preset": json_values, "layers": forged_layers, "width": json_values}
        ),
        "input": json_values | st.lists(st.integers(-1, 2**40), max_size=4),
        "classes": json_values,
        "more": json_values,
    },
)


@settings(deadline=None, max_examples=60)
@given(forged | json_values)
def test_a_forged_description_is_one_or_a_usage_error(table):
    try:
        description = parse_description(table)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert parse_description(describe(description)) == description


def edges() -> list[tuple[str, str, object]]:
    """One value past each bound of each number of each layer."""
    found: list[tuple[str, str, object]] = []
    for name, kind in KINDS.items():
        for spec in dataclasses.fields(kind):
            if "high" in spec.metadata:
                low, high = spec.metadata["low"], spec.metadata["high"]
                found += [(name, spec.name, low - 1), (name, spec.name, high + 1)]
                found += [(name, spec.name, True), (name, spec.name, "1"), (name, spec.name, None)]
            elif spec.metadata:
                found += [(name, spec.name, "neither"), (name, spec.name, 1)]
    return found


def test_every_bound_of_every_layer_is_kept_and_named():
    assert len(edges()) > 100
    for name, key, value in edges():
        with pytest.raises(UsageError) as caught:
            parse_layers([{"layer": name, key: value}], "network.layers")
        assert f"network.layers[0].{key}: " in str(caught.value)
        assert "\n" not in str(caught.value)


WRONG = {
    "layers = 3": "network.layers: must be a list of tables",
    "layers = []": "give either a preset or network.layers",
    'preset = "layers"': "give either a preset or network.layers",
    'preset = "seed"\nlayers = [{ layer = "linear" }]': "give either a preset or network.layers",
    "layers = [{ out = 3 }]": "network.layers[0].layer: must be one of linear, hadamard_linear",
    'layers = [{ layer = "lineal" }]': "network.layers[0].layer: must be one of",
    'layers = [{ layer = "linear", kernel = 3 }]': "network.layers[0].kernel: unknown key",
    'layers = [{ layer = "residual", out = 3 }]': "network.layers[0].out: unknown key",
    'layers = [{ layer = "residual", body = 3 }]': "network.layers[0].body: must be a list",
    'layers = [{ layer = "linear", beta_w = 2 }]': "network.layers[0].beta_w: unknown key",
    'layers = [{ layer = "linear" }]\nwidth = 64': "width and first are a preset's",
    'layers = [{ layer = "linear" }]\nfirst = "binary"': "width and first are a preset's",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_networks_are_one_line_that_names_the_key(text):
    with pytest.raises(UsageError) as caught:
        parse_toml(f'name = "x"\n[network]\n{text}')
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def nested(depth: int) -> dict:
    table: dict = {"layer": "ramp"}
    for _ in range(depth):
        table = {"layer": "residual", "body": [table]}
    return table


def test_depth_and_number_of_layers_are_bounded():
    assert parse_layers([nested(MAX_DEPTH)], "layers")
    with pytest.raises(UsageError, match="residuals within residuals"):
        parse_layers([nested(MAX_DEPTH + 1)], "layers")
    half = [{"layer": "ramp"}] * (MAX_LAYERS // 2)
    with pytest.raises(UsageError, match=f"{MAX_LAYERS + 1} layers, at most {MAX_LAYERS}"):
        parse_layers([{"layer": "residual", "body": half, "shortcut": half}], "layers")
    with pytest.raises(UsageError, match="residuals within"):
        parse_layers([nested(500)], "layers")


@pytest.mark.parametrize(
    ("shape", "classes", "sentence"),
    [
        ((), 3, "input's shape"),
        ((3, 4), 3, "input's shape"),
        ((3, 4, 5, 6), 3, "input's shape"),
        ((0,), 3, "input's shape"),
        ((True,), 3, "input's shape"),
        ((3.0,), 3, "input's shape"),
        ("784", 3, "input's shape"),
        ((MAX_INPUT + 1,), 3, "input's shape"),
        ((3, 1 << 12, 1 << 12), 3, "a sample of 50331648 numbers"),
        ((5,), 0, "classes must be 1 to"),
        ((5,), True, "classes must be 1 to"),
        ((5,), 65_537, "classes must be 1 to"),
        ((5,), "3", "classes must be 1 to"),
    ],
)
def test_input_and_classes_are_bounded(shape, classes, sentence):
    table = {"network": network_table(NetworkSpec()), "input": shape, "classes": classes}
    with pytest.raises(UsageError, match=sentence):
        parse_description(table)
