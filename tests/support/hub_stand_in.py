"""A small Hub on this machine: the calls that huggingface_hub makes to create, commit, list and download."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_fakeFakeFake0123456789"
READER = "hf_readerReader9876543210"
"""A token that may not write."""

Files = dict[str, bytes]


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str = "", message: str = "", **more: str) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message, self.more = status, code, message, more


@dataclass
class Repository:
    """A repository with its history."""

    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: Files, message: str) -> str:
        """Add a commit to a branch; return its name."""
        self.messages.append(message)
        name = hashlib.sha1(f"{len(self.messages)} {message}".encode()).hexdigest()
        self.commits[name] = dict(files)
        self.branches[branch] = name
        return name

    def resolve(self, revision: str) -> str:
        """The commit that a branch or commit names."""
        name = self.branches.get(revision, revision)
        if name not in self.commits:
            raise RefusedError(404, "RevisionNotFound")
        return name

    def files(self, revision: str = "main") -> Files:
        """The files of a revision."""
        return self.commits[self.resolve(revision)]


class HubStandIn:
    """The state of the Hub, and everything that was asked of it."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large: dict[str, bytes] = {}
        self.sent: list[str] = []
        self.requests: list[str] = []
        self.broken: tuple[int, str] | None = None
        self.url = ""

    def add(self, kind: str, name: str, files: Files, **settings: bool) -> Repository:
        """Put a repository there without asking."""
        repository = self.repositories[kind, name] = Repository(**settings)
        repository.commit("main", files, "begin")
        return repository

    def downloaded(self) -> set[str]:
        """Names of the files that were downloaded."""
        found = (re.match(r"GET .*/resolve/[^/]+/(.*)", request) for request in self.requests)
        return {match.group(1) for match in found if match}

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> Any:
        """Answer one request with JSON, or with the bytes of a file and its headers."""
        self.requests.append(f"{method} {path}")
        if self.broken is not None:
            raise RefusedError(self.broken[0], "", self.broken[1].format(token=token))
        if token not in (None, TOKEN, READER):
            raise RefusedError(401, "", "Invalid credentials in Authorization header")
        for pattern, handler in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and handler.startswith(method):
                return getattr(self, f"_{handler.partition(' ')[2]}")(*match.groups(), body=body, token=token)
        raise RefusedError(404, "", f"no route {method} {path}")

    def _repository(self, kind: str, name: str, token: str | None, *, write: bool = False) -> Repository:
        repository = self.repositories.get((kind, name))
        if repository is None or (repository.private and token is None):
            raise RefusedError(404 if token else 401, "RepoNotFound", "Repository not found")
        if repository.gated and token != TOKEN:
            raise RefusedError(403, "GatedRepo", "Access to this repository is restricted")
        if write and token != TOKEN:
            raise RefusedError(403, "", "this token may not write")
        return repository

    def _create(self, body: bytes, token: str | None) -> Any:
        given = json.loads(body)
        kind, name = given.get("type", "model"), f"{given['organization']}/{given['name']}"
        if token != TOKEN:
            raise RefusedError(403 if token else 401, "", "this token may not make repositories")
        url = f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.repositories:
            raise RefusedError(409, "", "it exists", url=url)
        private = given.get("private", given.get("visibility") == "private")
        self.add(kind, name, {".gitattributes": b"*.pt filter=lfs\n"}, private=private)
        return {"url": url, "id": name}

    def _branch(self, kind: str, name: str, branch: str, body: bytes, token: str | None) -> Any:
        repository = self._repository(kind, name, token, write=True)
        if unquote(branch) in repository.branches:
            raise RefusedError(409, "", "it exists")
        repository.branches[unquote(branch)] = repository.branches["main"]
        return {}

    def _info(self, kind: str, name: str, revision: str | None, body: bytes, token: str | None) -> Any:
        repository = self._repository(kind, name, token)
        commit = repository.resolve(unquote(revision or "main"))
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        return {"id": name, "sha": commit, "private": repository.private, "tags": [], "siblings": siblings}

    def _tree(self, kind: str, name: str, revision: str, body: bytes, token: str | None) -> Any:
        files = self._repository(kind, name, token).files(unquote(revision))
        return [_listed(path, content) for path, content in files.items()]

    def _preupload(self, kind: str, name: str, revision: str, body: bytes, token: str | None) -> Any:
        self._repository(kind, name, token, write=True)
        modes = {True: "lfs", False: "regular"}
        paths = [given["path"] for given in json.loads(body)["files"]]
        return {
            "files": [{"path": path, "uploadMode": modes[_is_large(path)], "shouldIgnore": False} for path in paths]
        }

    def _batch(self, prefix: str, name: str, body: bytes, token: str | None) -> Any:
        self._repository("dataset" if prefix else "model", name, token, write=True)
        objects = [
            {**given, "actions": {"upload": {"href": f"{self.url}/lfs/{given['oid']}"}}}
            if given["oid"] not in self.large
            else given
            for given in json.loads(body)["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _upload(self, oid: str, body: bytes, token: str | None) -> Any:
        assert hashlib.sha256(body).hexdigest() == oid
        self.large[oid] = body
        self.sent.append(oid)
        return {}

    def _commit(self, kind: str, name: str, branch: str, body: bytes, token: str | None) -> Any:
        repository = self._repository(kind, name, token, write=True)
        branch = unquote(branch)
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.branches[branch]):
            raise RefusedError(412, "", "a commit has happened since")
        files = dict(repository.files(branch))
        for line in lines[1:]:
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            else:
                assert key == "deletedFile"
                del files[value["path"]]
        commit = repository.commit(branch, files, header["summary"])
        return {"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit, "success": True}

    def _card(self, body: bytes, token: str | None) -> Any:
        assert json.loads(body)["content"].startswith("---\n")
        return {"errors": [], "warnings": []}

    def _file(
        self, prefix: str, name: str, revision: str, path: str, body: bytes, token: str | None
    ) -> tuple[bytes, dict[str, str]]:
        repository = self._repository("dataset" if prefix else "model", name, token)
        commit = repository.resolve(unquote(revision))
        files = repository.commits[commit]
        if unquote(path) not in files:
            raise RefusedError(404, "EntryNotFound")
        content = files[unquote(path)]
        return content, {"ETag": f'"{_oid(unquote(path), content)}"', "X-Repo-Commit": commit}


NAME = r"([^/]+/[^/]+)"
ROUTES = [
    (r"/api/repos/create", "POST create"),
    (r"/api/validate-yaml", "POST card"),
    (rf"/api/(model|dataset)s/{NAME}/branch/([^/]+)", "POST branch"),
    (rf"/api/(model|dataset)s/{NAME}(?:/revision/([^/]+))?", "GET info"),
    (rf"/api/(model|dataset)s/{NAME}/tree/([^/]+)", "GET tree"),
    (rf"/api/(model|dataset)s/{NAME}/preupload/([^/]+)", "POST preupload"),
    (rf"/api/(model|dataset)s/{NAME}/commit/([^/]+)", "POST commit"),
    (rf"/(datasets/)?{NAME}\.git/info/lfs/objects/batch", "POST batch"),
    (r"/lfs/([0-9a-f]+)", "PUT upload"),
    (rf"/(datasets/)?{NAME}/resolve/([^/]+)/(.+)", "GET file"),
    (rf"/(datasets/)?{NAME}/resolve/([^/]+)/(.+)", "HEAD file"),
]


def _is_large(path: str) -> bool:
    return path.endswith((".pt", ".safetensors", ".sqlite"))


def _oid(path: str, content: bytes) -> str:
    if _is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _listed(path: str, content: bytes) -> dict[str, Any]:
    oid, size = _oid(path, content), len(content)
    large = {"lfs": {"oid": oid, "size": size, "pointerSize": 130}} if _is_large(path) else {}
    return {"type": "file", "path": path, "size": size, "oid": oid, **large}


@contextmanager
def running_hub() -> Iterator[HubStandIn]:
    """A Hub that answers on a port of this machine until the block ends."""
    hub = HubStandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            _, _, token = self.headers.get("Authorization", "").partition("Bearer ")
            headers = {"Content-Type": "application/json"}
            status = 200
            try:
                answer = hub.answer(self.command, urlsplit(self.path).path, body, token or None)
            except RefusedError as refused:
                status, answer = refused.status, {"error": refused.message, **refused.more}
                headers |= {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            if isinstance(answer, tuple):
                content, more = answer
                headers |= more
            else:
                content = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815 - the names are the server's

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
