"""The tuning as a small file: nothing to see of the rounding, and a quarter of the weights at most."""

import numpy as np
import pytest
import torch
from conftest import small_generator

from weights import Generator, StyleGAN2, StyleGAN2Config, WeightsCorrupt, pack_tuning, unpack_tuning


def tuned(base: Generator, by: float) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: p + by * torch.randn_like(p) for name, p in base.network.synthesis.named_parameters()}


def wide_generator() -> Generator:
    """64 px, channels enough for weights to be most of it, and the contrast of pictures."""
    torch.manual_seed(0)
    config = StyleGAN2Config(64, z_dim=64, w_dim=64, mapping_layers=1, channel_max=96)
    network = StyleGAN2(config).eval().requires_grad_(False)
    for resolution in config.resolutions:
        network.get_parameter(f"synthesis.b{resolution}.torgb.weight").mul_(0.3)
    return Generator(network, "wide", "0" * 64)


@pytest.mark.parametrize(("by", "share_of_size"), [(1e-3, 0.1), (1e-2, 0.2), (3e-2, 0.25)])
def test_nothing_is_seen_of_the_rounding_and_the_file_is_small(by: float, share_of_size: float) -> None:
    base = wide_generator()
    weights, latent = tuned(base, by), base.sample(1, seed=0)[0]
    packed, share = pack_tuning(base, weights, latent)
    again = base.tuned(unpack_tuning(base, packed, share))
    difference = (again.render(latent[None]) - base.tuned(weights).render(latent[None])).abs().max() * 127.5
    assert 0 < difference <= 0.5
    size = sum(array.nbytes for array in packed.values())
    assert size <= share_of_size * sum(tensor.nbytes for tensor in weights.values())


def test_no_tuning_at_all_takes_next_to_nothing() -> None:
    base = small_generator()
    packed, share = pack_tuning(base, tuned(base, 0.0), base.mean_latent)
    for name, weight in unpack_tuning(base, packed, share).items():
        assert torch.equal(weight, base.network.synthesis.get_parameter(name))


def test_numbers_of_every_size_come_back() -> None:
    base = small_generator()
    name = "b8.conv0.weight"
    before = base.network.synthesis.get_parameter(name)
    step = before.square().mean((1, 2, 3), keepdim=True).sqrt() * 2.0**-9
    for reach in (1, 127, 128, 32000, 10**6):  # the last is too far for whole numbers, and kept as it is
        change = torch.linspace(-reach, reach, before.numel()).round().reshape(before.shape) * step
        packed, share = pack_tuning(base, {name: before + change}, base.mean_latent)
        assert share <= 2.0**-9
        again = unpack_tuning(base, packed, share)[name]
        torch.testing.assert_close(again, before + change, atol=float(step.max()) / 2 + 1e-3 * (reach > 1e5), rtol=1e-6)


def test_a_damaged_or_foreign_tuning_is_refused() -> None:
    base = small_generator()
    packed, share = pack_tuning(base, tuned(base, 0.01), base.mean_latent)
    name = "b8.conv0.weight"
    cut, foreign = {**packed, name: packed[name][:10]}, {**packed, "b64.conv0.weight": packed[name]}
    noise = {**packed, name: np.frombuffer(b"no deflate stream", np.uint8)}
    for bad in (cut, foreign, noise):
        with pytest.raises(WeightsCorrupt, match="damaged, or another generator's"):
            unpack_tuning(base, bad, share)
