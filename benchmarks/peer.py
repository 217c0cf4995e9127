"""The official drag loop (XingangPan/DragGAN, viz/renderer.py) on our weights, from a checkout that is not ours.

Its Renderer is called without its window: `_render_drag_impl` is one step. What it imports for its window and for
pickles is replaced by empty modules. Its network is made as its `get_network` makes it, with our weights in it.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch

from drag import DragEdit
from weights import Generator


class Official:
    """The official loop for one generator. Runs on the CPU, or on the GPU where there is one."""

    def __init__(self, checkout: Path, generator: Generator):
        if not (checkout / "viz" / "renderer.py").is_file():
            raise SystemExit(f"{checkout} is no checkout of XingangPan/DragGAN: viz/renderer.py is missing")
        for name in ("legacy", "matplotlib", "matplotlib.cm", "requests"):
            sys.modules.setdefault(name, ModuleType(name))
        if str(checkout) not in sys.path:
            sys.path.insert(0, str(checkout))
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        from viz import renderer  # type: ignore[import-not-found]

        self.module, self.size, self.network = renderer, generator.resolution, official_network(generator)
        self.renderer = renderer.Renderer(disable_timing=True)
        self.renderer.get_network = lambda *_, **__: self.network

    def steps(
        self, latent: torch.Tensor, edit: DragEdit, lr: float = 0.001, within: float | None = None
    ) -> Iterator[SimpleNamespace]:
        """Its steps without end: `points` [N, 2] (x, y) as tracked, `latent` that was drawn, and `stop`.

        It goes on until all points are `within` so many pixels, the paper's 1 or 2, of their targets; by default as
        its window has it, 2 pixels or the share of larger pictures. `window` says where that would have stopped.
        """
        renderer, result = self.renderer, SimpleNamespace()
        renderer.init_network(result, w_load=latent[None], lr=lr)
        points = np.rint(edit.handles)[:, ::-1].astype(int).tolist()
        targets = np.rint(edit.targets)[:, ::-1].astype(int).tolist()
        mask = None if edit.movable is None else torch.from_numpy(~edit.movable).float()
        near = max(2 / 512 * self.size, 2)
        while True:
            # Its code has that distance as `max(2 / 512 * h, 2)`; all its other maxima have 0.
            self.module.max = lambda a, b: within if within and b == 2 else max(a, b)
            # The settings of its own window: lambda 20, radii 3 and 12 of 512, sixth block.
            renderer._render_drag_impl(result, points=points, targets=targets, mask=mask, lambda_mask=20, is_drag=True)
            points = result.points
            left = np.hypot(*(np.array(points, float) - targets).T)
            yield SimpleNamespace(
                points=np.array(points, float)[:, ::-1], latent=torch.from_numpy(result.w[0]), stop=result.stop,
                window=bool((left <= near).all()),
            )  # fmt: skip


def official_network(generator: Generator) -> torch.nn.Module:
    """Our weights in its network, in memory: the parameters have the same names."""
    from training.networks_stylegan2 import Generator as Network  # type: ignore[import-not-found]

    config = generator.network.config
    network = Network(
        z_dim=config.z_dim, c_dim=0, w_dim=config.w_dim, img_resolution=config.img_resolution, img_channels=3,
        mapping_kwargs={"num_layers": config.mapping_layers}, channel_base=config.channel_base,
        channel_max=config.channel_max, num_fp16_res=0, conv_clamp=None,
    )  # fmt: skip
    network.load_state_dict(copy.deepcopy(generator.network.state_dict()))
    return network.to(generator.device)
