"""A local server that plays GitHub: its REST API as docs.github.com describes it, and git over smart HTTP.

It refuses what GitHub refuses, in GitHub's words: bad tokens (401), private repositories (404), limits (403, 429),
pull requests that can't be opened (422). A pull request needs branches that the repository really has.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from miyabi_cli.workspace.diffs import parse_diff
from tests.support.serving import serving

TOKEN = "ghp_0123456789abcdefABCDEF0123456789abcd"
DOCS = "https://docs.github.com/rest"


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeGitHub:
    """The repository `acme/calc`; `bare` is what its branches are. `faults` are answered first, one a request.

    `login` is whose token it is, "" for an app's; `diff` the pull requests' diff, on whose lines comments may stand.
    """

    bare: Path | None = None
    issues: list[dict[str, Any]] = field(default_factory=list)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    labels: list[dict[str, Any]] = field(default_factory=list)
    pulls: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    reviews: list[dict[str, Any]] = field(default_factory=list)
    review_comments: list[dict[str, Any]] = field(default_factory=list)
    login: str = "ada"
    diff: bytes = b"diff --git a/calc.py b/calc.py\n"
    private: bool = False
    token: str = TOKEN
    default_branch: str = "main"
    pull_refused: str = ""
    page: int = 100
    faults: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def branches(self) -> dict[str, str]:
        """Return the branches of the bare repository, and their commits."""
        if self.bare is None:
            return {self.default_branch: "0" * 40}
        done = subprocess.run(
            ["git", "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads"],
            cwd=self.bare,
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(line.split(" ") for line in done.stdout.splitlines())

    def account(self) -> dict[str, Any]:
        """Return who has sent a request with the token."""
        return {"login": self.login or "github-actions[bot]", "type": "User" if self.login else "Bot"}

    def paths(self, method: str) -> list[str]:
        """Return the paths that were asked for by a method, below the repository."""
        return [one.path.removeprefix("/repos/acme/calc") for one in self.asked if one.method == method]


def issue(number: int, title: str, body: str | None = "", **more: Any) -> dict[str, Any]:
    """Return an issue as the API gives it."""
    return {
        "id": 1000 + number,
        "number": number,
        "title": title,
        "body": body,
        "user": {"login": "grace", "type": "User"},
        "author_association": "NONE",
        "state": "open",
        "created_at": "2026-03-01T12:00:00Z",
        "html_url": f"https://github.com/acme/calc/issues/{number}",
        "labels": [{"id": 1, "name": "bug", "color": "d73a4a"}],
        "comments": 0,
        **more,
    }


def comment(number: int, login: str, body: str, kind: str = "User") -> dict[str, Any]:
    """Return a comment as the API gives it."""
    return {
        "id": number,
        "body": body,
        "user": {"login": login, "type": kind},
        "author_association": "MEMBER",
        "created_at": f"2026-03-02T12:00:{number % 60:02}Z",
    }


@contextmanager
def github_server(github: FakeGitHub) -> Iterator[FakeGitHub]:
    """Serve on a loopback port of its own until the block ends."""

    class Player(_Player):
        state = github

    with serving(Player) as github.url:
        yield github


class _Player(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: FakeGitHub

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        self._play()

    def do_POST(self) -> None:
        self._play()

    do_PUT = do_PATCH = do_DELETE = do_POST

    def _play(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Asked(self.command, parts.path, query, headers, body)
        with self.state.lock:
            self.state.asked.append(request)
            fault = self.state.faults.pop(0) if self.state.faults else None
        if fault:
            self._send(*fault)
        elif ".git/" in parts.path:
            self._git(request, parts.query)
        else:
            self._rest(request)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(payload)))
        self.send_header("x-github-media-type", "github.v3; format=json")
        for name, value in (headers or {}).items():
            # A time to come is written as `+30`: in thirty seconds from now.
            self.send_header(name, str(int(time.time() + int(value))) if value.startswith("+") else value)
        self.end_headers()
        self.wfile.write(payload)

    # git

    def _git(self, request: Asked, query: str) -> None:
        """Play github.com's smart HTTP by git's own backend; who pushes shows the token as a password."""
        given = request.headers.get("authorization", "")
        wanted = "Basic " + base64.b64encode(f"x-access-token:{self.state.token}".encode()).decode()
        is_push = "git-receive-pack" in self.path
        if (is_push or self.state.private or given) and given != wanted:
            self._send(401, b"", {"www-authenticate": 'Basic realm="GitHub"'})
            return
        assert self.state.bare is not None
        done = subprocess.run(
            ["git", "http-backend"],
            input=request.body,
            capture_output=True,
            check=True,
            env={
                "PATH": "/usr/bin:/bin",
                "GIT_PROJECT_ROOT": str(self.state.bare.parent),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": re.sub(r"^/acme/calc\.git", f"/{self.state.bare.name}", request.path),
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": request.headers.get("content-type", ""),
                "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
                "REMOTE_USER": "x-access-token",
                "REMOTE_ADDR": "127.0.0.1",
            },
        )
        head, _, payload = done.stdout.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(lines.pop("Status", "200").split()[0])
        self.send_response(status)
        for name, value in {**lines, "Content-Length": str(len(payload))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    # REST

    def _rest(self, request: Asked) -> None:
        given = request.headers.get("authorization", "")
        if given and given not in (f"Bearer {self.state.token}", f"token {self.state.token}"):
            self._send(401, {"message": "Bad credentials", "documentation_url": DOCS, "status": "401"})
            return
        if not request.headers.get("user-agent"):
            self._send(403, b"Request forbidden by administrative rules.")
            return
        path = request.path.lower().removeprefix("/api/v3")
        if path == "/user":
            refused = {"message": "Resource not accessible by integration", "documentation_url": DOCS, "status": "403"}
            self._send(*((200, self.state.account()) if self.state.login else (403, refused)))
            return
        found = re.fullmatch(r"/repos/acme/calc(?:/(.*))?", path)
        if not found or (self.state.private and not given):
            self._missing()
            return
        if request.method != "GET" and not given:
            self._send(401, {"message": "Requires authentication", "documentation_url": DOCS, "status": "401"})
            return
        parts = (found[1] or "").split("/")
        getattr(self, f"_{request.method.lower()}_{parts[0] or 'repository'}", self._unknown)(request, parts[1:])

    def _missing(self) -> None:
        self._send(404, {"message": "Not Found", "documentation_url": DOCS, "status": "404"})

    def _unknown(self, *_: Any) -> None:
        self._missing()

    def _get_repository(self, *_: Any) -> None:
        self._send(
            200,
            {
                "id": 1,
                "name": "calc",
                "full_name": "acme/calc",
                "owner": {"login": "acme", "type": "Organization"},
                "private": self.state.private,
                "default_branch": self.state.default_branch,
            },
        )

    def _get_branches(self, request: Asked, rest: list[str]) -> None:
        name = request.path.rpartition("/")[2].replace("%2F", "/")
        commit = self.state.branches().get(name)
        if commit is None:
            self._send(404, {"message": "Branch not found", "documentation_url": DOCS, "status": "404"})
        else:
            self._send(200, {"name": name, "commit": {"sha": commit}, "protected": False})

    def _get_issues(self, request: Asked, rest: list[str]) -> None:
        if not rest:
            state = request.query.get("state", "open")
            self._list(request, [one for one in self.state.issues if state in ("all", one["state"])])
            return
        number = int(rest[0])
        known = next((one for one in self.state.issues if one["number"] == number), None)
        if known is None:
            self._missing()
        elif rest[1:] == ["comments"]:
            self._list(request, self.state.comments.get(number, []))
        else:
            self._send(200, {**known, "comments": len(self.state.comments.get(number, []))})

    def _post_issues(self, request: Asked, rest: list[str]) -> None:
        known = next((one for one in self.state.issues if one["number"] == int(rest[0])), None)
        if known is None or rest[1:] != ["labels"]:
            self._missing()
            return
        known["labels"] += [{"name": name} for name in request.json["labels"]]
        self._send(200, known["labels"])

    def _get_labels(self, request: Asked, rest: list[str]) -> None:
        self._list(request, self.state.labels)

    def _post_labels(self, request: Asked, rest: list[str]) -> None:
        if any(one["name"].lower() == request.json["name"].lower() for one in self.state.labels):
            self._invalid(field="name", code="already_exists")
            return
        self.state.labels.append(request.json)
        self._send(201, request.json)

    def _patch_labels(self, request: Asked, rest: list[str]) -> None:
        name = unquote(request.path.rpartition("/")[2])
        known = next((one for one in self.state.labels if one["name"] == name), None)
        if known is None:
            self._missing()
            return
        known.update(request.json)
        self._send(200, known)

    def _get_pulls(self, request: Asked, rest: list[str]) -> None:
        if not rest:
            head, state = request.query.get("head", ""), request.query.get("state", "open")
            found = [one for one in self.state.pulls if state in ("all", one["state"])]
            self._list(request, [one for one in found if not head or one["head"]["label"] == head])
            return
        pull = next((one for one in self.state.pulls if one["number"] == int(rest[0])), None)
        if pull is None:
            self._missing()
        elif rest[1:] == ["files"]:
            self._list(request, self.state.files)
        elif rest[1:] == ["reviews"]:
            self._list(request, self.state.reviews)
        elif rest[1:] == ["comments"]:
            self._list(request, self.state.review_comments)
        elif "diff" in request.headers["accept"]:
            self._send(200, self.state.diff)
        else:
            self._send(200, pull)

    def _post_pulls(self, request: Asked, rest: list[str]) -> None:
        data = request.json
        if rest[1:] == ["reviews"]:
            self._review(data)
            return
        if self.state.pull_refused:
            self._send(403, {"message": self.state.pull_refused, "documentation_url": DOCS, "status": "403"})
            return
        label = f"acme:{data['head']}"
        known = self.state.branches()
        if any(one["head"]["label"] == label and one["state"] == "open" for one in self.state.pulls):
            self._invalid(code="custom", message=f"A pull request already exists for {label}.")
        elif data["head"] not in known:
            self._invalid(field="head", code="invalid")
        elif data["base"] not in known:
            self._invalid(field="base", code="invalid")
        elif known[data["head"]] == known[data["base"]]:
            self._invalid(code="custom", message=f"No commits between {data['base']} and {data['head']}")
        elif len(data["body"]) > 65536 or len(data["title"]) > 256:
            self._invalid(code="custom", message="body is too long (maximum is 65536 characters)")
        else:
            self.state.pulls.append(pull(len(self.state.pulls) + 5, data, known))
            self._send(201, self.state.pulls[-1])

    def _review(self, data: dict[str, Any]) -> None:
        """Take a review, and all of its comments or none."""
        assert data["event"] == "COMMENT"
        assert data["body"]
        lines = {
            (diff.path, line.new) for diff in parse_diff(self.state.diff) for hunk in diff.hunks for line in hunk.lines
        }
        for one in data.get("comments", []):
            if lines and {(one["path"], one["line"]), (one["path"], one.get("start_line", one["line"]))} - lines:
                errors = ["Pull request review thread line must be part of the diff"]
                said = {"message": "Unprocessable Entity", "errors": errors, "documentation_url": DOCS, "status": "422"}
                self._send(422, said)
                return
        account = self.state.account()
        made = {"id": len(self.state.reviews) + 1, "user": account, "state": "COMMENTED", **data}
        self.state.reviews.append(made)
        for one in data.get("comments", []):
            number = len(self.state.review_comments) + 100 * len(self.state.reviews)
            self.state.review_comments.append({"id": number, "user": account, **one})
        self._send(200, made)

    def _put_pulls(self, request: Asked, rest: list[str]) -> None:
        review = next(one for one in self.state.reviews if one["id"] == int(rest[2]))
        review["body"] = request.json["body"]
        self._send(200, review)

    def _patch_pulls(self, request: Asked, rest: list[str]) -> None:
        found = next(one for one in self.state.review_comments if one["id"] == int(rest[1]))
        found["body"] = request.json["body"]
        self._send(200, found)

    def _delete_pulls(self, request: Asked, rest: list[str]) -> None:
        left = [one for one in self.state.review_comments if one["id"] != int(rest[1])]
        if len(left) == len(self.state.review_comments):
            self._missing()
            return
        self.state.review_comments[:] = left
        self._send(204, b"")

    def _invalid(self, **error: str) -> None:
        errors = [{"resource": "PullRequest", **error}]
        said = {"message": "Validation Failed", "errors": errors, "documentation_url": DOCS, "status": "422"}
        self._send(422, said)

    def _list(self, request: Asked, rows: list[dict[str, Any]]) -> None:
        """Send a page, with the addresses of its neighbours in the header Link."""
        size = min(int(request.query.get("per_page", 30)), self.state.page)
        number = int(request.query.get("page", 1))
        headers = {}
        if number * size < len(rows):
            query = "&".join(f"{key}={value}" for key, value in {**request.query, "page": number + 1}.items())
            last = -(-len(rows) // size)
            address = f"{self.state.url}{request.path}"
            headers["link"] = f'<{address}?{query}>; rel="next", <{address}?page={last}>; rel="last"'
        self._send(200, rows[(number - 1) * size : number * size], headers)


def pull(number: int, data: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """Return a pull request as the API gives it."""
    head, base = data["head"], data["base"]
    return {
        "id": 2000 + number,
        "number": number,
        "html_url": f"https://github.com/acme/calc/pull/{number}",
        "title": data["title"],
        "body": data["body"],
        "user": {"login": "grace", "type": "User"},
        "state": "open",
        "draft": data.get("draft", False),
        "head": {"ref": head, "label": f"acme:{head}", "sha": known.get(head, "")},
        "base": {"ref": base, "label": f"acme:{base}", "sha": known.get(base, "")},
    }
