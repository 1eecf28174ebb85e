"""`ferret view`: it says where the page is, serves it until Ctrl-C, and leaves the file as it was."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def ferret(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ferret", "view", *map(str, args)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, encoding="utf-8")


@contextmanager
def viewing(*args: str | Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "ferret", "view", *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, encoding="utf-8", env={**os.environ, **environment}, **pipes) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def everything_about(folder: Path) -> dict[str, tuple[str, int, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in sorted(folder.iterdir())
    }


def test_it_serves_the_page_until_ctrl_c_and_touches_no_file(shop: Path) -> None:
    before = everything_about(shop.parent)
    with viewing(shop, "--no-open") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=WAIT_S) as response:
            assert response.read().startswith(b"<!doctype html>")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0
        assert "Traceback" not in errors
    assert everything_about(shop.parent) == before


def test_it_opens_the_browser_with_the_address(shop: Path, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    os.mkfifo(opened)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {opened}\n')
    browser.chmod(0o755)
    with viewing(shop, BROWSER=str(browser)) as (_, url):
        assert opened.read_text() == url


def test_a_port_may_be_chosen(shop: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with viewing(shop, "--no-open", "--port", str(port)) as (_, url):
        assert f":{port}/" in url


def test_a_port_that_is_taken_is_named(shop: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = ferret(shop, "--no-open", "--port", str(port))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"ferret: port {port} cannot be had")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "args", "said"),
    [
        (None, [], "there is no such file"),
        (b"", [], "is empty"),
        (b"GIF89a......", [], "is not a file of spans"),
        ("shop", ["--run", "nobody"], "there is no run 'nobody'"),
        ("shop", ["--namespace", "elsewhere"], "under the namespace 'elsewhere'; there is '_ferret_trace'"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_nothing_is_made(
    shop: Path, tmp_path: Path, content: bytes | str | None, args: list[str], said: str
) -> None:
    file = tmp_path / "trace.db"
    if content is not None:
        file.write_bytes(shop.read_bytes() if isinstance(content, str) else content)
    before = everything_about(tmp_path)
    ended = ferret(file, "--no-open", *args)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("ferret: ")
    assert said in ended.stderr
    assert str(file) in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert everything_about(tmp_path) == before
