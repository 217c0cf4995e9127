"""What makes a studio's pictures more like photos: light, uneven light, another ground."""

from __future__ import annotations

import math

import torch

from weights.training.photographed import HEAD, before_another_ground, recoloured, shaded


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_light_changes_within_bounds() -> None:
    """Of 0.5 and at most by 0.3: a channel by 0.15 of it and 0.15, then all by 0.3 of that and 0.15, then the gamma."""
    images = torch.full((200, 3, 2, 2), 0.5)
    changed = recoloured(images, 0.3, seeded())
    brightest = ((1.3 * 0.725 + 0.15 + 1) / 2) ** math.exp(-0.3)  # of [0, 1]; above it is cut off
    darkest = ((0.7 * 0.275 - 0.15 + 1) / 2) ** math.exp(0.3)
    assert changed.min() >= 2 * darkest - 1 and changed.max() <= min(1.0, 2 * brightest - 1)
    far = (changed - images).abs().mean((1, 2, 3))  # of each picture
    assert far.max() > 0.2 and far.median() < 0.5 * far.max()  # some much, most a little
    assert (changed.std((1, 2, 3)) > 0).all()  # channels apart
    torch.testing.assert_close(recoloured(images, 0.0, torch.Generator()), images)


def test_uneven_light_is_smooth_and_as_strong_as_asked() -> None:
    """On a dark grey no light is cut off, so its logarithm can be read off."""
    dark = torch.full((400, 3, 32, 32), 2 * 0.01 - 1)
    light = ((shaded(dark, 0.7, seeded()) + 1) / 2 / 0.01).log()
    places = light[:, :, ::31, ::31] + 0.5 * 0.35  # the corners, where fields are normal numbers; 0.35 in the mean
    # The strength is evenly spread up to 0.7: its mean square is a third of 0.49. A third for channels apart.
    assert abs(float(places.mean())) < 0.03
    assert abs(float(places.square().mean()) / (0.49 / 3 * (1 + 1 / 9 + 1 / 16)) - 1) < 0.1
    between = (places - places.mean(1, keepdim=True)).square().mean() / (0.49 / 3 / 9 * 2 / 3)
    assert abs(float(between) - 1) < 0.1
    steps = (light[..., 1:] - light[..., :-1]).abs().amax((1, 2, 3))
    assert float((steps / light.std((1, 2, 3))).median()) < 0.5  # of 31 from side to side
    torch.testing.assert_close(shaded(dark, 0.0, seeded()), dark)


def test_light_stays_within_what_a_picture_can_show() -> None:
    bright = torch.full((50, 3, 8, 8), 0.9)
    changed = shaded(bright, 2.0, seeded())
    assert changed.max() == 1 and changed.min() >= -1


def test_another_ground_leaves_the_middle_and_comes_from_another_picture() -> None:
    n, size = 60, 32
    images = torch.linspace(-1, 1, n)[:, None, None, None].expand(n, 3, size, size).contiguous()
    changed = before_another_ground(images, 1.0, seeded())
    x, y = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="xy")
    middle = (x / HEAD[0]) ** 2 + (y / HEAD[1]) ** 2 <= 1
    assert torch.equal(changed[:, :, middle], images[:, :, middle])
    share = ((changed - images) / (images.roll(1, 0) - images))[:, 0]  # of the other picture, everywhere
    assert share.min() >= -1e-4 and share.max() <= 1 + 1e-4
    assert (share.amax((1, 2)) > 0.9).float().mean() > 0.6  # somewhere all of it, in most
    assert 0.1 < share[:, ~middle].mean() < 0.9


def test_another_ground_in_the_share_of_pictures_asked_for() -> None:
    images = torch.rand(400, 3, 16, 16, generator=seeded()) * 2 - 1

    def changed(share: float) -> float:
        far = (before_another_ground(images, share, seeded()) - images).abs().amax((1, 2, 3))
        return float((far > 1e-3).float().mean())

    assert changed(0.0) == 0
    assert abs(changed(0.5) / changed(1.0) - 0.5) < 0.08
