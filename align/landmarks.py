"""Every face in a photo and its 68 points, by dlib's detectors and regression trees.

Detectors: HOG (Dalal and Triggs 2005), and max-margin CNN (King 2015, arXiv 1502.00046) where HOG is unsure.
Points: Kazemi and Sullivan 2014, in the order of iBUG 300-W (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes,
48-67 mouth; the eye at 36 is the one on the left of the picture). All coordinates are (x, y) in pixels of the
photo, pixel centres at integers, so rescaling by s is `(p + 0.5) * s - 0.5`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import cv2
import dlib
import numpy as np

Box = tuple[float, float, float, float]  # left, top, right, bottom

# HOG sees faces from 40 px on: 2.5% of a photo's longer side at the first of these sizes, 1.3% at the second,
# which is tried only where the first finds none. On two cores 2 s and 8 s.
HOG_SIDES = (1600, 3200)
# HOG's own threshold is 0. In 22 photos faces score 1.16 and more, the one false find 0.12; but faces that
# are tilted or noisy go down to 0.0 as well, so in between the CNN is asked about that place (1 s).
HOG_SURE = 0.5
CNN_PIXELS = 600_000  # the CNN takes 15 s per million pixels on two cores: 9 s
CNN_LEAST = 80  # px: the smallest face that it sees; pictures of a few pixels crash it
CNN_FACE = 100  # px: a size that it sees well
# The box that the regression trees were trained with, as the points tell it: mean over 12 photos.
BOX_PER_RMS = 1 / 0.355  # its width, per rms distance of the points from their mean
BOX_CENTRE = (0.005, -0.037)  # its centre from the mean of the points, in box widths
FACE = 300  # px: width of that box in the picture that the trees are shown
# Scale a photo, and the points of a single box move by 1% of the eye distance; the mean of 18 by 0.3%.
SHIFTS = [(x, y, s) for x in (-0.04, 0, 0.04) for y in (-0.04, 0, 0.04) for s in (0.95, 1.05)]
# The detectors see turned faces. The trees do not, beyond some 30 degrees, and do not say so; but then the 18
# disagree. Mean deviation in boxes, six photos turned by 0 to 180 degrees: right and clean 0.0015 to 0.007,
# right and noisy up to 0.03, wrong from 0.01 on; the least over these turns was right in nearly all.
TURNS = (0, -45, 45, -90, 90, -135, 135, 180)
AGREED = 0.008
FOREHEAD = 0.5  # from the brows to the hair, per distance of the chin from between the eyes
DARK = 160  # of 255: where 99% is darker than this it is brightened, for the trees know no dark faces


class NoFaceFound(LookupError):
    """No face in the photo."""


class FaceIndexError(LookupError):
    """A face was asked for that the photo does not have."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face: `box` as the detector found it, `points` [68, 2]; scores compare within one detector only."""

    box: Box
    points: np.ndarray  # float64 [68, 2]
    score: float
    detector: Literal["hog", "cnn"]

    @property
    def area(self) -> float:
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


def find_faces(pixels: np.ndarray) -> list[Face]:
    """All faces in `pixels` uint8 [H, W, 3], left to right; raises NoFaceFound rather than return none."""
    pixels = np.ascontiguousarray(pixels)
    for side in HOG_SIDES:
        found = list(_hog_faces(pixels, side))
        if found or max(pixels.shape[:2]) <= side:
            break
    found = found or list(_cnn_faces(pixels))
    if not found:
        raise NoFaceFound(
            "no face found: take a photo in which the face is upright, well lit and larger; "
            "for what is no face: --align square"
        )
    return sorted(found, key=lambda face: face.box[0] + face.box[2])


def choose_face(faces: list[Face], which: str | int = "largest") -> Face:
    """The largest face, or the one of that number, counted from 1, left to right."""
    if which == "largest":
        return max(faces, key=lambda face: face.area)
    try:
        number = int(which)
    except ValueError:
        raise FaceIndexError(f"face {which!r}: give a number from 1 to {len(faces)}, or 'largest'") from None
    if not 1 <= number <= len(faces):
        raise FaceIndexError(f"face {number} of {len(faces)}: `photodrag faces photo.jpg` numbers them")
    return faces[number - 1]


