"""Declarative networks in torch: names, shapes and order are core's; the seed decides the bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.errors import UsageError
from meshd.core.network import layers as la
from meshd.core.network.graph import Parameter, resolve
from meshd.core.network.spec import PRESETS, NetworkDescription, parse_network
from meshd.hbnn.activations import Binarize, Ramp
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.evaluator import Sigmoid
from meshd.hbnn.export import weight_hash
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.networks import (
    MODULES,
    as_rows,
    binary_layers,
    build_network,
    logits,
    network_from_text,
    parameter_table,
    predict,
)

# A width that divides nothing, beside each preset's own; narrow, for the networks are built here.
WIDTHS = {"seed": 33, "lenet": 64, "nin": 48, "alexnet": 16, "resnet18": 8, "convnet": 16}


def described(table, shape, classes=4):
    return resolve(NetworkDescription(parse_network(table), shape, classes))


def small(seed=0):
    return build_network(described({"width": 33, "beta_w": 8, "beta_a": 16}, (20,)), seed)


def test_every_kind_of_layer_has_a_module():
    assert set(MODULES) == set(la.KINDS.values()) - {la.Residual}


@pytest.mark.parametrize("first", ["dense", "binary"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)], ids=str)
@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_and_buffers_are_cores(preset, shape, first, normal):
    table = {"preset": preset, "width": WIDTHS[preset], "first": first, "beta_w": 4, "beta_a": 4}
    network = described(table, shape)
    net = build_network(network)
    assert parameter_table(net) == network.parameters()
    assert [(n, tuple(p.shape)) for n, p in net.named_parameters()] == [
        (p.name, p.shape) for p in network.parameters()
    ]
    assert [(n, len(b)) for n, b in net.named_buffers()] == network.statistics()
    x = normal(2, *shape)
    for mode in (True, False):
        assert net.train(mode)(x).shape == (2, 4)
        for node, layer in zip(network.nodes, net, strict=True):
            x = layer(x)
            assert x.shape[1:] == node.output, node
        x = normal(2, *shape)


def tables(kind):
    window = {"kernel": st.integers(1, 3), "padding": st.integers(0, 1)}
    optional = {
        "linear": {"out": st.integers(1, 5), "bias": st.booleans()},
        "hadamard_linear": {"out": st.integers(1, 5), "bias": st.booleans(), "gain": st.booleans()},
        "conv": {"out": st.sampled_from([4, 8]), "bias": st.booleans(), **window},
        "hadamard_conv": {
            "out": st.sampled_from([4, 8]),
            "bias": st.booleans(),
            "gain": st.booleans(),
            "beta_w": st.integers(1, 90),
            "beta_a": st.integers(1, 90),
            "coding": st.sampled_from(["signed", "unipolar"]),
            "estimator": st.sampled_from(["cut", "polynomial"]),
            "cut": st.sampled_from([0.0, 0.7]),
            **window,
        },
        "residual": {"body": st.just([{"layer": "batchnorm"}, {"layer": "ramp"}])},
    }
    return st.fixed_dictionaries({"layer": st.just(kind)}, optional=optional.get(kind, {}))


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.sampled_from(sorted(la.KINDS)).flatmap(tables), max_size=5),
    st.sampled_from([(4, 7, 6), (8, 5, 5), (9,)]),
)
def test_random_networks_compute_what_core_says(layers, shape):
    layers = [*layers, {"layer": "flatten"}, {"layer": "linear"}]
    try:
        network = described({"layers": layers, "beta_w": 4, "beta_a": 4}, shape, 3)
    except UsageError:
        return
    net = build_network(network, backward="int8")
    assert parameter_table(net) == network.parameters()
    assert [(n, len(b)) for n, b in net.named_buffers()] == network.statistics()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    net(x).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape


def test_the_seeds_seven_layers():
    net = small()
    linear = torch.nn.Linear
    wanted = [linear, Ramp, Binarize, HadamardLinear, Ramp, HadamardLinear, Sigmoid]
    assert [type(layer) for layer in net] == wanted
    assert (net[2].beta, net[2].coding) == (16, "unipolar")
    assert [(net[i].beta_w, net[i].beta_a, net[i].rule.coding) for i in (3, 5)] == [
        (8, 16, "unipolar")
    ] * 2


def test_settings_reach_the_layers():
    binary = (
        '{layer="hadamard_conv", out=6, beta_w=8, beta_a=4, cut=0, cut_a=0.5, coding="signed",'
        ' estimator="polynomial", gain=true, bias=true}'
    )
    text = f"""network.layers = [
        {{ layer = "conv", out = 8, kernel = 5, stride = 2, padding = 1, bias = true }},
        {binary},
        {{ layer = "binarize", beta = 3, cut_a = 0 }},
        {{ layer = "flatten" }},
        {{ layer = "hadamard_linear", beta_a = 1 }},
    ]"""
    net = network_from_text(text, (3, 20, 20), 7, backward="planes(2)")
    dense, conv, binarize, _, linear = net
    assert (dense.kernel_size, dense.stride, dense.padding) == ((5, 5), (2, 2), (1, 1))
    rule = conv.rule
    assert isinstance(conv, HadamardConv2d)
    assert (rule.kernel, rule.beta_w, rule.beta_a, rule.coding) == ((3, 3), 8, 4, "signed")
    assert (rule.cut, rule.cut_a, rule.estimator, rule.backward) == (
        None,
        0.5,
        "polynomial",
        "planes(2)",
    )
    assert conv.gain.shape == conv.bias.shape == (6,)
    assert (binarize.beta, binarize.coding, binarize.cut) == (3, "signed", None)
    assert (linear.out_features, linear.rule.cut, linear.rule.cut_a) == (7, 1.0, None)


def test_a_whole_job_file_or_its_network_alone():
    network = '[network]\npreset = "lenet"\nwidth = 64\nbeta_w = 4\nbeta_a = 4\n'
    alone = network_from_text(network, (1, 28, 28), 10, seed=2)
    whole = network_from_text(f'name = "x"\n{network}[training]\nepochs = 3', (1, 28, 28), 10, 2)
    assert weight_hash(alone) == weight_hash(whole)
    for wrong in ("epochs = 3", "[network]\nwdth = 3", "[training]\nepochs = 3", "network"):
        with pytest.raises(UsageError):
            network_from_text(wrong, (1, 28, 28), 10)
    with pytest.raises(UsageError, match="layer 0 takes"):
        network_from_text(network, (784,), 10)


def test_vectors_are_one_row_and_a_lone_layer_has_a_table():
    layer = HadamardLinear(6, 3, 2, bias=True)
    assert parameter_table(layer) == [
        Parameter("weight", (3, 6), 3, 6, "binary", 2),
        Parameter("bias", (3,), 1, 3, "dense", 0),
    ]
    assert list(binary_layers(layer)) == ["weight"]
    assert [e.name for e in parameter_table(torch.nn.Sequential(layer))] == ["0.weight", "0.bias"]


def test_filters_are_rows_by_kernel_row_column_and_channel():
    net = network_from_text(
        'network.layers = [{layer="conv", out=5}, {layer="globalavgpool"}]', (4, 6, 6), 5
    )
    weight = net[0].weight
    rows = as_rows(weight)
    assert rows.data_ptr() == weight.data_ptr() and rows.is_contiguous()
    for o, y, x, c in ((0, 0, 0, 0), (4, 2, 1, 3), (3, 0, 2, 1)):
        assert rows[o, (y * 3 + x) * 4 + c] == weight[o, c, y, x]


def test_a_parameter_of_three_dimensions_is_refused():
    with pytest.raises(ValueError, match=r"0\.weight has 3 dimensions"):
        parameter_table(torch.nn.Sequential(torch.nn.Conv1d(1, 1, 3)))


def test_the_seed_alone_decides_the_latents():
    torch.manual_seed(1)
    first = small()
    torch.manual_seed(2)
    second = small()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(small(1)[0].weight, first[0].weight)


def test_building_draws_nothing_from_torchs_own_generator():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    build_network(described({"preset": "lenet", "width": 64, "beta_w": 4}, (1, 28, 28)))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_seed_gives_the_same_bits_on_every_machine():
    """Golden: a machine or library that draws others would start a ring that cannot agree."""
    assert (
        weight_hash(small()) == "cd5d3e73c3de5e8a09f48970deac085ae57fc3471ca83aa402033a279425b7d9"
    )


def test_initial_weights_have_the_variance_that_the_text_says():
    net = build_network(described({"preset": "convnet", "width": 32}, (1, 28, 28)), seed=3)
    for entry in parameter_table(net):
        values = net.get_parameter(entry.name).detach()
        if entry.rows * entry.columns > 5000:
            share = values.var() * entry.columns / (1 if entry.kind == "binary" else 2)
            assert 0.95 < share < 1.05, entry
        elif entry.name.endswith("bias"):
            assert not values.any()


def test_logits_are_what_the_sigmoid_gets(normal):
    net, x = small(), normal(7, 20)
    torch.testing.assert_close(torch.sigmoid(logits(net, x)), net(x))
    assert torch.equal(predict(net, x), net(x).argmax(-1))
    assert predict(net, x).dtype == torch.int64
    assert logits(net, x).requires_grad


def test_without_a_final_sigmoid_the_output_is_the_logits(normal):
    net, x = torch.nn.Sequential(*list(small())[:-1]), normal(2, 20)
    assert torch.equal(logits(net, x), net(x))
    inner = torch.nn.Sequential(Sigmoid(), Ramp())
    assert torch.equal(logits(inner, x), x.sigmoid())


def test_prediction_is_in_evaluation_mode_and_leaves_the_mode(normal):
    text = 'network.layers = [{layer="batchnorm"}, {layer="dropout"}, {layer="linear"}]'
    net, x = network_from_text(text, (6,), 3), normal(9, 6)
    net(x)
    running = net[0].running_mean.clone()
    assert running.any()
    wanted = predict(net, x)
    assert net.training and torch.equal(net[0].running_mean, running)
    assert torch.equal(predict(net, x), wanted)
    assert torch.equal(net.eval()(x).argmax(-1), wanted)
    assert torch.equal(predict(net, x), wanted) and not net.training
