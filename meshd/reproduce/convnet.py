"""A small convolutional network with beta = 64 on Fashion-MNIST: 10 epochs on two cores.

    python -m meshd.reproduce.convnet --threads 2 --json convnet.json

64C5/2 - 64C3 - MP - 128C3 - 128C3 - MP - 10: the first convolution and the last layer are dense,
the three between have weights and activations of one bit, on the native kernels. No augmentation.

No ramp behind a binary convolution: the binarization that follows its normalisation bends enough,
and sees both signs. `docs/long-trainings.md` has what ramps and cuts change.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshd.reproduce.fit import Recipe
from meshd.reproduce.unattended import Training, main

NETWORK = """
[network]
beta_w = 64
beta_a = 64
cut = 1.0
cut_a = 1.0
layers = [
    { layer = "conv", out = 64, kernel = 5, stride = 2, padding = 2, bias = true },
    { layer = "ramp" },
    { layer = "batchnorm" },
    { layer = "hadamard_conv", out = 64, kernel = 3, padding = 1 },
    { layer = "maxpool" },
    { layer = "batchnorm" },
    { layer = "hadamard_conv", out = 128, kernel = 3, padding = 1 },
    { layer = "batchnorm" },
    { layer = "hadamard_conv", out = 128, kernel = 3, padding = 1 },
    { layer = "maxpool" },
    { layer = "batchnorm" },
    { layer = "flatten" },
    { layer = "linear", bias = true },
]
"""

RECIPE = Recipe(learning_rate=2e-3, schedule="cosine", epochs=10, batch=100, weight_decay=1e-4)

TRAININGS: Sequence[Training] = (Training("convnet", NETWORK, RECIPE, 91.0),)

if __name__ == "__main__":
    main(TRAININGS, "fashion-mnist", __doc__)
