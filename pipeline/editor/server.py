"""The web page's host: static files, uploads, and one WebSocket for each editor that looks at a session.

Safe by default. Whoever opens a session must know the server's token and the session's own long random name; the
Host header must be one of ours (DNS rebinding), the Origin the page itself. A client names no path.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import secrets
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool

from align import Photo, PhotoError
from pipeline.editor.host import Host, Outbox
from pipeline.editor.worker import Worker
from pipeline.session import EditSession

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
LARGEST_UPLOAD = 64_000_000  # bytes
MOST_PIXELS = 64_000_000  # a photo's; each copy in memory takes three bytes of each
SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "HEIF": ".heic"}
FILES = {"index.html": "text/html", "editor.js": "text/javascript", "editor.css": "text/css"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
KEPT = 8  # sessions in memory that nobody looks at
Open = Callable[[Path], EditSession]


class Sessions:
    """The sessions of one server by their names, which nobody can guess."""

    def __init__(self, root: Path, token: str, open_session: Open, generators: Sequence[str]):
        self.root, self.token, self.generators = root, token, generators
        self.worker = Worker()
        self._open = open_session
        self._hosts: dict[str, Host] = {}
        self._elsewhere: dict[str, Path] = {}

    def add(self, folder: Path) -> str:
        """The name of a session outside the root, the same as long as the token is."""
        name = hmac.new(self.token.encode(), str(folder.resolve()).encode(), sha256).hexdigest()[:32]
        self._elsewhere[name] = folder
        return name

    def take(self, upload: Path) -> str:
        """Makes a session of a photo; its name. Raises PhotoError."""
        kind, width, height = Photo.peek(upload)
        if width * height > MOST_PIXELS:
            most = MOST_PIXELS // 1_000_000
            raise PhotoError(
                f"the photo has {width} x {height} pixels, at most {most} million are taken: make it smaller"
            )
        photo = upload.with_suffix(SUFFIX[kind])
        upload.rename(photo)
        name = secrets.token_hex(16)
        self._open(self.root / name).add_photo(photo)
        return name

    def get(self, name: str) -> Host:
        """The host of a session. Raises LookupError."""
        if name not in self._hosts:
            folder = self._elsewhere.get(name) or self.root / name
            known = name in self._elsewhere or (len(name) == 32 and name.isalnum() and folder.is_dir())
            if not known:
                raise LookupError("there is no such session here")
            self._let_go()
            self._hosts[name] = Host(self._open(folder), self.worker, self.generators)
        return self._hosts[name]

    def close(self) -> None:
        """Stops what runs; what was done is kept."""
        self.worker.close()

    def _let_go(self) -> None:
        idle = [name for name, host in self._hosts.items() if host.idle]
        for name in idle[: max(0, len(idle) - KEPT + 1)]:
            del self._hosts[name]


class Doorman:
    """Who may come in: by the token, the Host header and the Origin."""

    def __init__(self, token: str, names: Sequence[str]):
        self.token, self.names = token, {"127.0.0.1", "::1", "localhost", *names}
        self.any_address = not all(_is_loopback(name) for name in names)

    def knows_host(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdigit() else host
        name = name.strip("[]").lower()
        # On an open address any numeric Host will do: what rebinds is a name.
        return name in self.names or (self.any_address and _is_address(name))

    def knows_origin(self, origin: str | None, host: str) -> bool:
        """A browser says where a request comes from; programs do not, and they need the token all the same."""
        return origin is None or origin.partition("://")[2] == host

    def knows_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.token.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def make_app(sessions: Sessions, doorman: Doorman) -> FastAPI:
    """The web application."""
    app = FastAPI(title="photodrag", docs_url=None, redoc_url=None, openapi_url=None)
    one_at_a_time = asyncio.Semaphore(1)  # decoding takes memory

    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Any]) -> Response:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not doorman.knows_host(host) or not doorman.knows_origin(origin, host):
            return Response("this address is not served here\n", 403, HEADERS, "text/plain")
        answer: Response = await call_next(request)
        answer.headers.update(HEADERS)
        return answer

    @app.get("/")
    def page(token: str = "") -> Response:
        if not doorman.knows_token(token):
            return Response("Open the address that `photodrag web` printed, its token included.\n", 403)
        return _static("index.html")

    @app.get("/{name}")
    def static(name: str) -> Response:
        if name not in FILES or name == "index.html":
            raise HTTPException(404)
        return _static(name)

    @app.post("/photo")
    async def upload(request: Request) -> dict[str, str]:
        if not doorman.knows_token(request.headers.get("authorization", "").removeprefix("Bearer ")):
            raise HTTPException(403, "wrong token: open the address that `photodrag web` printed")
        sessions.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=sessions.root, prefix=".upload-") as folder:
            path = Path(folder) / "the photo"
            await _receive(request, path)
            try:
                async with one_at_a_time:
                    return {"session": await run_in_threadpool(sessions.take, path)}
            except PhotoError as error:
                raise HTTPException(422, str(error)) from None

    @app.websocket("/session/{name}")
    async def session(socket: WebSocket, name: str, token: str = "") -> None:
        host = socket.headers.get("host", "")
        if not doorman.knows_host(host) or not doorman.knows_origin(socket.headers.get("origin"), host):
            await socket.close(4403)
            return
        await socket.accept()  # only then does a browser hear why it is closed
        if not doorman.knows_token(token):
            await socket.close(4403, "wrong token")
            return
        try:
            found = sessions.get(name)
        except LookupError as error:
            await socket.close(4404, str(error))
            return
        await _talk(socket, found)

    return app


async def _receive(request: Request, path: Path) -> None:
    """The body, into a file. Raises HTTPException as soon as it is too large."""
    too_large = HTTPException(413, f"the file is larger than {LARGEST_UPLOAD // 1_000_000} MB: make it smaller")
    if int(request.headers.get("content-length") or 0) > LARGEST_UPLOAD:
        raise too_large
    size = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > LARGEST_UPLOAD:
                raise too_large
            file.write(chunk)


async def _talk(socket: WebSocket, host: Host) -> None:
    """Hands messages on, both ways, until the client goes."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(news.set)

    async def send() -> None:
        while True:
            await news.wait()
            news.clear()
            for message in outbox.take():
                await socket.send_bytes(message.pack())

    outbox = Outbox(wake)
    host.join(outbox)
    sending = asyncio.create_task(send())
    try:
        while True:
            received = await socket.receive()
            if received["type"] == "websocket.disconnect":
                break
            host.receive(received.get("text") or received.get("bytes") or "", outbox)
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        sending.cancel()
        host.leave(outbox)


def _static(name: str) -> Response:
    return Response((HERE / name).read_bytes(), media_type=FILES[name])
