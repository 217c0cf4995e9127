"""Config: the stages' settings side by side. Each default is written where its algorithm is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from align import PasteConfig
from drag import DragConfig
from inversion import PivotConfig, TuneConfig
from weights import PerceptualName


@dataclass(frozen=True)
class Config:
    """How hard each stage tries."""

    perceptual: PerceptualName | None = None
    """How alike two faces look; by default ST-LPIPS for the embedded generator, else LPIPS if it can be had."""
    perceptual_size: int | None = None
    """Side of the pictures that it compares; by default a quarter of the generator's, 64 to 256."""
    pivot: PivotConfig = field(default_factory=PivotConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    drag: DragConfig = field(default_factory=DragConfig)
    paste: PasteConfig = field(default_factory=PasteConfig)

    def seeded(self, seed: int) -> Config:
        """The same settings with that seed in all that is random."""
        replace = dataclasses.replace
        return replace(self, pivot=replace(self.pivot, seed=seed), tune=replace(self.tune, seed=seed))
