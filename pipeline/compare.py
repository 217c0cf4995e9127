"""Edits side by side: what differs between two results, and a session's whole tree as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.edits import PHOTO
from pipeline.history import Entry, in_tree_order, told
from pipeline.report import identity_distance, strip

SEEN = 64  # of 255: a difference of this size is drawn as the strongest
TILE = 320  # height of a picture in the tree
GAP = 12


@dataclass(frozen=True)
class Difference:
    """What differs between two pictures of one photo."""

    pixels: int  # how many differ at all
    largest: int  # of 255
    mean: float  # of 255, over those that differ
    box: tuple[int, int, int, int] | None  # left, top, right, bottom of those that differ; right and bottom excluded
    identity: float | None  # distance of dlib's descriptors, one person below 0.6; None: no face in one


def difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """Compares pixels uint8 [H, W, 3]."""
    apart = _apart(a, b)
    y, x = np.nonzero(apart)
    if len(x) == 0:
        return Difference(0, 0, 0.0, None, 0.0)
    box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
    return Difference(len(x), int(apart.max()), float(apart[y, x].mean()), box, identity_distance(a, b))


def heat_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two pictures differ, uint8 [H, W, 3]: the darkened grey of the first, under colours from blue to red."""
    strength = np.minimum(_apart(a, b).astype(np.float32) / SEEN, 1)
    colours = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    grey = np.repeat(cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)[..., None], 3, 2) * 0.5
    share = np.minimum(strength * 4, 1)[..., None]
    return np.rint(grey + share * (colours - grey)).astype(np.uint8)


def side_by_side(names: tuple[str, str], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two pictures and where they differ."""
    return strip({names[0]: a, names[1]: b, f"difference (red: {SEEN} of 255 and more)": heat_map(a, b)}, 480)


def contact_sheet(entries: Sequence[Entry], pictures: Mapping[int, np.ndarray]) -> np.ndarray:
    """The tree of edits: the photo on the left, each edit to the right of what it stands on, branches downwards.

    `pictures` by number, all of one shape; 0 is the photo. An edit without one is a grey tile.
    """
    blank = np.full_like(pictures[PHOTO], 220)
    tiles = {(0, 0): strip({"photo": pictures[PHOTO]}, TILE)}
    row, depth_before = 0, 0
    for entry, depth in in_tree_order(entries):
        row += depth <= depth_before  # a branch: not to the right of the one before it
        tiles[row, depth] = strip({_caption(entry): pictures.get(entry.number, blank)}, TILE)
        depth_before = depth
    height, width = (size + GAP for size in tiles[0, 0].shape[:2])
    rows, columns = (max(place[axis] for place in tiles) + 1 for axis in (0, 1))
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for (row, column), tile in tiles.items():
        top, left = row * height, column * width
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def _caption(entry: Entry) -> str:
    mark = " (current)" if entry.current else ""
    stands = "" if entry.parent is None else f" on {told(entry.parent).removeprefix('the ')}"
    how = "lost" if entry.outcome is None else f"{entry.outcome.score:.1f} px left"
    return f"edit {entry.number}{stands}{mark}: {how}"


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(np.int16) - b).max(2)
