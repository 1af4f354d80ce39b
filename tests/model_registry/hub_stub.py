"""A hub on loopback: the few addresses of the Hugging Face Hub that pushing and pulling a policy ask."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """What it holds.

    Attributes:
        files: The files of each repository.
        asked: Method and path of every request.
        lies: Content that is sent in place of a file, by its path in the repository.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.private: dict[str, Any] = {}
        self.lies: dict[str, bytes] = {}
        self.url = ""

    def commit(self, repo: str) -> str:
        """A name of its content."""
        return hashlib.sha1(repr(sorted(self.files[repo].items())).encode()).hexdigest()


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """Runs in a thread."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, content: bytes | dict[str, Any], status: int = 200, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                repo = "/".join(parts[2:4])
                if repo not in hub.files:
                    self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
                    return
                siblings = [{"rfilename": name} for name in hub.files[repo]]
                self.answer({"id": repo, "modelId": repo, "sha": hub.commit(repo), "siblings": siblings, "tags": []})
                return
            repo, name = "/".join(parts[:2]), "/".join(parts[4:])
            if name not in hub.files.get(repo, {}):
                self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
                return
            self.answer(hub.lies.get(name, hub.files[repo][name]), ETag='"1"', X_Repo_Commit=parts[3])

        do_HEAD = do_GET

        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"POST {path}")
            body = self.body()
            if path == "/api/repos/create":
                facts = json.loads(body)
                repo = f"{facts['organization']}/{facts['name']}"
                if repo in hub.files:
                    self.answer({"error": "You already created this model repo", "url": f"{hub.url}/{repo}"}, 409)
                    return
                hub.files[repo], hub.private[repo] = {}, facts
                self.answer({"url": f"{hub.url}/{repo}"})
                return
            if path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
                return
            repo = "/".join(path.split("/")[3:5])
            if "/preupload/" in path:
                files = [each["path"] for each in json.loads(body)["files"]]
                modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in files]
                self.answer({"files": modes})
                return
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[repo][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del hub.files[repo][value["path"]]
            commit = hub.commit(repo)
            self.answer({"commitUrl": f"{hub.url}/{repo}/commit/{commit}", "commitOid": commit, "success": True})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
