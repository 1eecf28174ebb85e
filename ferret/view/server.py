"""Serving one page to the browsers of this machine, and to nobody else."""

from __future__ import annotations

import os
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Callable

HOST: Final = "127.0.0.1"
_PIECE: Final = 1 << 20


class PageServer(ThreadingHTTPServer):
    """Serves one file on the loopback interface, under a path that nobody can guess.

    Whoever may run programs here as another user, or a site that the browser has open, can reach the port but not
    the page: a wrong path is 404, and a request that was made for another host name (DNS rebinding) is 421.
    `serve_forever` runs until another thread calls `shutdown`, or Ctrl-C.

    Args:
        page: the page; must be a real file (it has a `fileno`) and stay open.
        policy: the page's Content-Security-Policy.
        port: a free one unless given.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, page: BinaryIO, policy: str, port: int = 0) -> None:
        self.path = f"/{secrets.token_urlsafe(24)}/"
        self.page = page
        self.policy = policy
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}{self.path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away while it is being answered is none of the terminal's business."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        if self._allowed():
            self._answer()
            self._each_piece(self.wfile.write)

    def do_HEAD(self) -> None:
        if self._allowed():
            self._answer()

    def version_string(self) -> str:
        return "ferret"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Say nothing: the terminal belongs to the command."""

    def _allowed(self) -> bool:
        hosts = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        if self.headers.get("Host") not in hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        elif not secrets.compare_digest(self.path.encode(), self.server.path.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            return True
        return False

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        text = f"{status.phrase}\n".encode()
        self.send_response(status)
        self._headers("text/plain; charset=utf-8", len(text), "default-src 'none'")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _answer(self) -> None:
        self.send_response(HTTPStatus.OK)
        size = os.fstat(self.server.page.fileno()).st_size
        self._headers("text/html; charset=utf-8", size, f"{self.server.policy}; frame-ancestors 'none'")
        self.end_headers()

    def _headers(self, kind: str, size: int, policy: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("Content-Security-Policy", policy)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")

    def _each_piece(self, write: Callable[[bytes], object]) -> None:
        """The page, read by position: several browsers may be reading it at once."""
        place = 0
        while piece := os.pread(self.server.page.fileno(), _PIECE, place):
            write(piece)
            place += len(piece)
