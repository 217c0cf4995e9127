"""From a face to a latent and a generator that draws it."""

from inversion.encoder import first_latent
from inversion.perceptual import Perceptual, PerceptualName, load_perceptual, perceptual_size
from inversion.pivot import PivotConfig, PivotStep, pivot
from inversion.tune import TuneConfig, TuneStep, tune

__all__ = [
    "Perceptual", "PerceptualName", "PivotConfig", "PivotStep", "TuneConfig", "TuneStep", "first_latent",
    "load_perceptual", "perceptual_size", "pivot", "tune",
]  # fmt: skip
