"""`ferret view`: the run as a page, in the browser."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from ferret.cli.common import File, Namespace, Run, plain_errors, reading

if TYPE_CHECKING:
    from typing import BinaryIO

    from ferret.view.server import PageServer


def view(
    file: File,
    run: Run = None,
    port: Annotated[
        int,
        typer.Option(
            "--port", "-p", min=0, max=65535, metavar="N", help="The port; a free one unless given.", show_default=False
        ),
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address, and open no browser.")] = False,
    namespace: Namespace = "_ferret_trace",
) -> None:
    """Show a run in the browser: a timeline, a flame graph and a table.

    The page is served to this machine alone, under an address that nobody can
    guess, until Ctrl-C. FILE is read once, and never written to.
    """
    import tempfile

    with tempfile.TemporaryFile(prefix="ferret-") as page, plain_errors():
        policy = _written(file, namespace, run, page)
        with _server(page, policy, port) as server:
            print(server.url, flush=True)
            print("Ctrl-C ends it.", file=sys.stderr, flush=True)
            if not no_open:
                _open(server.url)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print(file=sys.stderr)


def _written(file: str, namespace: str, run: str | None, page: BinaryIO) -> str:
    """Write the page, and return its policy. The file is closed before anybody looks."""
    from ferret.view.page import policy, write_page

    with reading(file, namespace) as (report, watched):
        info = report.run(run)
        watched.expect(info.spans)
        write_page(info, watched.segments(info.run_id), page, level=1)  # it goes no further than this machine
        page.flush()
    return policy()


def _server(page: BinaryIO, policy: str, port: int) -> PageServer:
    from ferret.view.server import PageServer

    try:
        return PageServer(page, policy, port)
    except OSError as error:
        raise OSError(f"port {port} cannot be had ({error.strerror}): choose another, or leave --port out") from None


def _open(url: str) -> None:
    """Open the browser from a thread: one in the terminal would keep the page waiting that it waits for."""
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), name="open-browser", daemon=True).start()
