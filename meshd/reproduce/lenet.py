"""The HadaNet paper's LeNet on MNIST (arXiv 1905.10759): three variants, 60 epochs each.

    python -m meshd.reproduce.lenet --device cuda --json lenet.json
    python -m meshd.reproduce.lenet --only "HadaNet(4;4)" --epochs 10

HadaNet(beta_w; beta_a); HBWN: activations stay float, beta_a = 1.

Of the paper's protocol: 60 epochs, batches of 128, Adam, no augmentation, first and last layer
dense, in each binary block normalisation, binarization, product, activation, pooling in that order,
and the number that the paper gives: the best test accuracy over the epochs. The last epoch's is
given beside it, because the best one has seen the test part. Of our own: 32 and 64 channels and 512
units, which segments of 16 divide (the author's logs show 20, 50 and 500); a cosine from 3e-3 to
nothing, where they show a tenth every 15 epochs from 5e-3; dropout; no cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshd.reproduce.fit import Recipe
from meshd.reproduce.unattended import Training, main

NETWORK = """
[network]
beta_w = {beta_w}
beta_a = {beta_a}
cut = 0.0
cut_a = 0.0
layers = [
    {{ layer = "conv", out = 32, kernel = 5 }},
    {{ layer = "maxpool" }},
    {{ layer = "ramp" }},
    {{ layer = "batchnorm" }},
    {{ layer = "hadamard_conv", out = 64, kernel = 5 }},
    {{ layer = "ramp" }},
    {{ layer = "maxpool" }},
    {{ layer = "dropout", rate = 0.25 }},
    {{ layer = "batchnorm" }},
    {{ layer = "flatten" }},
    {{ layer = "hadamard_linear", out = 512 }},
    {{ layer = "ramp" }},
    {{ layer = "batchnorm" }},
    {{ layer = "dropout", rate = 0.5 }},
    {{ layer = "linear", bias = true }},
]
"""

RECIPE = Recipe(learning_rate=3e-3, schedule="cosine", epochs=60, batch=128, weight_decay=1e-4)


def _variant(name: str, beta_w: int, beta_a: int, published: float) -> Training:
    network = NETWORK.format(beta_w=beta_w, beta_a=beta_a)
    return Training(name, network, RECIPE, published)


TRAININGS: Sequence[Training] = (
    _variant("HadaNet(4;4)", 4, 4, 99.43),
    _variant("HadaNet(16;2)", 16, 2, 99.40),
    _variant("HBWN(4;1)", 4, 1, 99.41),
)

if __name__ == "__main__":
    main(TRAININGS, "mnist", __doc__)
