"""A local HTTP server that plays a package index and a file host, with ranges, passwords and faults."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import ssl
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


@dataclass
class FileHost:
    """`files` are served by path, with ranges; the other fields are faults, by path."""

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)  # bytes after which each next reply breaks
    stalls: dict[str, int] = field(default_factory=dict)  # bytes after which nothing more comes
    statuses: dict[str, list[int]] = field(default_factory=dict)  # statuses of the next replies
    ranges: bool = True
    credentials: str = ""
    index_format: Literal["json", "html"] = "json"
    requests: list[tuple[str, str]] = field(default_factory=list)  # path and Range of what came
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def index(self) -> str:
        return f"{self.url}/simple"

    def ranges_of(self, path: str) -> list[str]:
        """Return the Range headers of the requests for a path, in order; empty where there was none."""
        return [asked for requested, asked in self.requests if requested == path]

    def add_wheel(self, package: str, version: str, members: dict[str, bytes], *, sha256: str | None = None) -> str:
        """Put a wheel into the index; return its path. `sha256` is what the index says of it."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return self.add_package_file(package, version, packed.getvalue(), sha256=sha256)

    def add_package_file(self, package: str, version: str, data: bytes, *, sha256: str | None = None) -> str:
        file = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
        path = f"/files/{file}"
        self.files[path] = data
        digest = sha256 or hashlib.sha256(data).hexdigest()
        # Relative links, and a file of another version that must not be taken.
        old = file.replace(version, "0.0.1")
        if self.index_format == "json":
            entries = [
                {"filename": old, "url": f"../../files/{old}", "hashes": {}},
                {"filename": file, "url": f"../../files/{file}", "hashes": {"sha256": digest}, "yanked": False},
            ]
            page = json.dumps({"meta": {"api-version": "1.0"}, "name": package, "files": entries})
        else:
            page = (
                f'<html><body><a href="../../files/{old}#md5=0">{old}</a><br>'
                f'<a href="../../files/{file}#sha256={digest}">{file}</a></body></html>'
            )
        self.files[f"/simple/{package}/"] = page.encode()
        return path


@contextmanager
def file_host(*, tls: ssl.SSLContext | None = None) -> Iterator[FileHost]:
    """Serve until the `with` ends."""
    host = FileHost()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(host, self)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    host.url = f"{'https' if tls else 'http'}://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        host.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(host: FileHost, handler: BaseHTTPRequestHandler) -> None:
    path = handler.path
    host.requests.append((path, handler.headers.get("range", "")))
    allowed = f"Basic {base64.b64encode(host.credentials.encode()).decode()}"
    if host.credentials and handler.headers.get("authorization") != allowed:
        return _empty(handler, 401)
    if host.statuses.get(path):
        return _empty(handler, host.statuses[path].pop(0))
    data = host.files.get(path)
    if data is None:
        return _empty(handler, 404)
    start = 0
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("range", ""))
    if host.ranges and asked:
        start = int(asked[1])
        if start >= len(data):
            return _empty(handler, 416, {"content-range": f"bytes */{len(data)}"})
        handler.send_response(206)
        handler.send_header("content-range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    else:
        handler.send_response(200)
    kind = "application/octet-stream"
    if path.startswith("/simple/"):
        kind = "application/vnd.pypi.simple.v1+json" if host.index_format == "json" else "text/html"
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(data) - start))
    handler.end_headers()
    _send(host, handler, data[start:])
    return None


def _send(host: FileHost, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    path = handler.path
    if path in host.stalls:
        handler.wfile.write(body[: host.stalls.pop(path)])
        handler.wfile.flush()
        host.released.wait()
        handler.close_connection = True
    elif host.cuts.get(path):
        handler.wfile.write(body[: host.cuts[path].pop(0)])
        handler.close_connection = True
    else:
        handler.wfile.write(body)


def _empty(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in {"content-length": "0", **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
