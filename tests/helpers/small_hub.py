"""A hub of our own on loopback: the routes that huggingface_hub and datasets ask for; its bad days.

    with SmallHub() as hub:
        hub.add("org/base", {"config.json": b"{}"}, gated=True)
        hub.fail("config.json", times=2)  # 503 twice, then as ever
        ...  # a process with HF_ENDPOINT=hub.address

Answers are made as the hub makes them: commits and ETags in headers, weights by a redirect to other
storage, gates and tokens by status and X-Error-Code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

MEMBER, STRANGER = "hf_" + "m" * 34, "hf_" + "s" * 34  # tokens: one has access to what is gated
LARGE = (".safetensors", ".parquet")  # stored as LFS objects: elsewhere, by their hash


class Refusal(Exception):
    """An answer other than 200: status, X-Error-Code, X-Error-Message."""


class Asked(NamedTuple):
    """One request that came."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Repository:
    """Its commits, oldest first, and who may read its files."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False

    def push(self, files: dict[str, bytes]) -> str:
        """Add a commit on main; its name."""
        content = [(name, hashlib.sha1(data).hexdigest()) for name, data in sorted(files.items())]
        commit = hashlib.sha1(repr((len(self.commits), content)).encode()).hexdigest()
        self.commits[commit] = dict(files)
        return commit

    def commit(self, revision: str) -> str:
        """The commit that a branch or a commit's name means."""
        if revision == "main":
            return [*self.commits][-1]
        if revision not in self.commits:
            raise Refusal(404, "RevisionNotFound", "Invalid rev id")
        return revision


@dataclass
class Fault:
    """What goes wrong with the next requests whose path holds a text."""

    path: str
    times: int
    method: str
    kind: str  # "status", "cut" (the connection ends early) or "reset"
    value: int  # the status, or bytes of the body that still come


