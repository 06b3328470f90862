"""The Hub's API as a small local server: downloads from a folder, and commits that it takes in."""

import base64
import json
import re
from typing import Any

from tests.data.collect.platforms import Answer, Platform


class Hub(Platform):
    """Holds files by repository; takes repositories and commits."""

    def __init__(self, files: dict[str, dict[str, bytes]] | None = None, *, token: str = "hf_secret") -> None:
        super().__init__()
        self.files, self.token = files or {}, token
        self.made: list[dict[str, Any]] = []
        self.commits: list[tuple[str, list[str]]] = []
        self.stored: dict[str, bytes] = {}

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Any:
        if (
            path.startswith("/api/")
            and path != "/api/repos/create"
            and "commit" not in path
            and "preupload" not in path
        ):
            if match := re.fullmatch(r"/api/datasets/([\w.-]+/[\w.-]+)(?:/revision/\w+)?", path):
                return self._info(match[1])
            if path == "/api/validate-yaml":  # the card's head
                return {"errors": [], "warnings": []}
            if path == "/api/whoami-v2":
                return {"name": "me", "type": "user"}
        if path.startswith("/api/"):
            if headers.get("authorization") != f"Bearer {self.token}":
                raise Answer(401, {"error": "Invalid credentials in Authorization header"})
            return self._write(path, body)
        match = re.fullmatch(r"/datasets/([\w.-]+/[\w.-]+)/resolve/(\w+)/(.+)", path)
        found = self.files.get(match[1], {}).get(match[3]) if match else None
        if found is None:
            raise Answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        raise Answer(200, found, {"ETag": '"etag"', "X-Repo-Commit": "c" * 40, "Accept-Ranges": "bytes"})

    def _info(self, name: str) -> Any:
        if name not in self.files:
            raise Answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        names = [{"rfilename": file} for file in self.files[name]]
        return {
            "_id": "1",
            "id": name,
            "sha": "c" * 40,
            "siblings": names,
            "private": False,
            "tags": [],
            "downloads": 0,
        }

    def _write(self, path: str, body: bytes) -> Any:
        if path == "/api/repos/create":
            asked = json.loads(body)
            self.made.append(asked)
            if asked.get("organization") == "taken":
                raise Answer(403, {"error": "You don't have the rights to create a repo under this namespace"})
            kind = "datasets/" if asked.get("type") == "dataset" else ""
            return {"url": f"{self.url}/{kind}{asked.get('organization', 'me')}/{asked['name']}", "id": "1"}
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            return {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}
        if path.endswith("/commit/main"):
            names = []
            for line in body.splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    names.append(row["value"]["path"])
                    self.stored[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            self.commits.append((path, names))
            page = path.removeprefix("/api/").removeprefix("models/").removesuffix("main") + "1" * 40
            return {"commitUrl": f"{self.url}/{page}", "commitOid": "1" * 40, "success": True, "hookOutput": ""}
        raise Answer(404, {"error": f"no {path}"})
