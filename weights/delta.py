"""A tuned generator as the difference to its base: small, and lossless to the eye.

Every weight's difference is rounded to a step that is a share of its output channel's own size, so that rounding
disturbs all layers alike (demodulation makes a channel's output independent of that size). The share is the coarsest
at which the picture at the pivot keeps to within HALF a level of 255; what is left is mostly small whole numbers, which
deflate packs. Biases and other small parts stay as they are.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from weights.generator import Generator
from weights.hub import WeightsCorrupt

COARSE, FINE = 2.0**-9, 2.0**-15  # steps, as shares of a channel's root mean square
HALF = 0.5  # of 255: a pixel's greatest change, so that even after rounding to bytes none differs by more than one


@torch.inference_mode(False)
@torch.no_grad()
def pack_tuning(base: Generator, weights: Mapping[str, Tensor], latent: Tensor) -> tuple[dict[str, np.ndarray], float]:
    """The difference of tuned synthesis weights to those of `base`, and the share its steps are of each channel.

    `latent` [num_ws, w_dim] is where it will be looked at, the pivot.
    """
    before = dict(base.network.synthesis.named_parameters())
    wanted = base.tuned(dict(weights)).render(latent[None])
    share = COARSE
    while True:
        rounded = {name: _rounded(new - before[name], before[name], share) for name, new in weights.items()}
        drawn = base.tuned(_summed(before, rounded, share)).render(latent[None])
        off = float((drawn - wanted).abs().max()) * 127.5
        if off <= HALF or share <= FINE:
            break
        # What is off grows with the step, but not evenly: while steps are as large as the changes, rounding takes part
        # of the tuning away. So not too far at once.
        share *= 2.0 ** max(-2, math.floor(math.log2(HALF / off)))
    return {name: _pack(part) for name, part in rounded.items()}, share


def unpack_tuning(base: Generator, packed: Mapping[str, np.ndarray], share: float) -> dict[str, Tensor]:
    """The tuned weights again. Raises WeightsCorrupt where the difference is damaged or another generator's."""
    before = dict(base.network.synthesis.named_parameters())
    try:
        parts = {name: _unpack(data, before[name]) for name, data in packed.items()}
        return _summed(before, parts, share)
    except (KeyError, ValueError, RuntimeError, zlib.error) as error:
        raise WeightsCorrupt(f"the tuning is damaged, or another generator's ({error}): invert again") from error


def _summed(before: Mapping[str, Tensor], parts: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    return {
        name: before[name] + (part.to(before[name]) if part.is_floating_point() else part * _step(before[name], share))
        for name, part in parts.items()
    }


def _step(before: Tensor, share: float) -> Tensor:
    """The step of each output channel [O, 1, ...]."""
    return before.square().mean(tuple(range(1, before.ndim)), keepdim=True).sqrt().clamp(min=1e-8) * share


def _rounded(difference: Tensor, before: Tensor, share: float) -> Tensor:
    """int16 multiples of the step; of small parameters, and of what is too far from its base, the difference itself."""
    if before.ndim < 2:
        return difference
    steps = (difference / _step(before, share)).round()
    return steps.short() if steps.abs().max() < 2**15 else difference


def _pack(part: Tensor) -> np.ndarray:
    if part.is_floating_point():
        return part.float().cpu().numpy()
    numbers = part.cpu().numpy().ravel()
    folded = (numbers << 1 ^ numbers >> 15).view(np.uint16)  # 0, -1, 1, -2, ... as 0, 1, 2, 3, ...: high bytes are 0
    planes = folded.astype("<u2").view(np.uint8).reshape(-1, 2).T.tobytes()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_RLE)  # there is nothing to match but runs of zero
    return np.frombuffer(deflate.compress(planes) + deflate.flush(), np.uint8)


def _unpack(data: np.ndarray, before: Tensor) -> Tensor:
    if data.dtype != np.uint8:
        return torch.from_numpy(data).reshape(before.shape)
    planes = zlib.decompressobj(-15).decompress(data.tobytes(), 2 * before.numel())
    folded = np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(2, -1).T).view("<u2").ravel()
    numbers = (folded >> 1).astype(np.int16) ^ -(folded & 1).astype(np.int16)
    return torch.from_numpy(numbers).reshape(before.shape).to(before.device)