def draw_faces(pixels: np.ndarray, faces: Iterable[Face]) -> np.ndarray:
    """A copy of the photo with every face's box, number and points."""
    drawn = np.ascontiguousarray(pixels).copy()
    line = max(1, round(max(drawn.shape[:2]) / 500))
    for number, face in enumerate(faces, 1):
        left, top, right, bottom = (round(v) for v in face.box)
        cv2.rectangle(drawn, (left, top), (right, bottom), (255, 210, 0), line)
        for x, y in face.points:
            cv2.circle(drawn, (round(x), round(y)), line, (0, 255, 120), -1)
        _draw_label(drawn, str(number), (max(left, 0), max(top, 0)), line)
    return drawn


def face_region(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Where in a photo of that (height, width) the face with these points [68, 2] is, forehead too: bool [H, W]."""
    up = points[27] - points[8]  # from the chin to between the eyes
    outline = np.concatenate([points, points[17:27] + FOREHEAD * up])
    hull = cv2.convexHull(np.rint(outline).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, (1,)).astype(bool)


def face_descriptor(pixels: np.ndarray, face: Face) -> np.ndarray:
    """dlib's 128 numbers of who it is, float64 [128]: two photos of one person are less than 0.6 apart."""
    view = _square(np.ascontiguousarray(pixels), _Place.of_points(face.points), 2 * FACE)
    points = [dlib.point(*p) for p in np.rint(view.from_photo(face.points)).astype(int).tolist()]
    shape = dlib.full_object_detection(_middle_box(), points)
    return np.array(_describer().compute_face_descriptor(view.pixels, shape))


@dataclass(frozen=True)
class _Place:
    """Where a face is in the photo: centre (x, y) and width of its box, how far it is turned clockwise."""

    centre: np.ndarray
    width: float
    angle: float = 0.0  # radians

    @classmethod
    def of_box(cls, box: Box) -> _Place:
        left, top, right, bottom = box
        return cls(np.array([left + right, top + bottom]) / 2, right - left)

    @classmethod
    def of_points(cls, points: np.ndarray) -> _Place:
        """The upright box that the regression trees were trained with, as nearly as the points tell."""
        mean, (x, y) = points.mean(0), points[42:48].mean(0) - points[36:42].mean(0)
        width = BOX_PER_RMS * math.sqrt(((points - mean) ** 2).sum(1).mean())
        along = np.array([x, y]) / math.hypot(x, y)
        down = np.array([-along[1], along[0]])
        return cls(mean + width * (BOX_CENTRE[0] * along + BOX_CENTRE[1] * down), width, math.atan2(y, x))


@dataclass(frozen=True)
class _View:
    """A picture of a part of the photo: view = matrix @ (x, y, 1)."""

    pixels: np.ndarray
    matrix: np.ndarray  # float64 [2, 3]

    def from_photo(self, points: np.ndarray) -> np.ndarray:  # [N, 2] -> [N, 2]
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_photo(self, points: np.ndarray) -> np.ndarray:  # [N, 2] -> [N, 2]
        return np.linalg.solve(self.matrix[:, :2], (points - self.matrix[:, 2]).T).T

    def box_to_photo(self, r: Any) -> Box:
        (left, top), (right, bottom) = self.to_photo(np.array([[r.left(), r.top()], [r.right(), r.bottom()]]))
        return float(left), float(top), float(right), float(bottom)


def _scaled(pixels: np.ndarray, scale: float) -> _View:
    """The whole picture, scaled to whole pixels (so the two axes may differ by a hair)."""
    height, width = pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    s = np.array(size) / (width, height)
    if size != (width, height):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return _View(pixels, np.column_stack([np.diag(s), 0.5 * s - 0.5]))


def _square(pixels: np.ndarray, place: _Place, size: int, boxes: float = 2) -> _View:
    """`place` upright, size x size pixels, `boxes` of its widths a side; past the photo its edge goes on."""
    side = boxes * place.width  # in photo pixels
    k = size / side
    c, s = k * math.cos(place.angle), k * math.sin(place.angle)
    turn = np.array([[c, s], [-s, c]])
    matrix = np.column_stack([turn, (size - 1) / 2 - turn @ place.centre])
    # First the part that is needed (0.75 > sqrt(1/2): the corners, turned), shrunk by area, because
    # warpAffine alone does not filter.
    limit, reach = np.array(pixels.shape[1::-1]), 0.75 * side
    first = np.clip(np.floor(place.centre - reach), 0, limit - 1).astype(int)
    last = np.clip(np.ceil(place.centre + reach) + 1, first + 1, limit).astype(int)
    part = _scaled(pixels[first[1] : last[1], first[0] : last[0]], min(k, 1))
    to_photo = np.linalg.inv(np.vstack([part.matrix, (0, 0, 1)]))
    to_photo[:2, 2] += first
    square = cv2.warpAffine(part.pixels, matrix @ to_photo, (size, size), borderMode=cv2.BORDER_REPLICATE)
    return _View(_lit(square), matrix)


def _lit(pixels: np.ndarray) -> np.ndarray:
    bright = max(float(np.percentile(pixels[::4, ::4], 99)), 1)
    return cv2.convertScaleAbs(pixels, alpha=DARK / bright) if bright < DARK else pixels


def _hog_faces(pixels: np.ndarray, side: int) -> Iterator[Face]:
    view = _scaled(pixels, min(1, side / max(pixels.shape[:2])))
    for rectangle, score, _ in zip(*_hog().run(_lit(view.pixels), 1), strict=True):
        box = view.box_to_photo(rectangle)
        if score >= HOG_SURE or _cnn_agrees(pixels, box):
            yield Face(box, _find_points(pixels, box), float(score), "hog")


def _cnn_faces(pixels: np.ndarray) -> Iterator[Face]:
    height, width = pixels.shape[:2]
    view = _scaled(pixels, min(2, math.sqrt(CNN_PIXELS / (height * width))))
    if min(view.pixels.shape[:2]) < CNN_LEAST:
        return
    for found in _cnn()(_lit(view.pixels), 0):
        box = view.box_to_photo(found.rect)
        yield Face(box, _find_points(pixels, box), float(found.confidence), "cnn")


def _cnn_agrees(pixels: np.ndarray, box: Box) -> bool:
    """Whether the CNN, shown the place at a size that suits it, sees a face there too."""
    view = _square(pixels, _Place.of_box(box), 3 * CNN_FACE, boxes=3)
    middles = [found.rect.center() for found in _cnn()(view.pixels, 0)]
    return any(max(abs(p.x - 1.5 * CNN_FACE), abs(p.y - 1.5 * CNN_FACE)) < CNN_FACE / 2 for p in middles)


def _find_points(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The 68 points, float64 [68, 2], from the turn at which the trees agree (0.15 s each)."""
    tries = []
    for degrees in TURNS:
        tries.append(_points_from(pixels, replace(_Place.of_box(box), angle=math.radians(degrees))))
        if tries[-1][1] < AGREED:
            break
    return min(tries, key=lambda tried: tried[1])[0]


def _points_from(pixels: np.ndarray, place: _Place) -> tuple[np.ndarray, float]:
    """The 68 points, each time as upright as the last ones say; how far the shifts part."""
    for shifts in ([(0, 0, 1)], [(0, 0, 1)], SHIFTS):
        view = _square(pixels, place, 2 * FACE)
        said = np.array([_trees_say(view, *shift) for shift in shifts])  # [shifts, 68, 2]
        points = view.to_photo(said.mean(0))
        place = _Place.of_points(points)
    return points, float(said.std(0).mean()) / FACE


def _trees_say(view: _View, x: float, y: float, scale: float) -> np.ndarray:
    """The points in `view`, float64 [68, 2], from the box in its middle, moved and scaled by so much."""
    shape = _trees()(view.pixels, _middle_box(x, y, scale))
    return np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)


def _middle_box(x: float = 0, y: float = 0, scale: float = 1) -> Any:
    reach = scale * FACE / 2
    middle = FACE - 0.5 + FACE * np.array([x, y])
    return dlib.rectangle(*np.rint([*(middle - reach), *(middle + reach)]).astype(int).tolist())


def _draw_label(drawn: np.ndarray, text: str, corner: tuple[int, int], line: int) -> None:
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5 + 0.4 * line
    (width, height), below = cv2.getTextSize(text, font, size, line)
    x, y = min(corner[0], drawn.shape[1] - width), min(corner[1], drawn.shape[0] - height)
    cv2.rectangle(drawn, (x, y), (x + width + 2 * line, y + height + below), (255, 210, 0), -1)
    cv2.putText(drawn, text, (x + line, y + height + below // 2), font, size, (0, 0, 0), line, cv2.LINE_AA)


# The models, each read once, when first needed: 0.7 s for the trees.


@cache
def _hog() -> Any:
    return dlib.get_frontal_face_detector()


@cache
def _cnn() -> Any:
    return dlib.cnn_face_detection_model_v1(_model_file("mmod_human_face_detector.dat"))


@cache
def _trees() -> Any:
    return dlib.shape_predictor(_model_file("shape_predictor_68_face_landmarks.dat"))


@cache
def _describer() -> Any:
    return dlib.face_recognition_model_v1(_model_file("dlib_face_recognition_resnet_model_v1.dat"))


def _model_file(name: str) -> str:
    return str(resources.files("face_recognition_models") / "models" / name)
