"""A data set as tensors on one device: what `meshd.reproduce.fit` trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from meshd.data.load import load_dataset
from meshd.reproduce.fit import Samples


def load_samples(source: Path | str, device: str = "cpu") -> Samples:
    """Load a data file or a known data set as the network sees it.

    x (n, channels, height, width) or (n, features) float32 in [-1, 1], y (n,) int64.

    Raises:
        DataError: missing or wrong data.
        DownloadError: a name whose files are not here and could not be fetched.
    """
    data = load_dataset(source)
    tensors = []
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        seen = torch.empty(len(x), *data.input_shape)
        data.fill_rows(x, np.arange(len(x)), seen.numpy())
        tensors += [seen.to(device), torch.from_numpy(y).to(device)]
    return Samples(*tensors)
