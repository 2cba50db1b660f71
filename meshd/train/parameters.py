"""A network's parameters as the ring sees them: slices of one flat vector.

The network itself holds what it computes with: dense parameters as they are, binary layers packed.
Latents and moments lie in `SliceState`s, one for each slice that this member holds.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from meshd.bits import ops
from meshd.core.slices import Slice, SliceMap, TensorShape, cut_slices, padding_ranges
from meshd.hbnn.networks import as_rows, binary_layers, parameter_table
from meshd.hbnn.packed import PackedWeight
from meshd.train.errors import TrainingError
from meshd.train.optimizer import SliceState

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]


class NetworkParameters:
    """Joins a network, its slice map and the packed arrays of its binary layers."""

    def __init__(self, net: torch.nn.Sequential, gamma: int) -> None:
        table = parameter_table(net)
        self.slice_map: SliceMap = cut_slices(
            [TensorShape(entry.name, entry.rows, entry.columns, entry.beta) for entry in table],
            gamma,
        )
        self._padding = padding_ranges(self.slice_map)
        self._tensors = dict(net.named_parameters())
        self._layers = binary_layers(net)
        self._dense: dict[str, Floats] = {}
        self._packed: dict[str, tuple[Words, Floats]] = {}
        for entry in table:
            if entry.beta:
                self._packed[entry.name] = (
                    np.zeros((entry.rows, ops.words(entry.columns)), np.uint64),
                    np.zeros((entry.rows, ops.segments(entry.columns, entry.beta)), np.float32),
                )
            else:
                self._dense[entry.name] = _flat_view(entry.name, self._tensors[entry.name])

    def copy_gradient(self, start: int, stop: int, weight: float, out: Floats) -> None:
        """Copy a range of whole slices' gradients (stop - start,), times `weight`; none is 0."""
        for part in self.slice_map.slices:
            if not start <= part.offset < stop:
                continue
            at = part.offset - start
            place = out[at : at + part.padded]
            gradient = self._tensors[part.tensor.name].grad
            place[part.size :] = 0.0
            if gradient is None:
                place[: part.size] = 0.0
            else:
                own = _flat(gradient)[part.start : part.stop]
                np.multiply(own, np.float32(weight), out=place[: part.size])

    def tensor(self, name: str) -> torch.Tensor:
        """A parameter by the name that slices have of it."""
        return self._tensors[name]

    def forget_gradients(self) -> None:
        """Before the next backward pass."""
        for tensor in self._tensors.values():
            tensor.grad = None

    def take_gradients(self) -> dict[str, Floats]:
        """Every parameter's gradient, flat, in the memory that it was computed in; forgotten here.

        For who needs no flat vector of all of them: nothing is copied.
        """
        taken = {}
        for name, tensor in self._tensors.items():
            gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            taken[name] = _flat(gradient)
            tensor.grad = None
        return taken

    def clear_padding(self, flat: Floats) -> None:
        """Zero the elements of a flat vector (padded,) that are no parameter."""
        for start, stop in self._padding:
            flat[start:stop] = 0.0

    def real_places(self) -> NDArray[np.bool_]:
        """Which elements of a flat vector are parameters, bool (padded,)."""
        real = np.ones(self.slice_map.padded, np.bool_)
        for start, stop in self._padding:
            real[start:stop] = False
        return real

    def segment_correction(self) -> Floats:
        """Factors (segments,) that turn means over gamma elements into means over the real ones.

        A slice's last segment may hold k < gamma parameters, the rest padding that is 0: its mean
        is too small by k / gamma.
        """
        real = self.real_places().reshape(-1, self.slice_map.gamma).sum(axis=1).astype(np.float32)
        # A slice's padding is less than gamma, so no segment is empty.
        correction: Floats = (np.float32(self.slice_map.gamma) / real).astype(np.float32)
        return correction

    def begin(self, held: Iterable[int], moments: int) -> dict[int, SliceState]:
        """Binarize a new network's first latents; return the states of the `held` slices.

        `moments`: how many numbers the optimizer keeps for each latent. Every member draws all
        latents, since the network needs them binarized.
        """
        states: dict[int, SliceState] = {}
        wanted = set(held)
        for part in self.slice_map.slices:
            latents = _flat(self._tensors[part.tensor.name])
            own = latents[part.start : part.stop].copy()
            self.set_from_latents(part, own)
            if part.index in wanted:
                states[part.index] = SliceState.begin(own, moments)
        self.show()
        return states

    def cut_of(self, part: Slice) -> float | None:
        """Where the straight-through estimator cuts a binary slice's latents; None: nowhere."""
        return self._layers[part.tensor.name].rule.cut

    def set_from_latents(self, part: Slice, latents: Floats) -> None:
        """Give the network a slice's new values: dense as they are, binary binarized.

        Scales are rounded to float16, which is what the ring carries and the network uses.

        Raises:
            TrainingError: a scale has no float16 form: training has diverged.
        """
        if not part.binary:
            self._dense[part.tensor.name][part.start : part.stop] = latents
            return
        matrix = latents.reshape(-1, part.tensor.columns)
        self.set_binarized(part, *ops.pack_signed(matrix, part.tensor.beta))

    def set_binarized(self, part: Slice, words: Words, scales: Floats) -> None:
        """Give the network a binary slice's new bits and float32 scales, these as float16.

        Raises:
            TrainingError: a scale has no float16 form: training has diverged.
        """
        self.set_packed(part, words, self.rounded(part, scales))

    def rounded(self, part: Slice, scales: Floats) -> Floats:
        """Scales as the ring carries and the network uses them: rounded to float16, as float32.

        Raises:
            TrainingError: a scale has no float16 form: training has diverged.
        """
        with np.errstate(over="ignore"):
            rounded: Floats = scales.astype(np.float16).astype(np.float32)  # never negative
        if not bool(np.isfinite(rounded).all()):
            raise TrainingError(
                f"training diverged: weights of {part.tensor.name} are beyond float16; lower"
                " training.learning_rate"
            )
        return rounded

    def set_packed(self, part: Slice, words: Words, scales: Floats) -> None:
        """Give the network a binary slice's finished weights, (rows, words) and (rows, scales)."""
        first, last = part.rows
        all_words, all_scales = self._packed[part.tensor.name]
        all_words[first:last] = words
        all_scales[first:last] = scales

    def packed_of(self, part: Slice) -> tuple[Words, Floats]:
        """A binary slice's finished weights: views of (rows, words) and (rows, scales)."""
        first, last = part.rows
        all_words, all_scales = self._packed[part.tensor.name]
        return all_words[first:last], all_scales[first:last]

    def show(self) -> None:
        """Make the packed arrays what the network computes with, after a step or a load.

        The layers share the arrays: a step costs neither a copy nor the floats that they stand for.
        """
        for name, (words, scales) in self._packed.items():
            self._layers[name].share_packed(PackedWeight(words, scales))


def _flat(tensor: torch.Tensor) -> Floats:
    """A parameter's elements, or its gradient's, row after row of its `Parameter`."""
    flat: Floats = as_rows(tensor.detach()).reshape(-1).numpy()
    return flat


def _flat_view(name: str, tensor: torch.Tensor) -> Floats:
    """As `_flat`, in the parameter's own memory. ValueError where it does not lie in rows."""
    flat = as_rows(tensor.detach())
    if flat.data_ptr() != tensor.data_ptr() or not flat.is_contiguous():
        raise ValueError(f"parameter {name} does not lie in rows; filters must be channels last")
    return _flat(tensor)
