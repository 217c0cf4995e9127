"""From a photo to an aligned face and back. No torch here."""

from align.face import AlignedFace, ffhq_crop, ffhq_quad
from align.landmarks import (
    Face,
    FaceIndexError,
    NoFaceFound,
    choose_face,
    draw_faces,
    face_descriptor,
    face_region,
    find_faces,
)  # fmt: skip
from align.paste import Change, Drawing, Mode, PasteConfig, find_change, lay_over, paste, paste_layers
from align.photo import Photo, PhotoError, read_mask
from align.pins import Pins, landed, pinned, sampled, settle, together
from align.square import Alignment, BadBox, Box, square_crop, square_quad, whole_quad

__all__ = [
    "AlignedFace", "Alignment", "BadBox", "Box", "Change", "Drawing", "Face", "FaceIndexError", "Mode", "NoFaceFound",
    "PasteConfig", "Photo", "PhotoError", "Pins", "choose_face", "draw_faces", "face_descriptor", "face_region",
    "ffhq_crop", "ffhq_quad", "find_change", "find_faces", "landed", "lay_over", "paste", "paste_layers", "pinned",
    "read_mask", "sampled", "settle", "square_crop", "square_quad", "together", "whole_quad",
]  # fmt: skip
