"""`photodrag web`: the editor in the browser."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Annotated

import tyro
from platformdirs import user_data_path

from pipeline.commands.common import BadAddress, Common, say


@dataclass(frozen=True, kw_only=True)
class Web(Common):
    """The editor in the browser: drop a photo, drag its points with the mouse."""

    what: tyro.conf.Positional[Path | None] = None
    """A photo, or a session's folder; by default a photo is dropped on the page."""
    generator: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Generators to choose from on the page, names or paths, the first by default; without, the embedded one, those
    that were imported, and known ones of faces, which are downloaded when one is chosen."""
    host: str = "127.0.0.1"
    """Address to serve. Anything but this machine's own, such as 0.0.0.0, lets everybody who can reach this machine
    and knows the token see and edit the photos, unencrypted; so it needs --token."""
    port: int = 8765
    """0, or one that is taken: any free port."""
    token: str | None = None
    """The secret in the page's address; by default a new random one each time."""
    allow_host: tuple[str, ...] = ()
    """Further names under which browsers may know this machine."""
    sessions: Path = user_data_path("photodrag") / "sessions"
    """Folder for the sessions of photos that are dropped on the page."""
    browser: bool = True
    """Open the page in the browser."""

    def run(self) -> None:
        try:
            import uvicorn

            from pipeline.editor.generators import default_names
            from pipeline.editor.server import Doorman, Sessions, make_app
        except ModuleNotFoundError as error:
            raise BadAddress(
                f"{error.name} is missing: pip install 'photodrag[web]', or in a checkout '.[web]'"
            ) from None
        if not _is_loopback(self.host) and len(self.token or "") < 8:
            raise BadAddress(
                f"--host {self.host} opens the editor to others: give --token, a secret of 8 characters or more; "
                "whoever knows it can see and edit the photos here, and nothing is encrypted on the way"
            )
        token = self.token or secrets.token_urlsafe(16)
        sessions = Sessions(self.sessions, token, self.open, self.generator or default_names())
        fragment = f"#{sessions.add(self._session())}" if self.what else ""
        listening = _listen(self.host, self.port)
        shown = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        shown = f"[{shown}]" if ":" in shown else shown
        address = f"http://{shown}:{listening.getsockname()[1]}/?token={token}{fragment}"
        say(f"the editor is at {address}\nCtrl-C ends it; what was done is kept")
        if self.browser:
            Timer(0.5, webbrowser.open, [address]).start()
        app = make_app(sessions, Doorman(token, [self.host, *self.allow_host]))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, ws_max_size=16_000_000, server_header=False)
        )
        try:
            server.run(sockets=[listening])
        finally:
            sessions.close()

    def _session(self) -> Path:
        """The folder of the session that is asked for; one is made beside a photo, where `edit` would make it."""
        assert self.what is not None
        if self.what.is_dir():
            self.open(self.what).files.photo  # noqa: B018  raises where there is none
            return self.what
        folder = self.what.with_name(f"{self.what.stem}-edited.session")
        self.open(folder).add_photo(self.what)
        say(f"the session is {folder}")
        return folder


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, on any free port where that one is taken. Raises BadAddress."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for wanted in (port, 0):
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, wanted))
            listening.listen()  # before the address is printed: whoever is quick waits
        except (OSError, OverflowError) as error:
            listening.close()
            problem = error
        else:
            return listening
    raise BadAddress(f"cannot serve {host} ({problem}): give an address of this machine") from problem


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
