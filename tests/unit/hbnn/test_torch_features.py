"""What torch does to modules: compile, autocast, save, load, copy."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import nn

from meshd.hbnn.activations import Binarize, Ramp
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.linear import HadamardLinear


def small_network(**options):
    """Convolution and linear layer on the kernels, a convolution and Binarize on torch's."""
    torch.manual_seed(3)
    return nn.Sequential(
        HadamardConv2d(16, 8, 3, 16, padding=1, gain=True, **options),
        Ramp(),
        HadamardConv2d(8, 8, 3, 4, coding="unipolar"),
        nn.Flatten(),
        Binarize(8, "unipolar"),
        HadamardLinear(128, 5, 16, 64, bias=True, gain=True, **options),
    )


def step(net, x):
    """Return the output and every gradient of one pass."""
    x = x.detach().clone().requires_grad_()
    net.zero_grad()
    y = net(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in net.parameters())]


def test_compiled_whole_without_a_graph_break(normal):
    """Traced and differentiated, not lowered: the compiler proper takes a minute for all this."""
    net, x = small_network(), normal(3, 16, 6, 6)
    net[0] = HadamardConv2d(
        *(16, 8, 3, 16, 16, 1, 1), cut_a=0.5, estimator="polynomial", backward="planes(2)"
    )
    bits = net[5].packed()
    net[5].load_packed(bits.words, bits.scales)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for found, wanted in zip(step(compiled, x), step(net, x), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_compiled_to_machine_code(normal):
    layer, x = HadamardLinear(64, 8, 16, cut=None, cut_a=None), normal(4, 64)
    compiled = torch.compile(layer, fullgraph=True)
    for found, wanted in zip(step(compiled, x), step(layer, x), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_autocast_leaves_binary_layers_in_float32(normal):
    net, x = small_network(), normal(3, 16, 6, 6)
    wanted = step(net, x)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
        assert y.dtype == torch.float32
        half = nn.Sequential(nn.Linear(32, 64), HadamardLinear(64, 4, 16), nn.Linear(4, 2))
        z = half(normal(5, 32))
        assert z.dtype == torch.bfloat16
    torch.testing.assert_close(y, wanted[0])
    z.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in half.parameters())


KINDS = {
    "kernels": (lambda: HadamardLinear(32, 4, 16), (5, 32)),
    "torch's product": (lambda: HadamardLinear(32, 4, 4), (5, 32)),
    "float activations": (lambda: HadamardLinear(32, 4, 32, 1), (5, 32)),
    "images on kernels": (lambda: HadamardConv2d(16, 4, 3, 16), (2, 16, 5, 5)),
    "images on torch's": (lambda: HadamardConv2d(16, 4, 3, 4), (2, 16, 5, 5)),
}
OTHER_DTYPES = [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", OTHER_DTYPES, ids=str)
def test_an_input_of_another_dtype_is_one_line(normal, kind, dtype):
    """Torch's own sentences name a matrix product's operands, and on some routes nothing fails."""
    make, shape = KINDS[kind]
    layer, x = make(), normal(*shape).to(dtype)
    name = str(dtype).removeprefix("torch.")
    said = f"the layer's weights are float32, the input is {name}: give it x.float()"
    with pytest.raises(TypeError) as caught:
        layer(x)
    assert str(caught.value) == said
    assert layer(x.float()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), layer(x.float()))
    with pytest.raises(TypeError, match=r"weights are float64, .* give it x.to\(torch.float64\)"):
        layer.double()(x.float())


@pytest.mark.parametrize("assign", [False, True])
def test_state_is_saved_and_loaded(normal, assign):
    net, x = small_network(), normal(3, 16, 6, 6)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = small_network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(torch.load(file, weights_only=True), assign=assign)
    assert torch.equal(other(x), net(x))
    assert dict(nn.Conv2d(16, 8, 3).named_parameters())["weight"].shape == other[0].weight.shape


def test_copies_are_apart(normal):
    net, x = small_network(), normal(3, 16, 6, 6)
    packed = net[0].packed()
    net[0].load_packed(packed.words, packed.scales)
    twin = copy.deepcopy(net)
    before = twin(x)
    assert torch.equal(before, net(x)) and twin[0].is_packed
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(twin(x), before)


def test_a_whole_module_goes_through_a_file(normal):
    net, x = small_network(), normal(3, 16, 6, 6)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), net(x))


def test_the_readmes_example_runs(capsys):
    readme = Path(__file__).resolve().parents[3] / "README.md"
    example = readme.read_text().split("```python\n")[1].split("```")[0]
    exec(compile(example, str(readme), "exec"), {})
    assert "HadamardLinear(256 -> 256, beta_w=64" in " ".join(capsys.readouterr().out.split())
