"""`resolve` against torch: a list of layers fits, with these shapes, exactly where torch computes.

The oracle knows no shape rule: it builds every layer of the list with torch's own functions and
runs one small sample through.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from meshd.core.errors import UsageError
from meshd.core.network.graph import Network, resolve
from meshd.core.network.layers import KINDS
from meshd.core.network.spec import NetworkDescription, parse_network

BETA = 4


class DoesNotFitError(Exception):
    """What torch itself would take, and we refuse on purpose."""


def window(table: dict, kernel: int, stride: int) -> tuple[int, int, int]:
    return table.get("kernel", kernel), table.get("stride", stride), table.get("padding", 0)


def oracle(table: dict, x: Tensor, classes: int, seen: list[tuple]) -> Tensor:
    """One layer's output; the weights' shapes go to `seen`."""
    kind = table["layer"]
    out = table.get("out") or classes
    if kind.endswith("linear"):
        if x.dim() != 2:
            raise DoesNotFitError
        weight = torch.zeros(out, x.shape[1])
        seen.append(tuple(weight.shape))
        return functional.linear(x, weight)
    if kind.endswith("conv"):
        kernel, stride, padding = window(table, 3, 1)
        weight = torch.zeros(out, x.shape[1], kernel, kernel)
        if kind == "hadamard_conv":
            segments_fit(table, weight)
        if x.dim() != 4:
            raise DoesNotFitError
        seen.append(tuple(weight.shape))
        return functional.conv2d(x, weight, None, stride, padding)
    if kind == "maxpool":
        return functional.max_pool2d(image(x), *window(table, 2, 2))
    if kind == "avgpool":
        return functional.avg_pool2d(image(x), *window(table, 2, 2))
    if kind == "globalavgpool":
        return image(x).mean((2, 3))
    if kind == "flatten":
        return x.flatten(1)
    if kind == "batchnorm":
        seen.extend([(x.shape[1],), (x.shape[1],)])
        return functional.batch_norm(x, torch.zeros(x.shape[1]), torch.ones(x.shape[1]))
    if kind == "residual":
        body = chain(table.get("body", []), x, classes, seen)
        shortcut = chain(table.get("shortcut", []), x, classes, seen)
        if body.shape != shortcut.shape:
            raise DoesNotFitError
        return body + shortcut
    return x * 1


def image(x: Tensor) -> Tensor:
    if x.dim() != 4:
        raise DoesNotFitError
    return x


def segments_fit(table: dict, weight: Tensor) -> None:
    """A filter's row, or a pixel, cut into segments: all of one length, or one for the window."""
    channels, size = weight.shape[1], weight[0].numel()
    for beta in (table.get("beta_w", BETA), table.get("beta_a", BETA)):
        if beta >= size:
            continue
        pixels = torch.arange(channels).split(beta)
        if len({len(part) for part in pixels}) > 1 or (beta > 1 and channels == 1):
            raise DoesNotFitError


def chain(tables: list[dict], x: Tensor, classes: int, seen: list[tuple]) -> Tensor:
    for table in tables:
        x = oracle(table, x, classes, seen)
    return x


small = st.integers(1, 4)
outs = st.sampled_from([0, 1, 2, 3, 4, 8])
windows = {"kernel": small, "stride": st.integers(1, 3), "padding": st.integers(0, 2)}
betas = {"beta_w": st.integers(1, 40), "beta_a": st.integers(1, 40)}
SETTINGS: dict[str, dict] = {
    "linear": {"out": outs},
    "hadamard_linear": {"out": outs, **betas},
    "conv": {"out": outs, **windows},
    "hadamard_conv": {"out": outs, **windows, **betas},
    "maxpool": windows,
    "avgpool": windows,
}


def tables_of(kind: str) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries({"layer": st.just(kind)}, optional=SETTINGS.get(kind, {}))


simple = st.sampled_from(sorted(KINDS.keys() - {"residual"})).flatmap(tables_of)


def residuals(inner: st.SearchStrategy[dict]) -> st.SearchStrategy[dict]:
    short = st.lists(inner, max_size=2)
    same = st.just({"layer": "hadamard_conv", "out": 4, "padding": 1})
    return st.fixed_dictionaries(
        {"layer": st.just("residual")},
        optional={"body": short | same.map(lambda t: [t]), "shortcut": short},
    )


