"""A real web server on loopback for probes to ask, plain or with TLS by a CA of its own."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: What a path answers: (status, headers, body), or a function that does as it likes.
Page = tuple[int, dict[str, str], bytes] | Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Web:
    """``pages`` may be changed at any time; ``seen`` has (path, headers) of every request."""

    host: str
    port: int
    scheme: str
    pages: dict[str, Page] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/", host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.host}:{self.port}{path}"


@contextmanager
def serve(*, host: str = "127.0.0.1", tls: tuple[Path, Path] | None = None) -> Iterator[Web]:
    """Serve until the end of the block. ``tls`` is (certificate, key)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            page = web.pages.get(self.path.partition("?")[0], (404, {}, b"nothing here"))
            if callable(page):
                page(self)
                return
            status, headers, body = page
            self.send_response(status)
            for key, value in ({"content-length": str(len(body))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = True

        def handle_error(self, *args: Any) -> None:
            """A probe that hangs up early is none of a server's errors."""

    with Server((host, 0), Handler) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        web = Web(host, server.server_address[1], "https" if tls else "http")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield web
        finally:
            web.let_go.set()
            server.shutdown()
            thread.join()


class Authority:
    """A certificate authority in a folder, made with openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file = folder / "ca.pem"
        self._openssl(
            f"req -x509 {_NEW_KEY} -keyout ca.key -out ca.pem -subj /CN=Test -days 1 "
            "-addext keyUsage=critical,keyCertSign"
        )

    def certificate(self, name: str, *, days: int = 1) -> tuple[Path, Path]:
        """(certificate, key) for a DNS name; with ``days`` below 0 one that has expired."""
        base = f"{name}{days}"
        (self.folder / f"{base}.ext").write_text(f"subjectAltName=DNS:{name}\n")
        self._openssl(f"req {_NEW_KEY} -keyout {base}.key -out {base}.csr -subj /CN={name}")
        self._openssl(
            f"x509 -req -in {base}.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
            f"-out {base}.pem -days {days} -extfile {base}.ext"
        )
        return self.folder / f"{base}.pem", self.folder / f"{base}.key"

    def _openssl(self, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True, cwd=self.folder)


_NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
