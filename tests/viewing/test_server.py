"""The page is served to this machine's browsers, under a path that nobody can guess, and to nobody else."""

from __future__ import annotations

import http.client
import socket
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

from ferret.view.server import PageServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = b"<!doctype html>" + bytes(range(256)) * 10_000


@pytest.fixture
def server() -> Iterator[PageServer]:
    with tempfile.TemporaryFile() as page:
        page.write(PAGE)
        page.flush()
        with PageServer(page, "default-src 'none'") as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield server
            server.shutdown()
            thread.join()


def answer(
    server: PageServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_its_path_gives_the_page(server: PageServer) -> None:
    status, headers, body = answer(server, server.path)
    assert (status, body) == (200, PAGE)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer(server, server.path, "HEAD")[2] == b""


def test_several_browsers_may_read_it_at_once(server: PageServer) -> None:
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(answer(server, server.path)[2])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [PAGE] * 8


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/index.html", "//", "/%2e%2e/etc/passwd"])
def test_every_other_path_gives_nothing(server: PageServer, path: str) -> None:
    for other in (path, server.path[:-1], server.path + "x", server.path + "?a"):
        status, headers, body = answer(server, other)
        assert status == 404
        assert b"doctype" not in body
        assert server.path not in str(headers) + body.decode()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_there_is_nothing_to_do_but_read(server: PageServer, method: str) -> None:
    assert answer(server, server.path, method)[0] == 501


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", ""]
)
def test_a_request_for_another_host_is_refused_even_with_the_right_path(server: PageServer, host: str) -> None:
    status, _, body = answer(server, server.path, host=host.format(port=server.server_port))
    assert status == 421
    assert b"doctype" not in body


def test_localhost_is_this_machine_too(server: PageServer) -> None:
    assert answer(server, server.path, host=f"localhost:{server.server_port}")[0] == 200


def test_it_listens_on_the_loopback_interface_alone(server: PageServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", server.server_port), timeout=5)


def test_no_two_servers_have_one_path(server: PageServer) -> None:
    with PageServer(server.page, "") as other:
        assert other.path != server.path
        assert len(other.path) > 30


@pytest.mark.parametrize("right", [True, False])
def test_every_answer_says_what_the_browser_must_not_do(server: PageServer, right: bool) -> None:
    _, headers, _ = answer(server, server.path if right else "/")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "Python" not in headers["Server"]


def test_it_says_nothing_when_a_browser_goes_away(server: PageServer, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(f"GET {server.path} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a farewell
    answer(server, "/")
    assert capfd.readouterr() == ("", "")
