"""A hub on this machine: repositories are folders, revisions folders in them; as much of the API as loading needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


def commit_of(revision: str) -> str:
    """The commit that a branch of a made-up repository is at."""
    return hashlib.sha1(revision.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers from `root`/owner/name/revision/; `gated` repositories are refused."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, root: Path, gated: frozenset[str]) -> None:
        self.root, self.gated = root, gated
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path = unquote(url.path).strip("/").split("/")
        api = path[:2] == ["api", "datasets"]
        repository = "/".join(path[2:4] if api else path[1:3])
        if repository in self.gated:
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        if not (self.root / repository).is_dir():
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        verb = path[4] if api and len(path) > 4 else "resolve" if not api else "revision"
        rest = path[5:] if api else path[4:]
        folder, rest = self._revision(repository, rest or ["main"])
        if folder is None:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if verb == "resolve":
            return self._file(folder, "/".join(rest))
        if verb == "tree":
            return self._json(self._tree(folder, "/".join(rest), parse_qs(url.query)))
        if verb == "paths-info":
            asked = parse_qs(sent.decode()).get("paths") or json.loads(sent or b"{}").get("paths", [])
            return self._json([self._entry(folder, name) for name in asked if (folder / name).exists()])
        return self._json(self._info(repository, folder))

    def _revision(self, repository: str, steps: list[str]) -> tuple[Path | None, list[str]]:
        """The folder of the revision that the steps begin with, and the steps after it."""
        for folder in sorted((self.root / repository).rglob("*")):
            name = str(folder.relative_to(self.root / repository))
            if (folder / ".revision").exists():
                for spelling in (name, commit_of(repository + name)):
                    parts = spelling.split("/")
                    if steps[: len(parts)] == parts:
                        return folder, steps[len(parts) :]
        return None, steps

    def _commit(self, folder: Path) -> str:
        name = folder.relative_to(self.root)
        return commit_of("/".join(name.parts[:2]) + "/".join(name.parts[2:]))

    def _info(self, repository: str, folder: Path) -> dict[str, Any]:
        files = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file()]
        return {
            "id": repository,
            "sha": self._commit(folder),
            "private": False,
            "gated": False,
            "tags": [],
            "siblings": [{"rfilename": name} for name in files if name != ".revision"],
        }

    def _tree(self, folder: Path, below: str, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        start = folder / below
        found = sorted(start.rglob("*") if recursive else start.glob("*"))
        return [self._entry(folder, str(file.relative_to(folder))) for file in found if file.name != ".revision"]

    def _entry(self, folder: Path, name: str) -> dict[str, Any]:
        file = folder / name
        if file.is_dir():
            return {"type": "directory", "oid": commit_of(name), "size": 0, "path": name}
        return {"type": "file", "oid": commit_of(name), "size": file.stat().st_size, "path": name}

    def _file(self, folder: Path, name: str) -> None:
        file = folder / name
        headers = {"X-Repo-Commit": self._commit(folder)}
        if not file.is_file():
            self._send(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
            return
        self._send(200, file.read_bytes(), {**headers, "ETag": f'"{hashlib.sha1(file.read_bytes()).hexdigest()}"'})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def hub(root: Path, gated: frozenset[str] = frozenset()) -> Iterator[str]:
    """The address of a server for the repositories in `root`, as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, root=root, gated=gated))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