lists = st.lists(simple | st.recursive(simple, residuals, max_leaves=3), max_size=5)
endings = st.sampled_from(
    [[], [{"layer": "flatten"}, {"layer": "linear"}], [{"layer": "hadamard_linear"}]]
)
shapes = st.tuples(st.integers(1, 9)) | st.tuples(
    st.sampled_from([1, 3, 4, 8]), st.integers(1, 9), st.integers(1, 9)
)


def outcome_of_oracle(layers: list[dict], shape: tuple[int, ...], classes: int) -> list | None:
    """The weights' shapes, or None where the network is not one."""
    seen: list[tuple] = []
    try:
        y = chain(layers, torch.zeros(1, *shape), classes, seen)
    except (DoesNotFitError, RuntimeError):
        return None
    return seen if y.shape == (1, classes) and seen else None


def outcome(layers: list[dict], shape: tuple[int, ...], classes: int) -> Network | None:
    spec = parse_network({"layers": layers, "beta_w": BETA, "beta_a": BETA})
    try:
        return resolve(NetworkDescription(spec, shape, classes))
    except UsageError as error:
        assert "\n" not in str(error) and str(error).startswith("network: ")
        return None


@settings(max_examples=300, deadline=None)
@example([{"layer": "maxpool", "kernel": 1, "padding": 1}], [], (4, 5, 5), 4)
@given(lists, endings, shapes, st.integers(1, 5))
def test_a_list_fits_exactly_where_torch_computes(layers, ending, shape, classes):
    layers = [*layers, *ending]
    if not layers:
        return
    wanted, found = outcome_of_oracle(layers, shape, classes), outcome(layers, shape, classes)
    assert (found is None) == (wanted is None)
    if found is None:
        return
    assert [p.shape for p in found.parameters()] == wanted
    for node in found.nodes:
        assert all(length >= 1 for length in node.output)


def test_every_kind_of_layer_resolves_somewhere():
    """The property above is not vacuous: here is one network that has them all."""
    kinds = [
        {"layer": "conv", "out": 8, "padding": 1},
        {"layer": "batchnorm"},
        {"layer": "hardtanh"},
        {"layer": "binarize"},
        {"layer": "hadamard_conv", "out": 8, "padding": 1},
        {"layer": "residual", "body": [{"layer": "conv", "out": 8, "padding": 1}]},
        {"layer": "ramp"},
        {"layer": "maxpool"},
        {"layer": "avgpool"},
        {"layer": "dropout"},
        {"layer": "flatten"},
        {"layer": "hadamard_linear", "out": 6},
        {"layer": "linear"},
        {"layer": "sigmoid"},
    ]
    assert {t["layer"] for t in kinds} == KINDS.keys() - {"globalavgpool"}
    network = outcome(kinds, (1, 8, 8), 3)
    assert network is not None
    assert [p.shape for p in network.parameters()] == outcome_of_oracle(kinds, (1, 8, 8), 3)
    assert network.nodes[5].body[0].name == "5.body.0"
    assert network.widest == 8 * 8 * 8
    averaged = [{"layer": "conv", "kernel": 1}, {"layer": "globalavgpool"}]
    assert outcome(averaged, (2, 5, 5), 3) is not None


