"""Moving a latent so that points of its picture go where they are dragged."""

from drag.drag import FEW, DragConfig, DragStep, State, drag, motion_loss
from drag.edit import BadEdit, DragEdit
from drag.points import disc, sample, square, track

__all__ = [
    "FEW", "BadEdit", "DragConfig", "DragEdit", "DragStep", "State",
    "disc", "drag", "motion_loss", "sample", "square", "track",
]  # fmt: skip
