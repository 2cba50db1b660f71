"""Model files without torch: what is written is read; what is not whole is refused in one line."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from meshd.core.network.spec import NetworkSpec
from meshd.hbnn.runtime import ModelError
from meshd.hbnn.runtime.model_file import (
    Header,
    layout,
    model_bytes,
    read_model,
    stored_dense,
    weight_hash,
)

SCALE = float(np.float32(1 / 255))
NAMES = ("zero", "one", "two", "drei")


@pytest.fixture
def network(network_of):
    """Every kind of tensor: words with a last one that is not full, vectors, statistics."""
    tables = [
        {"layer": "hadamard_conv", "out": 6, "kernel": 3, "beta_a": 1, "beta_w": 99, "gain": True},
        {"layer": "batchnorm"},
        {"layer": "flatten"},
        {"layer": "hadamard_linear", "out": 7, "bias": True},
        {"layer": "linear", "bias": True},
    ]
    return network_of(tables, (1, 6, 5), 4)


@pytest.fixture
def path(network, model_path):
    return model_path(network, scale=SCALE, class_names=NAMES)


def parts(path):
    with safe_open(path, framework="numpy") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_round_trip(network, weights_of, path):
    header, weights = read_model(path)
    wanted = weights_of(network, 1)
    assert header.network == network
    assert (header.scale, header.class_names, header.dense) == (SCALE, NAMES, "float32")
    assert header.weight_hash == weight_hash(network, wanted) and len(header.weight_hash) == 64
    assert weights.binary.keys() == wanted.binary.keys()
    assert weights.dense.keys() == wanted.dense.keys()
    for name, (words, scales) in wanted.binary.items():
        assert np.array_equal(weights.binary[name][0], words)
        assert np.array_equal(weights.binary[name][1], scales)
    for name, values in wanted.dense.items():
        assert np.array_equal(weights.dense[name], values)
    assert model_bytes(header, weights) == path.read_bytes()


def test_the_file_holds_bits(network, weights_of, path):
    metadata, tensors = parts(path)
    assert {name: (t.dtype.name, t.shape) for name, t in tensors.items()} == {
        "0.weight.bits": ("uint8", (6, 2)),
        "0.weight.scales": ("float16", (6, 1)),
        "0.gain": ("float32", (6,)),
        "1.weight": ("float32", (6,)),
        "1.bias": ("float32", (6,)),
        "1.running_mean": ("float32", (6,)),
        "1.running_var": ("float32", (6,)),
        "3.weight.bits": ("uint8", (7, 9)),
        "3.weight.scales": ("float16", (7, 5)),
        "3.bias": ("float32", (7,)),
        "4.weight": ("float32", (4, 7)),
        "4.bias": ("float32", (4,)),
    }
    table = json.loads(metadata["meshd"])
    assert table.pop("network")["layers"][3] == {"layer": "hadamard_linear", "bias": True, "out": 7}
    assert table == {
        "format_version": 2,
        "input": [1, 6, 5],
        "classes": 4,
        "dense": "float32",
        "scale": SCALE,
        "class_names": list(NAMES),
        "weight_hash": weight_hash(network, weights_of(network, 1)),
    }
    words, _ = weights_of(network, 1).binary["3.weight"]
    for i in range(72):
        assert (
            tensors["3.weight.bits"][2, i // 8] >> (i % 8) & 1
            == int(words[2, i // 64]) >> (i % 64) & 1
        )


def test_the_hash_sees_every_tensor(network, weights_of):
    seen = {weight_hash(network, weights_of(network, 1))}
    for name in weights_of(network, 1).dense:
        weights = weights_of(network, 1)
        weights.dense[name].flat[-1] += np.float32(0.5)
        seen.add(weight_hash(network, weights))
    for name in ("0.weight", "3.weight"):
        for part, change in ((0, np.uint64(4)), (1, np.float32(0.5))):
            weights = weights_of(network, 1)
            weights.binary[name][part][1, 0] += change
            seen.add(weight_hash(network, weights))
    assert len(seen) == 1 + 8 + 4


def test_dense_float16_is_asked_for_and_gives_back_what_is_used(network, weights_of, tmp_path):
    weights = weights_of(network, 1)
    for p in network.parameters():
        if p.kind == "dense":
            weights.dense[p.name] = stored_dense(p, weights.dense[p.name], "float16")
    (tmp_path / "m").write_bytes(model_bytes(Header(network, dense="float16"), weights))
    _, tensors = parts(tmp_path / "m")
    assert tensors["4.weight"].dtype == np.float16 and tensors["4.bias"].dtype == np.float32
    _, found = read_model(tmp_path / "m")
    assert all(np.array_equal(found.dense[name], weights.dense[name]) for name in weights.dense)


def test_values_beyond_float16_are_refused(network):
    p = next(p for p in network.parameters() if p.name == "4.weight")
    with pytest.raises(ValueError, match="store float32"):
        stored_dense(p, np.full(p.shape, 1e6, np.float32), "float16")


def one_line_refusal(path) -> str:
    with pytest.raises(ModelError) as caught:
        read_model(path)
    said = str(caught.value)
    assert said.startswith(f"{path} is not a usable model: ") and "\n" not in said
    assert len(said) < len(str(path)) + 300
    return said


@pytest.mark.parametrize("kept", [0, 5, 8, 100, -1])
def test_a_truncated_file_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    one_line_refusal(path)


def test_text_and_appended_bytes_are_refused(path):
    whole = path.read_bytes()
    for content in (whole + b"x", b"not a model at all", b"\xff" * 64):
        path.write_bytes(content)
        one_line_refusal(path)


def test_every_flipped_byte_is_noticed(path):
    """In the header as well: there it may be text that only looks like another model."""
    whole = bytearray(path.read_bytes())
    for position in range(0, len(whole), 13):
        bent = bytearray(whole)
        bent[position] ^= 0x10
        path.write_bytes(bent)
        try:
            header, _ = read_model(path)
        except ModelError as error:
            assert "\n" not in str(error)
        else:  # a name of a class, or a number that changes no tensor: the weights are whole
            assert position < 8 + int.from_bytes(whole[:8], "little")
            assert header.weight_hash == read_hash(whole)


def read_hash(whole: bytearray) -> str:
    found = re.search(rb"weight_hash\W+([0-9a-f]{64})", bytes(whole))
    assert found
    return found.group(1).decode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_forged_description_is_refused_or_the_same(
    data, network_of, weights_of, tmp_path_factory
):
    network = network_of(NetworkSpec(preset="seed", width=8, beta_w=8, beta_a=8), (6,), 3)
    weights = weights_of(network, 2)
    path = tmp_path_factory.mktemp("forged") / "model"
    path.write_bytes(model_bytes(Header(network), weights))
    metadata, tensors = parts(path)
    table = json.loads(metadata["meshd"])
    place = data.draw(st.sampled_from([table, table["network"]]))
    key = data.draw(st.sampled_from(sorted(place)) | st.text(max_size=4))
    place[key] = data.draw(JSON)
    path.write_bytes(save(tensors, metadata={"meshd": json.dumps(table)}))
    try:
        header, _ = read_model(path)
    except ModelError as error:
        assert "\n" not in str(error)
    else:
        assert layout(header.network) == layout(network)


def network_key(**change):
    return lambda table: table["network"].update(change)


# width 16000 would take 1 GB: it has to be refused before that is allocated.
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(format_version=1), "format version is 1, this program reads 2"),
        (lambda t: t.pop("format_version"), "format version is None"),
        (lambda t: t.pop("network"), "key 'network' of its description is missing"),
        (lambda t: t.update(extra=1), "key 'extra' of its description is not known"),
        (lambda t: t.update(weight_hash="0" * 64), "do not match the file's own hash"),
        (lambda t: t.update(weight_hash=7), "weight_hash must be text"),
        (lambda t: t.update(scale=0), "scale must be a positive float32"),
        (lambda t: t.update(scale=0.1), "scale must be a positive float32"),
        (lambda t: t.update(scale=float("nan")), "scale must be a positive float32"),
        (lambda t: t.update(class_names=["a"]), "1 names for 4 classes"),
        (lambda t: t.update(class_names=["a", "b", "c", "d\n"]), "printable"),
        (lambda t: t.update(class_names=["a", "b", "c", ""]), "printable"),
        (lambda t: t.update(dense="int4"), "dense must be one of"),
        (lambda t: t.update(dense="float16"), r"'4\.weight' is .*F32"),
        (lambda t: t.update(classes=5, class_names=[]), r"'4\.weight' is"),
        (lambda t: t.update(input=[1, 1 << 40, 5]), "input's shape"),
        (lambda t: t.update(input=[1, 600, 500]), "needs .*U8"),
        (network_key(code="x"), "unknown key"),
        (network_key(preset="seed"), "either a preset or"),
        (network_key(layers=[]), "either a preset or"),
        (network_key(beta_w=8), r"3\.weight\.scales"),
    ],
)
def test_a_changed_description_is_refused(path, change, said):
    metadata, tensors = parts(path)
    table = json.loads(metadata["meshd"])
    change(table)
    path.write_bytes(save(tensors, metadata={"meshd": json.dumps(table)}))
    assert re.search(said, one_line_refusal(path))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (None, "not written by meshd"),
        ({"format": "pt"}, "not written by meshd"),
        ({"meshd": "{"}, "description is not JSON"),
        ({"meshd": "[" * 100_000}, "description is not JSON"),
        ({"meshd": "[]"}, "not a JSON object"),
        ({"meshd": " " * ((1 << 20) + 1)}, "longer than"),
        ({"meshd": json.dumps({"format_version": "x" * 10_000})}, "format version is"),
    ],
)
def test_a_file_of_others_is_refused(path, metadata, said):
    path.write_bytes(save(parts(path)[1], metadata=metadata))
    assert said in one_line_refusal(path)


def tensor_changes():
    def with_bit_past_the_row(t):
        t["0.weight.bits"] = t["0.weight.bits"].copy()
        t["0.weight.bits"][0, 1] |= 0x80

    def with_scale(value):
        def change(t):
            t["3.weight.scales"] = np.full_like(t["3.weight.scales"], value)

        return change

    def with_infinite(name):
        return lambda t: t.update({name: np.full_like(t[name], np.inf)})

    yield lambda t: t.pop("3.weight.bits"), r"tensor '3\.weight\.bits' is missing"
    yield lambda t: t.update(extra=np.zeros(3, np.float32)), "'extra' does not belong"
    yield lambda t: t.update({"4.weight": t["4.weight"].T.copy()}), r"'4\.weight' is .*\(7, 4\)"
    yield lambda t: t.update({"4.weight": t["4.weight"].astype(np.float64)}), "F64"
    yield with_bit_past_the_row, r"parameter 0\.weight: bits are set past the 9"
    yield with_scale(-1), r"parameter 3\.weight: scales must be finite"
    yield with_scale(np.nan), r"parameter 3\.weight: scales must be finite"
    yield with_infinite("4.weight"), r"4\.weight is not finite"
    yield with_infinite("1.running_mean"), r"1\.running_mean is not finite"
    yield lambda t: t.update({"1.running_var": -t["1.running_var"]}), "variance is negative"


@pytest.mark.parametrize(("change", "said"), list(tensor_changes()))
def test_changed_tensors_are_refused(path, change, said):
    metadata, tensors = parts(path)
    change(tensors)
    path.write_bytes(save(tensors, metadata=metadata))
    assert re.search(said, one_line_refusal(path))


def test_a_missing_file_is_the_file_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "none")


def test_what_cannot_be_read_is_not_written(network, weights_of):
    weights = weights_of(network, 1)
    for header in (
        Header(network, scale=0.1),
        Header(network, class_names=("a", "b")),
        Header(network, dense="int4"),
    ):
        with pytest.raises((ValueError, KeyError)):
            model_bytes(header, weights)
    weights.dense["4.weight"][0, 0] = np.nan
    with pytest.raises(ValueError, match="diverged"):
        model_bytes(Header(network), weights)
