"""Steps of matrices in all their directions: known answers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from weights.training.muon import MOMENTUM, SHARE, Muon, orthogonal


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    """Of a matrix whose own go from 1 to 0.01, along the same singular vectors."""
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    near = orthogonal(left @ torch.diag(torch.logspace(0, -2, 16)) @ right)
    in_axes = left.T @ near @ right.T
    assert ((in_axes.diagonal() > 0.4) & (in_axes.diagonal() < 1.3)).all()
    assert (in_axes - torch.diag(in_axes.diagonal())).abs().max() < 0.05


def test_a_matrix_steps_against_its_gradient_by_a_share_of_the_rate() -> None:
    torch.manual_seed(0)
    matrix = nn.Parameter(torch.zeros(8, 2, 3, 3))
    gradient = torch.randn(8, 2, 3, 3)
    matrix.grad = gradient.clone()
    muon = Muon([{"params": [matrix]}], lr=0.5)
    muon.step()
    assert matrix.square().mean().sqrt().item() == pytest.approx(0.5 * SHARE, rel=1e-3)
    assert (matrix * gradient).sum() < 0
    matrix.grad = -gradient
    muon.step()  # the momentum turns with it, and all the way back goes as far
    torch.testing.assert_close(muon.state[matrix]["momentum"], -((1 - MOMENTUM) ** 2) * gradient)
    assert matrix.abs().max() < 0.01


def test_what_is_no_matrix_is_left_to_another() -> None:
    matrix, narrow, bias = (nn.Parameter(torch.ones(shape)) for shape in ((8, 8), (3, 64), (64,)))
    parameters = [matrix, narrow, bias]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    muon = Muon([{"params": [matrix, bias]}, {"params": [narrow]}], lr=0.1)
    assert [len(group["params"]) for group in muon.param_groups] == [1, 0]
    muon.step()
    assert matrix.grad is None and narrow.grad is not None and bias.grad is not None
    assert (matrix < 1).all() and (narrow == 1).all() and (bias == 1).all()


def test_no_gradient_is_no_step() -> None:
    matrix = nn.Parameter(torch.ones(8, 8))
    matrix.grad = torch.zeros(8, 8)
    Muon([{"params": [matrix]}], lr=0.1).step()
    assert torch.equal(matrix, torch.ones(8, 8))
