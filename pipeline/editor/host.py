"""The host: one session, the clients that look at it, and a loop over the session's steps. Nothing else.

Everything that happens to the session happens in the worker's thread, one job at a time. What was said last is kept,
so that a client that comes, or comes back, sees the session as it is; two clients see the same.
"""

from __future__ import annotations

import base64
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from align import Face, NoFaceFound, Photo, choose_face, find_faces
from drag import BadEdit, DragStep
from inversion import PivotStep, TuneStep
from pipeline.commands.common import USER_ERRORS, told
from pipeline.editor.generators import offers, polled, to_fetch
from pipeline.editor.protocol import (
    BadMessage,
    Begin,
    Control,
    Drag,
    Export,
    GoTo,
    Hello,
    Message,
    Move,
    Request,
    Shown,
    Sketch,
    read_request,
)
from pipeline.editor.sketch import SketchPad
from pipeline.editor.view import (
    LARGEST,
    View,
    box_of,
    corners_of,
    describe_steps,
    jpeg,
    reconstruction,
    reduced,
    thumb_of,
)
from pipeline.editor.worker import Job, Worker
from pipeline.edits import PHOTO, Layer, seen
from pipeline.faces import Faces, faces_of, is_of
from pipeline.folder import StaleResult
from pipeline.gestures import GESTURES, ask
from pipeline.history import Entry
from pipeline.progress import S
from pipeline.session import EditSession
from weights import Generator, KnownFile, Received, download, find_generator, load_generator

log = logging.getLogger(__name__)
MIME = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".heic": "image/heic", ".heif": "image/heif"}
GESTURE_SLIDERS = [{"name": name, "help": g.help, "low": g.low, "high": g.high} for name, g in GESTURES.items()]
EVERY = 0.1  # seconds between two steps that are told: a browser takes from the steps what it draws with
EACH = ("problem", "file", "note")  # kinds of which every message counts; of the others the newest