@pytest.mark.parametrize(
    ("layers", "shape", "sentence"),
    [
        ([{"layer": "conv", "out": 3}], (7,), "layer 0 takes (channels, height, width), not (7,)"),
        ([{"layer": "linear"}], (1, 4, 4), "put a flatten before it"),
        ([{"layer": "conv", "kernel": 9}], (1, 4, 4), "layer 0 has a window larger"),
        ([{"layer": "flatten"}], (1, 1, 3), "no parameters to train"),
        ([{"layer": "linear", "out": 7}], (5,), "ends in shape (7,), not one number for each of 3"),
        (
            [{"layer": "conv", "out": 6}, {"layer": "hadamard_conv"}],
            (1, 8, 8),
            "layer 1 has beta_w 4, which does not divide its 6 input channels; choose one that",
        ),
        (
            [{"layer": "hadamard_conv"}],
            (1, 8, 8),
            "layer 0 has one input channel; set its beta_w to 9, one scale a window, or 1",
        ),
        (
            [{"layer": "residual", "body": [{"layer": "linear", "out": 4}]}],
            (5,),
            "layer 0 adds shapes (4,) (body) and (5,) (shortcut)",
        ),
        ([{"layer": "conv", "kernel": 1, "out": 1 << 20}], (1, 64, 64), "too many"),
        ([{"layer": "linear", "out": 1 << 20}] * 2 + [{"layer": "linear"}], (5,), "parameters, at"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_layer(layers, shape, sentence):
    spec = parse_network({"layers": layers, "beta_w": BETA, "beta_a": BETA})
    with pytest.raises(UsageError) as caught:
        resolve(NetworkDescription(spec, shape, 3))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def coding_of(layers: list[dict], index: int, **network) -> str:
    spec = parse_network({"layers": layers, **network})
    return resolve(NetworkDescription(spec, (6,), 3)).nodes[index].layer.coding


RAMP, BATCHNORM, BINARY = ({"layer": k} for k in ("ramp", "batchnorm", "hadamard_linear"))


@pytest.mark.parametrize(
    ("before", "coding"),
    [
        ([RAMP], "unipolar"),
        ([{"layer": "sigmoid"}], "unipolar"),
        ([RAMP, {"layer": "dropout"}], "unipolar"),
        ([RAMP, {"layer": "binarize"}], "unipolar"),
        ([], "unipolar"),  # the input: pixels are never negative
        ([BATCHNORM], "signed"),
        ([RAMP, BATCHNORM], "signed"),
        ([{"layer": "hardtanh"}], "signed"),
        ([RAMP, {"layer": "linear", "out": 4}], "signed"),
        ([RAMP, {"layer": "residual", "body": [RAMP]}], "signed"),
        ([RAMP, {"layer": "binarize", "coding": "signed"}], "signed"),
    ],
)
def test_coding_follows_what_precedes(before, coding):
    assert coding_of([*before, BINARY], len(before)) == coding
    own = {**BINARY, "coding": "signed"}
    assert coding_of([*before, own], len(before)) == "signed"


def test_float_activations_pass_as_they_are_and_so_do_their_gradients():
    """beta_a = 1 is HBWN: nothing is estimated, so nothing is cut; unipolar would drop signs."""
    layers = [RAMP, {**BINARY, "beta_a": 1, "out": 5}, {**BINARY, "beta_a": 1, "cut_a": 2.0}]
    spec = parse_network({"layers": layers, "cut": 0.5})
    nodes = resolve(NetworkDescription(spec, (6,), 3)).nodes
    assert [(n.layer.coding, n.layer.cut, n.layer.cut_a) for n in nodes[1:]] == [
        ("signed", 0.5, 0.0),
        ("signed", 0.5, 2.0),
    ]
    widely = parse_network({"layers": layers[1:], "beta_a": 1, "cut_a": 3.0})
    assert resolve(NetworkDescription(widely, (6,), 3)).nodes[0].layer.cut_a == 0.0


def test_settings_are_inherited_and_overridden():
    layers = [{**BINARY, "out": 5}, {**BINARY, "beta_w": 2, "cut": 0.0, "cut_a": 7}]
    spec = parse_network({"layers": layers, "beta_w": 3, "beta_a": 5, "cut": 0.5, "cut_a": 2})
    first, second = (node.layer for node in resolve(NetworkDescription(spec, (6,), 3)).nodes)
    assert (first.beta_w, first.beta_a, first.cut, first.cut_a) == (3, 5, 0.5, 2.0)
    assert (second.beta_w, second.beta_a, second.cut, second.cut_a) == (2, 5, 0.0, 7.0)
    assert [p.beta for p in resolve(NetworkDescription(spec, (6,), 3)).parameters()] == [3, 2]


@pytest.mark.parametrize(
    ("beta", "holds"), [(1, 1), (2, 2), (4, 4), (8, 8), (9, 8), (71, 8), (72, 72), (500, 72)]
)
def test_segments_of_a_convolution(beta, holds):
    """Within the 8 channels, or the whole window of 3 x 3 x 8."""
    layers = [
        {"layer": "hadamard_conv", "beta_w": beta, "beta_a": beta},
        {"layer": "globalavgpool"},
    ]
    network = resolve(NetworkDescription(parse_network({"layers": layers}), (8, 5, 5), 3))
    layer = network.nodes[0].layer
    assert (layer.beta_w, layer.beta_a, network.parameters()[0].beta) == (holds, holds, holds)
