"""A server on this machine that fails in every way that one is told to."""

import hashlib
import http.server
from collections import deque
from collections.abc import Callable

from weights import KnownFile


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the server's content with ranges, unless the server's `failures` has something else for this request."""

    server: "Server"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        if self.server.failures:
            self.server.failures.popleft()(self)
        else:
            serve(self)


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.failures: deque[Callable[[Handler], None]] = deque()
        self.ranges: list[str | None] = []

    @property
    def known(self) -> KnownFile:
        url, sha256 = f"http://127.0.0.1:{self.server_port}/weights.bin", hashlib.sha256(self.content).hexdigest()
        return KnownFile("weights.bin", url, sha256, "")


def serve(
    request: Handler,
    content: bytes | None = None,
    sent: int | None = None,
    length: int | None = None,
    ranges: bool = True,
    kind: str = "application/octet-stream",
) -> None:
    """Answers with the server's content or another; `sent` bytes of it, saying `length` (-1: nothing)."""
    content = request.server.content if content is None else content
    start, asked = 0, request.headers.get("Range")
    if asked and ranges and request.headers.get("If-Range") == f'"{hashlib.sha256(content).hexdigest()}"':
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            request.send_error(416)
            return
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        request.send_response(200)
    request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
    request.send_header("Content-Type", kind)
    if length != -1:
        request.send_header("Content-Length", str(length if length is not None else len(content) - start))
    request.end_headers()
    request.wfile.write(content[start:][:sent])


def early_close(request: Handler) -> None:
    serve(request, sent=100_000)


def failing(code: int) -> Callable[[Handler], None]:
    return lambda request: request.send_error(code)
