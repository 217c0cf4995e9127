"""The network: equal to the official one, repeatable, differentiable, at any resolution."""

import pytest
import safetensors.torch
import torch
from conftest import DATA, small_generator
from safetensors import safe_open

from weights import StyleGAN2, StyleGAN2Config, WeightsCorrupt, WeightsMissing, load_generator, save_generator


def test_same_names_and_picture_as_the_official_network() -> None:
    """The file was made by NVIDIA's stylegan2-ada-pytorch: random weights, biases and noise, and what it drew."""
    with safe_open(DATA / "stylegan2_golden.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = StyleGAN2Config.from_metadata(file.metadata())
    network = StyleGAN2(config).eval()
    network.load_state_dict(
        {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}, strict=True
    )
    with torch.no_grad():
        latents = network.mapping(tensors["z"], psi=0.7)
        images = network.synthesis(latents)
    torch.testing.assert_close(latents, tensors["latents"], atol=1e-5, rtol=0)
    torch.testing.assert_close(images, tensors["images"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_rows_follow_from_the_resolution(resolution: int) -> None:
    generator = small_generator(resolution)
    assert generator.num_ws == 2 * (resolution.bit_length() - 1) - 2
    latents = generator.sample(2, seed=1)
    assert generator.render(latents).shape == (2, 3, resolution, resolution)
    assert generator.features(latents, 16).shape == (2, 8, 16, 16)


def test_every_row_matters_and_only_rows_up_to_a_block_reach_it() -> None:
    generator = small_generator()
    latents = generator.sample(1, seed=1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(generator.render(latents).square().sum(), latents)
    assert (gradient.abs().sum(2) > 0).all()
    (gradient,) = torch.autograd.grad(generator.features(latents, 8).square().sum(), latents)
    # b4 has one convolution and b8 two: rows 0, 1 and 2.
    assert (gradient.abs().sum(2)[0] > 0).tolist() == [True] * 3 + [False] * (generator.num_ws - 3)


def test_a_sample_depends_on_its_seed_alone_and_psi_draws_to_the_mean() -> None:
    generator = small_generator()
    assert torch.equal(generator.sample(2, seed=3), generator.sample(2, seed=3))
    assert not torch.equal(generator.sample(2, seed=3), generator.sample(2, seed=4))
    torch.testing.assert_close(generator.sample(1, seed=3, psi=0.0)[0], generator.mean_latent)
    assert torch.equal(*(generator.render(generator.sample(1, seed=3)) for _ in range(2)))


def test_noise_of_its_own_depends_on_its_seed_alone_and_counts_by_its_strength() -> None:
    generator = small_generator()
    latents = generator.sample(3, seed=1)
    constant = generator.render(latents)
    assert torch.equal(generator.render(latents, seeds=[1, 2, 3]), constant)  # its strengths are zero
    layers = generator.network.synthesis.layers(generator.resolution)
    for layer in layers:
        layer.noise_strength.fill_(0.5)
    constant, own = generator.render(latents), generator.render(latents, seeds=[1, 2, 2])
    torch.testing.assert_close(generator.render(latents[1:2], seeds=[2]), own[1:2])
    other = generator.render(latents, seeds=[4, 2, 2])
    torch.testing.assert_close(other[1:], own[1:])
    assert not torch.allclose(other[0], own[0], atol=0.01) and not torch.allclose(constant[2], own[2], atol=0.01)
    same = [layer.noise_const.expand(3, -1, -1) for layer in layers]
    torch.testing.assert_close(generator.network.synthesis(latents, same), constant)


def test_embedded_generator_is_there_and_draws() -> None:
    generator = load_generator("embedded")
    image = generator.render(generator.sample(1, seed=0, psi=0.5))
    assert image.shape == (1, 3, generator.resolution, generator.resolution)
    assert 0.1 < image.std() < 1  # neither flat nor noise


def test_saved_generator_is_read_back(tmp_path) -> None:
    generator = small_generator()
    save_generator(generator.network, tmp_path / "g.safetensors", torch.float32)
    again = load_generator(tmp_path / "g.safetensors")
    latents = generator.sample(1, seed=0)
    assert torch.equal(generator.render(latents), again.render(latents))


def test_axes_of_another_network_are_refused(tmp_path) -> None:
    network = small_generator().network
    tensors = {**network.state_dict(), "axes": torch.eye(network.config.w_dim + 1)}
    safetensors.torch.save_file(tensors, tmp_path / "g.safetensors", network.config.to_metadata())
    with pytest.raises(WeightsCorrupt, match="its axes are"):
        load_generator(tmp_path / "g.safetensors")


def test_a_tuned_generator_leaves_the_first_alone() -> None:
    generator = small_generator()
    latents = generator.sample(1, seed=0)
    before = generator.render(latents)
    name, weight = next(iter(generator.network.synthesis.named_parameters()))
    tuned = generator.tuned({name: weight + 1})
    assert torch.equal(generator.render(latents), before)
    assert not torch.equal(tuned.render(latents), before)


def test_what_is_no_generator_is_refused(tmp_path) -> None:
    with pytest.raises(WeightsMissing, match="embedded"):
        load_generator("no-such-thing")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a network")
    with pytest.raises(WeightsCorrupt, match="neither a pickle"):
        load_generator(broken)