class Outbox:
    """What one client is still to be sent. A slow one gets fewer messages, never older ones.

    The next frame waits until the last is on the client's screen.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None):
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: dict[object, Message] = {}  # in the order of what they say
        self._on_its_way = False  # a frame

    def put(self, message: Message) -> None:
        key: object = object() if message.kind in EACH else message.kind
        with self._lock:
            self._waiting.pop(key, None)
            self._waiting[key] = message
        self._wake()

    def take(self) -> list[Message]:
        """All that may be sent now."""
        with self._lock:
            held = self._waiting.pop("frame", None) if self._on_its_way else None
            messages = list(self._waiting.values())
            self._on_its_way |= any(message.kind == "frame" for message in messages)
            self._waiting = {"frame": held} if held else {}
            return messages

    def shown(self) -> None:
        with self._lock:
            self._on_its_way = False
        self._wake()

    @property
    def wants_frame(self) -> bool:
        return not self._on_its_way


class Host:
    """A photo's session that editors look at; where the photo has several faces, the session of one at a time."""

    def __init__(self, session: EditSession, worker: Worker, generators: Sequence[str] = ("embedded",)):
        self.session, self.worker, self.generators = session, worker, tuple(generators)
        self._all, self._pad = Faces(session), SketchPad(session.folder)
        self._base: Photo | None = None  # the photo with the edits of the other faces; None: there are no others
        self._lock = threading.RLock()
        self._clients: set[Outbox] = set()
        self._last: dict[str, Message] = {}
        self._job: Job | None = None
        self._serial = 0  # of the job: a frame that was drawn too late is known by it
        self._view: View | None = None
        self._faces: list[Face] = []
        self._face: int | None = None  # the number of the one that is looked at
        self._edits: dict[int, dict[str, Any]] = {}
        self._next: Begin | None = None  # to begin with when a download has come
        self._start("open", self._open())

    # --- clients -------------------------------------------------------------------------------------------

    def join(self, outbox: Outbox) -> None:
        """A client comes: it is told all that is known, of a job first that it is there, then its step and frame."""
        with self._lock:
            self._clients.add(outbox)
            for message in sorted(self._last.values(), key=lambda message: message.kind in ("step", "frame")):
                outbox.put(message)

    def leave(self, outbox: Outbox) -> None:
        with self._lock:
            self._clients.discard(outbox)

    @property
    def idle(self) -> bool:
        """Nobody looks and nothing runs."""
        return not self._clients and self._job is None

    def receive(self, text: str | bytes, outbox: Outbox) -> None:
        """Acts on a request of a client, at once or by a job. What is wrong with it is told to that client alone."""
        try:
            self._act(read_request(text), outbox)
        except (BadMessage, BadEdit) as error:
            outbox.put(Message("problem", {"text": str(error)}))

    def _act(self, request: Request, outbox: Outbox) -> None:
        match request:
            case Shown():
                outbox.shown()
            case Hello():
                outbox.shown()  # whoever had the last frame may be gone
                self.join(outbox)
            case Control():
                self._control(request)
            case Begin():
                self._start_beginning(request)
            case Drag():
                self._start("drag", self._drag(request))
            case Sketch():
                self._pad.take(request, meant=request.face == self._face)
                self._tell_sketch()
            case Move() | GoTo():
                self._start("history", self._move(request))
            case Export():
                self._start("export", self._export(request, outbox))

    def _tell(self, kind: str, body: dict[str, Any] | None = None, payload: bytes = b"") -> None:
        message = Message(kind, body or {}, payload)
        with self._lock:
            if kind not in EACH:
                self._last.pop(kind, None)
                self._last[kind] = message
            for outbox in self._clients:
                outbox.put(message)

    def _forget(self, *kinds: str) -> None:
        with self._lock:
            for kind in kinds:
                self._last.pop(kind, None)

    # --- jobs ----------------------------------------------------------------------------------------------

    def _start_beginning(self, request: Begin) -> None:
        if request.generator not in self.generators:
            raise BadEdit(f"there is no generator {request.generator!r} here: choose one of the list")
        if request.face in (None, self._face) and request.generator != self._generator():
            self._refuse_with_edits()  # before anything is downloaded
        known = to_fetch(request.generator)
        if known is None:
            self._start("invert", self._begin(request))
        else:
            self._start("download", self._fetch(known, request), self.worker.add_aside)

    def _start(self, kind: str, steps: Iterator[None], add: Callable[[Job], None] | None = None) -> None:
        """Queues a job. Raises BadMessage while another one of this session is under way."""
        with self._lock:
            if self._job is not None:
                raise BadMessage("this session is at work: stop that first, or wait until it is done")
            self._serial += 1
            self._job = Job(kind, self._answered(steps), self._ended)
        (add or self.worker.add)(self._job)
        self._tell_job()

    def _control(self, request: Control) -> None:
        job = self._job
        if job is None:
            raise BadMessage(f"there is nothing to {request.type}: nothing is under way")
        stopping = request.type == "stop"
        if job.kind == "download" and not stopping:
            raise BadMessage("a download can only be stopped: what has come is kept, and it goes on from there")
        self.worker.steer(job, paused=request.type == "pause", stopping=stopping)
        self._tell_job()

    def _answered(self, steps: Iterator[None]) -> Iterator[None]:
        """The same steps; what goes wrong is told to everybody."""
        self._tell_job()
        try:
            yield from steps
        except (BadMessage, *USER_ERRORS) as error:
            self._tell("problem", {"text": str(error)})
        except Exception as error:
            log.exception("a job of the editor failed")
            self._tell("problem", {"text": f"something went wrong that should not: {error!r}; what was done is kept"})
            with suppress(Exception):
                self._look()

    def _ended(self) -> None:
        with self._lock:
            self._job = None
            beginning, self._next = self._next, None
        self._forget("step", "frame")
        if beginning is None:
            self._tell_job()
        else:
            self._start("invert", self._begin(beginning))

    def _rename_job(self, kind: str) -> None:
        if self._job is not None:
            self._job.kind = kind
        self._tell_job()

    def _tell_job(self) -> None:
        with self._lock:  # or a job that ends meanwhile would be told as ended first, then as still under way
            job = self._job
            told = {"kind": job.kind, "status": job.status, "before": self.worker.place(job)} if job else {"kind": None}
            self._tell("job", {**told, "serial": self._serial})

    # --- what the jobs do, each in the worker's thread -----------------------------------------------------

    def _open(self) -> Iterator[None]:
        """Shows the photo and how far the session is; looks for faces where none was chosen."""
        photo = self.session.photo
        height, width = photo.pixels.shape[:2]
        shown = reduced(photo.pixels, LARGEST)
        self._tell("photo", {"width": width, "height": height}, jpeg(shown, photo.icc, 92))
        self._tell_sketch()
        yield
        if self.session.files.is_done("face", {}):
            self._faces = faces_of(self.session)
            self._tell_faces()
            self._look_beside()
        else:
            self._look()
            yield
            self._find_faces()
            if len(self._faces) == 1 and to_fetch(self.generators[0]) is None:  # there is nothing to choose
                self._rename_job("invert")
                yield from self._begin(Begin(type="begin", face=1, generator=self.generators[0]))
        self._look()
        yield
        yield from self._draw_thumbs()

    def _find_faces(self) -> None:
        try:
            self._faces = find_faces(self.session.photo.pixels)
        except NoFaceFound as error:
            self._tell("problem", {"text": str(error)})
        self._tell_faces()

    def _tell_faces(self) -> None:
        """All boxes, and which face the session is, counted from 1."""
        self._face = next((i for i, face in enumerate(self._faces, 1) if is_of(self.session, face)), None)
        boxes = [[round(v, 1) for v in face.box] for face in self._faces]
        self._tell("faces", {"boxes": boxes, "current": self._face})

    def _begin(self, request: Begin) -> Iterator[None]:
        if request.face is not None:
            found = self._go_to_face(request.face)
            if found:
                yield from self._draw_thumbs()
                return
        session = self.session
        if not session.files.is_done("face", {}):
            raise BadEdit("choose a face first: click on it")
        if not session.files.is_done("tuned", {}) or request.generator != self._generator():
            self._refuse_with_edits()
        self._look()
        yield
        try:
            with _closed(session.invert(request.generator, only_if_needed=True)) as steps:
                yield from self._show_inversion(steps, load_generator(request.generator, session.device))
        finally:
            self._look()

    def _go_to_face(self, number: int) -> bool:
        """Makes a face the one that is looked at; whether it was learned already. Raises FaceIndexError."""
        if not self._faces:
            self._faces = faces_of(self.session) or find_faces(self.session.photo.pixels)
        face = choose_face(self._faces, number)
        if is_of(self.session, face):
            return False
        if _readable(self.session, "tuned") or self.session.files.edits():
            self._leave_for(self._all.session(face))
        if not is_of(self.session, face):
            self.session.align(str(number), self._faces)
        self._tell_faces()
        self._look()
        return self.session.files.is_done("tuned", {})

    def _leave_for(self, session: EditSession) -> None:
        """Looks at another face's session. The one that is left stays as it is, its sketch too."""
        self.session, self._pad = session, SketchPad(session.folder, self._pad.heard)
        self._edits, self._view = {}, None
        self._forget("result")
        self._look_beside()
        self._tell_faces()
        self._tell_sketch()

    def _look_beside(self) -> None:
        """What was done to the other faces: the part of the photo in which that is."""
        photo = self.session.photo
        self._base = base = self._all.others(self.session)
        rows, columns = ((photo.pixels != base.pixels).any(2).any(axis) for axis in (1, 0))
        if not rows.any():
            self._tell("beside")
            return
        (top, bottom), (left, right) = (np.flatnonzero(line)[[0, -1]].tolist() for line in (rows, columns))
        box = left, top, right + 1, bottom + 1
        part = np.ascontiguousarray(base.pixels[top : bottom + 1, left : right + 1])
        self._tell("beside", {"corners": corners_of(box)}, jpeg(reduced(part, LARGEST // 2), photo.icc, 95))

    def _fetch(self, known: KnownFile, request: Begin) -> Iterator[None]:
        """Downloads a generator and converts it, beside the device's queue; then the face is begun with."""
        started, first, last, due = time.monotonic(), None, None, 0.0
        try:
            for came in polled(download(known)):
                first, last = first or came, came or last
                if time.monotonic() >= due or came is None:
                    told = _describe_download(known, first, last, time.monotonic() - started)
                    self._tell("step", {"stage": "download", **told, "waiting": came is None})
                    due = time.monotonic() + EVERY
                yield
        except GeneratorExit:
            self._tell("note", {"text": "stopped: what has come is kept, and the next download goes on from there"})
            raise
        self._tell("step", {"stage": "unpack", "index": 1, "limit": 1, "score": 0.0, "name": known.name})
        yield
        find_generator(known.name)
        self._next = request

    def _refuse_with_edits(self) -> None:
        if self.session.files.edits():
            raise BadEdit("learning the face anew would make its edits useless: drop the photo again instead")

    def _show_inversion(self, steps: Iterator[PivotStep | TuneStep], base: Generator) -> Iterator[None]:
        quad, latent = self.session.face(8).quad, None
        started, stage = time.monotonic(), ""
        for step in steps:
            if stage != (stage := "pivot" if isinstance(step, PivotStep) else "tune"):
                started = time.monotonic()
            if isinstance(step, PivotStep):
                latent = step.latent
            elif latent is None:  # a pivot that was there
                latent = torch.from_numpy(self.session.files.read("pivot").arrays["latent"]).to(base.device)
            more = self.session.config.tune.planned if stage == "pivot" else 0
            self._tell("step", {"stage": stage, **describe_steps(step, time.monotonic() - started, more)})
            self._offer(
                partial(self._tell_reconstruction, self._serial, quad, partial(reconstruction, base, latent, step))
            )
            yield

    def _tell_reconstruction(self, serial: int, quad: np.ndarray, draw: Callable[[], np.ndarray]) -> None:
        corners = quad[[0, 1, 3]].round(2).tolist()
        self._tell("frame", {"corners": corners, "soft": True, "serial": serial}, jpeg(draw(), quality=90))

    def _drag(self, request: Drag) -> Iterator[None]:
        session = self.session
        handles, targets, mask = self._asked(request)
        self._pad.without_gestures()
        self._tell_sketch()
        was = session.tree.current
        draft, step = session.draft(handles, targets, mask, anchor=request.anchor, from_photo=request.from_photo), None
        started, due, view = time.monotonic(), 0.0, self._current_view()
        try:
            with _closed(session.carry_out(draft)) as steps:
                for step in steps:
                    if time.monotonic() >= due:
                        self._tell_step(step, view.to_photo(draft.seen(step)), targets, time.monotonic() - started)
                        due = time.monotonic() + EVERY
                    layers = (*draft.below, draft.layer(step))
                    self._offer(partial(self._tell_frame, self._serial, view, layers))
                    yield
        finally:
            if step is not None:
                self._tell_step(step, view.to_photo(draft.seen(step)), targets, time.monotonic() - started)
                if session.tree.current != was:
                    self._pad.dragged(session.tree.current, request, np.array(view.to_photo(draft.seen(step))))
                self._tell_sketch()
                self._look()
                self._tell("note", {"text": told(step, draft.left(step)), "state": step.state})

    def _tell_step(self, step: DragStep, places: list[list[float]], targets: np.ndarray, seconds: float) -> None:
        goals = targets.round(2).tolist()
        moving = {"stage": "drag", "handles": places, "targets": goals, "state": step.state}
        self._tell("step", {**moving, **describe_steps(step, seconds)})

    def _current_view(self) -> View:
        inversion = self.session.inversion
        if self._view is None or self._view.inversion is not inversion:
            self._view = View.of(self.session, self._base or self.session.photo)
        return self._view

    def _asked(self, request: Drag) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        shape = self.session.photo.pixels.shape[:2]
        mask = request.mask.read((shape[0], shape[1])) if request.mask else None
        if mask is not None and not mask.any():
            raise BadEdit("the mask is empty, so nothing may change: paint what may, or clear it")
        handles = np.array([point.handle for point in request.points], np.float64).reshape(-1, 2)
        targets = np.array([point.target for point in request.points], np.float64).reshape(-1, 2)
        if request.gestures:
            asked = ask(request.gestures, self.session.landmarks(of_photo=request.from_photo), (shape[0], shape[1]))
            if mask is None and not len(handles):  # points may lie anywhere, so together with points there is no mask
                mask = asked.mask
            handles, targets = np.vstack([handles, asked.handles]), np.vstack([targets, asked.targets])
        if not len(handles):
            raise BadEdit("nothing to drag yet: press on the face, pull, and let go where it should be")
        return handles, targets, mask

    def _offer(self, drawing: Callable[[], None]) -> None:
        """A frame to draw, if anybody is ready for one."""
        with self._lock:
            wanted = any(outbox.wants_frame for outbox in self._clients)
        if wanted:
            self.worker.offer(drawing)

    def _tell_frame(self, serial: int, view: View, layers: Sequence[Layer]) -> None:
        self._tell("frame", {"corners": view.corners(), "serial": serial}, jpeg(view.live(layers), view.photo.icc))

    def _move(self, request: Move | GoTo) -> Iterator[None]:
        was = self.session.tree.current
        if isinstance(request, GoTo):
            now = self.session.goto(request.number)
        else:
            now = self.session.undo() if request.type == "undo" else self.session.redo()
        self._pad.went(was, now, self._edits)
        self._tell_sketch()
        self._look()
        yield

    def _export(self, request: Export, outbox: Outbox) -> Iterator[None]:
        suffix = self.session.files.photo.suffix.lower() if request.format == "photo" else f".{request.format}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"result{suffix}"
            self.session.result(onto=self._base).save(path)
            mime = MIME.get(suffix, MIME[".jpg"])
            outbox.put(Message("file", {"suffix": suffix, "mime": mime}, path.read_bytes()))
        yield

    # --- how the session stands ----------------------------------------------------------------------------

    def _look(self) -> None:
        """Tells how far the session is, its edits, and the current result."""
        files = self.session.files
        aligned, tuned = files.is_done("face", {}), _readable(self.session, "tuned")
        if set(files.edits()) - set(self._edits):
            for entry in self.session.history():
                if entry.number not in self._edits:
                    self._edits[entry.number] = self._describe(entry)
        current = self.session.tree.current
        if tuned:
            self._tell_result(current)
        self._forget("step", "frame")
        stage = "ready" if tuned else "face" if aligned else "photo"
        self._tell(
            "session",
            {
                "stage": stage,
                "current": current,
                "edits": list(self._edits.values()),
                "generators": [asdict(offer) for offer in offers(self.generators)],
                "generator": self._generator() if aligned else None,
                "quad": self.session.face(8).quad.round(2).tolist() if aligned else None,
                "finished": files.is_done("tuned", {}),
                "gestures": GESTURE_SLIDERS,
            },
        )

    def _generator(self) -> str | None:
        """The generator in which the face was looked for, by the name it has in the list."""
        if not _readable(self.session, "pivot"):
            return None
        name: str = self.session.files.read("pivot").settings["generator"]
        return name

    def _tell_sketch(self) -> None:
        self._tell("sketch", self._pad.told())

    def _tell_result(self, current: int) -> None:
        """The current result where it can differ from the photo: at its own size, unless that is huge."""
        photo = self.session.photo
        box = box_of(self.session.face(8).quad, photo.pixels.shape)
        left, top, right, bottom = box
        part = np.ascontiguousarray(self.session.result(onto=self._base).pixels[top:bottom, left:right])
        if current != PHOTO:
            self._edits[current]["thumb"] = _inline(jpeg(thumb_of(part), photo.icc, 80))
        corners = corners_of(box)
        self._tell("result", {"corners": corners, "number": current}, jpeg(reduced(part, LARGEST // 2), photo.icc, 95))

    def _describe(self, entry: Entry) -> dict[str, Any]:
        """An edit for the history: what was asked, in the photo's pixels, and how it ended."""
        told_edit: dict[str, Any] = {"number": entry.number, "parent": entry.parent, "problem": entry.problem}
        if entry.problem is None:
            edit, size = self.session.edit(entry.number), self.session.inversion.generator.resolution
            face = self.session.face(size)
            asked, goals = face.to_photo(edit.edit.handles), face.to_photo(edit.edit.targets)
            told_edit |= {
                "handles": asked.round(2).tolist(),
                "targets": goals.round(2).tolist(),
                "ended": face.to_photo(seen(edit.edit, edit.handles, edit.pins, size)).round(2).tolist(),
                "masked": edit.mask is not None,
                "stopped": edit.outcome.stopped,
                "steps": edit.outcome.steps,
                "score": round(edit.outcome.score, 2),
            }
        return told_edit

    def _draw_thumbs(self) -> Iterator[None]:
        """Pictures of edits that were made before this host was."""
        missing = [edit for edit in self._edits.values() if edit["problem"] is None and "thumb" not in edit]
        if not missing:
            return
        view = self._current_view()
        for told_edit in missing:
            told_edit["thumb"] = _inline(view.thumb(self.session.edit(told_edit["number"]).layers))
            yield
        self._look()


def _describe_download(
    known: KnownFile, first: Received | None, last: Received | None, seconds: float
) -> dict[str, Any]:
    """What is told of a download, in megabytes; of the time that is left once that can be said."""
    limit = (last and last.limit) or known.bytes
    told = {"name": known.name, "score": 0.0, "index": 0.0, "limit": round(limit / 1e6, 1)}
    if first is None or last is None:
        return told
    rate = (last.index - first.index) / max(seconds, 1e-3)
    told["index"] = round(last.index / 1e6, 1)
    return told | ({"left": round((limit - last.index) / rate, 1)} if rate and limit else {})


@contextmanager
def _closed(steps: Iterator[S]) -> Iterator[Iterator[S]]:
    """The steps, closed in the end: what they reached is on disk then."""
    try:
        yield steps
    finally:
        close: Any = getattr(steps, "close", None)
        if close is not None:
            close()


def _readable(session: EditSession, stage: str) -> bool:
    try:
        session.files.read(stage)
    except (StaleResult, ValueError):
        return False
    return True


def _inline(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode()
