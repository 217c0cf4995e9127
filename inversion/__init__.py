"""From a face to a latent and a generator that draws it."""

from inversion.encoder import first_latent
from inversion.pivot import PivotConfig, PivotStep, pivot
from inversion.tune import TuneConfig, TuneStep, tune

__all__ = ["PivotConfig", "PivotStep", "TuneConfig", "TuneStep", "first_latent", "pivot", "tune"]
