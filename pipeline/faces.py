"""The faces of one photo. A session is one face; each further one that is chosen gets a session beside the edits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from align import Face, Photo, choose_face, find_faces
from pipeline.folder import StaleResult
from pipeline.history import NoSuchEdit
from pipeline.session import EditSession

FOLDER = "faces"  # in the first session's


def faces_of(session: EditSession) -> list[Face]:
    """The faces that were found in the photo when the session's was chosen, left to right; none where none was."""
    try:
        arrays = session.files.read("face").arrays
    except (StaleResult, ValueError):
        return []
    points = [arrays["points"], *arrays.get("others", ())] if "points" in arrays else []
    return sorted(map(_face, points), key=lambda face: face.box[0] + face.box[2])


def _face(points: np.ndarray) -> Face:
    """A face of which the points are known, and the detector's box no more: from the forehead to the chin."""
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return Face((left, top - 0.35 * (bottom - top), right, bottom), points, 0.0, "hog")


def is_of(session: EditSession, face: Face) -> bool:
    """Whether a session holds that face."""
    try:
        points = session.files.read("face").arrays.get("points")
    except (StaleResult, ValueError):
        return False
    return points is not None and bool(np.allclose(points, face.points))


class Faces:
    """The sessions of the faces of one photo: the one that was opened, and those in its folder's `faces`."""

    def __init__(self, first: EditSession):
        self.first = first

    @classmethod
    def around(cls, session: EditSession) -> Faces:
        """Those of the photo that a session is one face of, be it the first one or a further one."""
        above = session.folder.resolve().parent
        if above.name != FOLDER or not (above.parent / "face.safetensors").is_file():
            return cls(session)
        return cls(EditSession(above.parent, session.config, session.device))

    @cached_property
    def _sessions(self) -> list[EditSession]:
        folders = sorted((self.first.folder / FOLDER).glob("*/"))
        return [self.first, *(self._open(folder.name) for folder in folders)]

    def session(self, face: Face) -> EditSession:
        """The face's session; a new one where there is none."""
        found = next((session for session in self._sessions if is_of(session, face)), None)
        if found is None:
            x, y = np.rint(face.points.mean(0)).astype(int).tolist()
            found = self._open(f"{x},{y}")
            found.add_photo(self.first.files.photo)
            self._sessions.append(found)
        return found

    def _open(self, name: str) -> EditSession:
        session = EditSession(self.first.folder / FOLDER / name, self.first.config, self.first.device)
        session.photo = self.first.photo  # it is the same, and decoded once
        return session

    def aligned(self, which: str) -> EditSession:
        """The session of a face by its number, or of the largest, cut out. Raises NoFaceFound, FaceIndexError."""
        found = find_faces(self.first.photo.pixels)
        face = choose_face(found, which)
        fresh = not self.first.files.is_done("face", {}) or self.first.alignment != "face"
        session = self.first if fresh else self.session(face)
        if not is_of(session, face):
            session.align(which, found)
        return session

    def result(self) -> Photo:
        """The photo with the edits of all its faces. Raises StaleResult where one stands on what has changed since."""
        photo = self.first.photo
        for session in self._sessions:
            photo = session.result(onto=photo)
        return photo

    def others(self, session: EditSession) -> Photo:
        """The photo with the edits of all faces but a session's; of those that can still be used."""
        photo = self.first.photo
        for other in self._edited():
            if other is not session:
                photo = other.result(onto=photo)
        return photo

    def _edited(self) -> Iterator[EditSession]:
        for session in self._sessions:
            try:
                if session.current_edit is not None:
                    yield session
            except (StaleResult, NoSuchEdit, ValueError):
                continue  # what cannot be used any more is told when that face is gone to