class SmallHub:
    """Repositories behind an address; what was asked, and what shall go wrong."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}  # "models/org/name", "datasets/org/name"
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []

    def __enter__(self) -> SmallHub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        port = self.server.server_port
        self.address = f"http://127.0.0.1:{port}"
        self.storage = f"http://localhost:{port}/storage"  # another host: no token goes there
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(
        self, name: str, files: dict[str, bytes], kind: str = "models", gated: bool = False
    ) -> str:
        """A repository with one commit, or one more commit; its name."""
        repository = self.repositories.setdefault(f"{kind}/{name}", Repository(gated=gated))
        return repository.push(files)

    def fail(
        self, path: str, times: int = 1, method: str = "", kind: str = "status", value: int = 503
    ) -> None:
        """Let the next so many requests go wrong whose path holds a text."""
        self.faults.append(Fault(path, times, method, kind, value))

    def count(self, text: str, method: str = "") -> int:
        """How many requests had a text in their path."""
        return sum(text in a.path and a.method.startswith(method) for a in self.asked)

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault of a request, which is used up by it."""
        for fault in self.faults:
            if fault.times and fault.path in path and method.startswith(fault.method):
                fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: SmallHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.posted = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # gone before its answer
            super().handle()

    def _answer(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.asked.append(Asked(self.command, path, self.headers.get("Range"), token))
        self.broken, self.commit_of_error = self.hub.fault(self.command, path), None
        try:
            if self.broken and self.broken.kind == "status":
                raise Refusal(self.broken.value, "", "a bad day")
            self._route([part for part in path.split("/") if part], token)
        except Refusal as refusal:
            status, code, message = refusal.args
            headers = {"X-Error-Code": code} if code else {}
            body = json.dumps({"error": message}).encode()
            self._send(status, body, {**headers, "X-Error-Message": message})

    def _route(self, parts: list[str], token: str | None) -> None:
        if token not in (None, MEMBER, STRANGER):
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        if parts[0] == "api":
            kind, name, rest = parts[1], "/".join(parts[2:4]), parts[4:]
            return self._api(kind, name, rest, token)
        if parts[0] == "storage":  # where large files lie: no token is asked for
            return self._file(self._stored(parts[1]), {"ETag": f'"{parts[1]}"'})
        kind = parts.pop(0) if parts[0] == "datasets" else "models"
        name, rest = "/".join(parts[:2]), parts[2:]
        if rest[:1] != ["resolve"]:
            raise Refusal(404, "", "no such route")
        self._resolve(self._repository(kind, name, token), rest[1], "/".join(rest[2:]), token)

    def _repository(self, kind: str, name: str, token: str | None) -> Repository:
        found = self.hub.repositories.get(f"{kind}/{name}")
        if found is None:
            status = 404 if token else 401  # whoever is not known is told nothing
            raise Refusal(status, "RepoNotFound", "Repository not found")
        return found

    def _gate(self, repository: Repository, token: str | None) -> None:
        if repository.gated and token != MEMBER:
            message = "Access to this repository is restricted"
            raise Refusal(403 if token else 401, "GatedRepo", message)

    def _api(self, kind: str, name: str, rest: list[str], token: str | None) -> None:
        repository = self._repository(kind, name, token)
        if rest == ["auth-check"]:
            self._gate(repository, token)
            return self._send(200, b"{}")
        action, revision = (rest or ["revision"])[0], (rest[1:2] or ["main"])[0]
        commit = repository.commit(revision)
        files = repository.commits[commit]
        if action == "revision":
            about = {"id": name, "sha": commit, "private": False, "gated": repository.gated}
            about |= {"siblings": [{"rfilename": file} for file in files], "tags": []}
            return self._json(about)
        if action == "tree":
            self._gate(repository, token)
            under = "/".join(rest[2:])
            listed = [entry for entry in _entries(files) if entry["path"].startswith(under)]
            if not listed:
                raise Refusal(404, "EntryNotFound", f"{under} does not exist")
            return self._json(listed)
        if action == "paths-info":
            self._gate(repository, token)
            asked = {unquote(p) for p in _posted_paths(self.posted)}
            return self._json([e for e in _entries(files) if e["path"] in asked])
        raise Refusal(404, "", f"no such route: {action}")

    def _resolve(self, repository: Repository, revision: str, file: str, token: str | None) -> None:
        self._gate(repository, token)
        commit = repository.commit(revision)
        files = repository.commits[commit]
        if file not in files:
            self.commit_of_error = commit
            raise Refusal(404, "EntryNotFound", "Entry not found")
        data = files[file]
        headers = {"X-Repo-Commit": commit}
        if file.endswith(LARGE):
            digest = hashlib.sha256(data).hexdigest()
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest}"'}
            return self._send(302, b"", {**headers, "Location": f"{self.hub.storage}/{digest}"})
        self._file(data, {**headers, "ETag": f'"{_blob(data)}"'})

    def _stored(self, digest: str) -> bytes:
        for repository in self.hub.repositories.values():
            for files in repository.commits.values():
                for data in files.values():
                    if hashlib.sha256(data).hexdigest() == digest:
                        return data
        raise Refusal(404, "", "no such object")

    def _file(self, data: bytes, headers: dict[str, str]) -> None:
        """A file or, of a request with a range, the rest of it."""
        begin, _, end = (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")
        if not begin:
            return self._send(200, data, {**headers, "Accept-Ranges": "bytes"})
        last = min(int(end), len(data) - 1) if end else len(data) - 1
        span = f"bytes {begin}-{last}/{len(data)}"
        self._send(206, data[int(begin) : last + 1], {**headers, "Content-Range": span})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.commit_of_error:
            self.send_header("X-Repo-Commit", self.commit_of_error)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.broken and self.broken.kind in ("cut", "reset"):
            self._break_off(body[: self.broken.value])
        else:
            self.wfile.write(body)

    def _break_off(self, part: bytes) -> None:
        self.wfile.write(part)
        self.wfile.flush()
        if self.broken.kind == "reset":  # the other side sees an error, not an end
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        if self.broken.kind == "reset":
            self.connection.close()


def _blob(data: bytes) -> str:
    """Git's own name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entries(files: dict[str, bytes]) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for path, data in files.items():
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(data)}
        entry["oid"] = _blob(data)
        if path.endswith(LARGE):
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
        entries.append(entry)
    return entries


def _posted_paths(body: bytes) -> list[str]:
    """The paths of a form or a JSON body."""
    if body[:1] == b"{":
        paths = json.loads(body)["paths"]
        return [paths] if isinstance(paths, str) else paths
    pairs = (pair.partition("=") for pair in body.decode().split("&"))
    return [value for key, _, value in pairs if key == "paths"]
