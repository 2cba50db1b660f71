"""Model files without torch: read them, predict with them, export them to ONNX.

    from meshd.hbnn.runtime import load

    model = load("model.safetensors", threads=2)
    classes = model.predict(images)  # (B,) from (B, features) or (B, channels, height, width)

Law: numpy, safetensors, `meshd.bits` and `meshd.core` only; a process that predicts never loads
torch, and stays small.
"""

from __future__ import annotations

from meshd.hbnn.runtime.errors import ModelError
from meshd.hbnn.runtime.model import Model, load
from meshd.hbnn.runtime.outcome import Outcome, evaluate
from meshd.hbnn.runtime.sizes import model_size_report

__all__ = ["Model", "ModelError", "Outcome", "evaluate", "load", "model_size_report"]
