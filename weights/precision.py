"""Products in bfloat16, in the loops that draw whole pictures, on processors that have instructions for them.

Half the digits, twice the speed, and nothing to be seen in what comes out. Weights, latents, pictures, losses and what
is kept stay in single precision. On processors without such instructions bfloat16 is slower, and is not used.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

import torch
from torch import nn

INSTRUCTIONS = ("avx512_bf16", "amx_bf16")

N = TypeVar("N", bound=nn.Module)


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it. A torch that cannot tell (before 2.13) says no."""
    told: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(told.get(name, False) for name in INSTRUCTIONS)


def product_type(device: torch.device | str) -> torch.dtype:
    """In which networks multiply fastest there. GPUs: single precision, for bfloat16 has not been measured there."""
    return torch.bfloat16 if torch.device(device).type == "cpu" and multiplies_bfloat16() else torch.float32


def fast_products(device: torch.device) -> AbstractContextManager[None]:
    """Within, networks multiply in that type. Convert what they return to single precision before going on."""
    return torch.autocast(device.type, torch.bfloat16, enabled=product_type(device) == torch.bfloat16)


def channels_last(network: N) -> N:
    """The same network, its convolutions' weights laid in that order, which their outputs follow."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def fast_copy(network: N, device: torch.device) -> N:
    """A copy that is laid as `fast_products` wants it."""
    twin = copy.deepcopy(network)
    return channels_last(twin) if product_type(device) == torch.bfloat16 else twin
