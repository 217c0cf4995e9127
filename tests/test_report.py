"""The report: figures worked out by hand, and a page that stands alone."""

import numpy as np
import pytest

from pipeline.report import seam


def test_the_seam_of_a_step_on_a_ramp() -> None:
    """Central differences beside a step of 10 change by 5, where the photo itself rises by 2."""
    ramp = np.broadcast_to(2 * np.arange(16, dtype=np.uint8)[None, :, None], (12, 16, 3)).copy()
    raised = ramp.copy()
    raised[:, 8:] += 10
    rim = seam(ramp, raised)
    assert rim is not None
    assert (rim.own, rim.difference) == (pytest.approx(2), pytest.approx(5))
    assert seam(ramp, ramp) is None
