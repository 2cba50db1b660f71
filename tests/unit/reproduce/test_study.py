"""The study's networks and its bookkeeping; that its settings say what they do."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from meshd.hbnn.networks import binary_layers, logits, network_from_text
from meshd.reproduce import study
from meshd.reproduce.seedlike import scaled_logits, seed_relative, set_beta
from meshd.reproduce.settings import BASE, SETTINGS, Setting
from meshd.reproduce.signs import SignLinear, sign

INPUTS, WIDTH, CLASSES = 40, 32, 5


def build(setting: Setting, seed: int = 1) -> torch.nn.Sequential:
    return seed_relative(setting, INPUTS, CLASSES, WIDTH, seed)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_every_setting_can_be_trained(setting: Setting) -> None:
    net = build(setting)
    x = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))
    out = scaled_logits(net, x, setting.temperature)
    assert out.shape == (6, CLASSES)
    torch.nn.functional.cross_entropy(out, torch.arange(6) % CLASSES).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


def test_names_are_unique_and_a_setting_differs_from_the_base() -> None:
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    for setting in SETTINGS[1:]:
        assert replace(setting, group=BASE.group, name=BASE.name) != BASE, setting.name


def test_the_base_is_the_seeds_network() -> None:
    ours = build(replace(BASE, cut=1.0, cut_a=1.0, beta=(8,)))
    text = f"network = {{ width = {WIDTH}, beta_w = 8, beta_a = 8 }}"
    seeds = network_from_text(text, (INPUTS,), CLASSES, seed=1)
    x = torch.randn(7, INPUTS)
    assert torch.equal(logits(ours, x), logits(seeds, x))


def test_a_changed_beta_is_the_network_of_that_beta() -> None:
    changed, built = build(BASE), build(replace(BASE, beta=(4,)))
    set_beta(changed, 4)
    x = torch.randn(7, INPUTS)
    assert torch.equal(logits(changed, x), logits(built, x))


def test_a_changed_beta_leaves_float_activations() -> None:
    net = build(replace(BASE, first=8))
    set_beta(net, 4)
    first, *rest = binary_layers(net).values()
    assert (first.beta_w, first.beta_a) == (4, 1)
    assert all((layer.beta_w, layer.beta_a) == (4, 4) for layer in rest)


@pytest.mark.parametrize("coding", ["signed", "unipolar"])
def test_signs_have_no_scale(coding: str) -> None:
    layer = SignLinear(16, 3, coding)
    x = torch.randn(5, 16)
    codes = torch.where(x > 0, 1.0, 0.0 if coding == "unipolar" else -1.0)
    assert torch.equal(layer(x), codes @ torch.sign(layer.weight).T)
    assert torch.equal(layer(3 * x), layer(x))


def test_gradients_of_signs_pass_where_the_cut_says() -> None:
    x = torch.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    sign(x, "signed", 1.0).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    x.grad = None
    sign(x, "signed", None).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Bright pixels say the class: 300 + 60 images of 6 x 6 pixels, three classes."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 300), ("test", 60)):
        y = np.arange(count) % 3
        x = generator.integers(0, 100, (count, 6, 6))
        for label in range(3):
            x[y == label, 2 * label : 2 * label + 2] += 155
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y.astype(np.uint8)}
    np.savez(tmp_path / "bars.npz", **arrays)
    return tmp_path / "bars.npz"


def test_a_study_goes_on_where_it_stopped(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data.parent / "study.jsonl"
    few = [SETTINGS[0], SETTINGS[1]]
    monkeypatch.setattr(study, "SETTINGS", few)
    monkeypatch.setattr(study, "WIDTH", 16)
    monkeypatch.setattr(sys, "argv", ["study", str(data), "--json", str(out)])
    study.main()
    lines = out.read_text().splitlines()
    assert len(lines) == len(few) * len(study.SEEDS)
    first = json.loads(lines[0])
    assert (first["data"], first["setting"], first["seed"]) == ("bars", "base", 0)
    assert len(first["accuracy"]) == SETTINGS[0].recipe.epochs

    out.write_text("\n".join(lines[:-1]) + "\n")
    capsys.readouterr()
    study.main()
    again = out.read_text().splitlines()
    assert again[:-1] == lines[:-1]
    ours, theirs = json.loads(again[-1]), json.loads(lines[-1])
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}

    monkeypatch.setattr(sys, "argv", ["study", "--json", str(out), "--table"])
    capsys.readouterr()
    study.main()
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| setting | bars |"
    assert len(table) == 2 + len(few)


def test_the_table_says_mean_spread_and_difference() -> None:
    lines = [
        {"data": "d", "setting": name, "seed": seed, "accuracy": [0.0, value]}
        for name, values in ((SETTINGS[0].name, (80, 82)), (SETTINGS[1].name, (85, 85)))
        for seed, value in enumerate(values)
    ]
    rows = study.table(lines).splitlines()
    assert rows[2].endswith("| 81.0 ± 1.0 |")
    assert rows[3].endswith("| 85.0 ± 0.0, +4.0 |")
    assert rows[4].endswith("| - |")
