"""A stand-in of the Hub's HTTP endpoints for models, as far as pushing and loading need them.

It keeps repositories in memory, checks tokens, sizes and SHA-256, and fails when it is told to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_may_write"
LARGE = (".safetensors", ".onnx", ".bin")


class HubServer(ThreadingHTTPServer):
    """The hub.

    Args:
        faults: ``{pattern of "METHOD /path": [status, …]}``; such requests get these in turn before they get through.
        all_regular: no file goes through LFS.

    Attributes:
        repos: ``{id: {"private": bool, "branches": {branch: {path: bytes}}, "commits": [branch, …]}}``.
        requests: ``METHOD /path`` of all, in order.
        stored: ``{sha256: bytes}`` of LFS.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, faults=None, all_regular=False):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults = {pattern: list(statuses) for pattern, statuses in (faults or {}).items()}
        self.all_regular = all_regular
        self.repos, self.requests, self.stored, self.verified = {}, [], {}, []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.shutdown()
        self.server_close()

    def fault(self, asked):
        with self.lock:
            self.requests.append(asked)
            for pattern, statuses in self.faults.items():
                if statuses and re.search(pattern, asked):
                    return statuses.pop(0)
        return None

    def add(self, repo_id, private=False):
        self.repos[repo_id] = {"private": private, "branches": {"main": {".gitattributes": b""}}, "commits": []}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle_one(self):
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(f"{self.command} {path}")
        if fault is not None:
            return self.reply(fault, {"error": f"told to answer {fault}"})
        if self.command == "POST" and self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.reply(401, {"error": "Invalid username or password."})
        for pattern, answer in ROUTES.items():
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found:
                return answer(self, body, *found.groups())
        return self.reply(404, {"error": "no such thing"}, {"X-Error-Code": "RepoNotFound"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815

    def reply(self, status, content, headers=()):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args):
        """Quiet."""

    def create(self, body):
        asked = json.loads(body)
        repo_id = f"{asked['organization'] or 'me'}/{asked['name']}"
        if asked.get("type", "model") != "model":
            return self.reply(400, {"error": "models only"})
        status = 409 if repo_id in self.server.repos else 200
        if status == 200:
            self.server.add(repo_id, asked.get("visibility") == "private" or asked.get("private", False))
        return self.reply(status, {"url": f"{self.server.url}/{repo_id}"})

    def info(self, body, repo_id, branch=None):
        repo = self.server.repos.get(repo_id)
        files = repo and repo["branches"].get(branch or "main")
        if files is None:
            missing = "RevisionNotFound" if repo else "RepoNotFound"
            return self.reply(404, {"error": "not found"}, {"X-Error-Code": missing})
        siblings = [{"rfilename": path} for path in files]
        answer = {
            "id": repo_id,
            "private": repo["private"],
            "sha": sha_of(repo, branch or "main"),
            "siblings": siblings,
            "tags": [],
        }
        return self.reply(200, {**answer, "modelId": repo_id})

    def branch(self, body, repo_id, branch):
        branches = self.server.repos[repo_id]["branches"]
        if branch in branches:
            return self.reply(409, {"error": "exists"})
        branches[branch] = dict(branches["main"])
        return self.reply(200, {})

    def validate(self, body):
        content = json.loads(body)["content"]
        if "license: nonsense" in content:
            return self.reply(400, {"errors": [{"message": '"license" must be one of …'}], "warnings": []})
        return self.reply(200, {"errors": [], "warnings": []})

    def preupload(self, body, repo_id, branch):
        files = self.server.repos[repo_id]["branches"].get(branch) if repo_id in self.server.repos else None
        if files is None:
            return self.reply(404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})
        modes = []
        for file in json.loads(body)["files"]:
            assert base64.b64decode(file["sample"]) or not file["size"]
            large = file["path"].endswith(LARGE) and not self.server.all_regular
            modes.append({"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False})
            if file["path"] in files:
                modes[-1]["oid"] = oid_of(files[file["path"]], large)
        return self.reply(200, {"files": modes})

    def batch(self, body, repo_id):
        objects = []
        for one in json.loads(body)["objects"]:
            actions = {
                "upload": {"href": f"{self.server.url}/lfs/{one['oid']}/{one['size']}"},
                "verify": {"href": f"{self.server.url}/verify"},
            }
            objects.append(one if one["oid"] in self.server.stored else {**one, "actions": actions})
        return self.reply(200, {"transfer": "basic", "objects": objects})

    def put(self, body, oid, size):
        if hashlib.sha256(body).hexdigest() != oid or len(body) != int(size):
            return self.reply(400, {"error": "other bytes than announced"})
        self.server.stored[oid] = body
        return self.reply(200, {})

    def verify(self, body):
        asked = json.loads(body)
        whole = len(self.server.stored.get(asked["oid"], b"")) == asked["size"]
        self.server.verified.append(asked["oid"])
        return self.reply(200 if whole else 404, {})

    def commit(self, body, repo_id, branch):
        files, summary = dict(self.server.repos[repo_id]["branches"][branch]), None
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                summary = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                if len(self.server.stored.get(value["oid"], b"")) != value["size"]:
                    return self.reply(400, {"error": f"{value['path']} was not uploaded"})
                files[value["path"]] = self.server.stored[value["oid"]]
        assert summary
        self.server.repos[repo_id]["branches"][branch] = files
        self.server.repos[repo_id]["commits"].append(branch)
        sha = sha_of(self.server.repos[repo_id], branch)
        url = f"{self.server.url}/{repo_id}/commit/{sha}"
        return self.reply(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def resolve(self, body, repo_id, revision, path):
        for branch, files in self.server.repos.get(repo_id, {}).get("branches", {}).items():
            sha = sha_of(self.server.repos[repo_id], branch)
            if revision not in (branch, sha):
                continue
            if path not in files:
                return self.reply(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            tag = hashlib.sha256(files[path]).hexdigest()
            return self.reply(200, files[path], {"ETag": f'"{tag}"', "X-Repo-Commit": sha})
        return self.reply(404, {}, {"X-Error-Code": "RevisionNotFound"})

    def no_folder(self, body, *found):
        return self.reply(404, {}, {"X-Error-Code": "EntryNotFound"})


ID = r"([^/]+/[^/]+?)"
ROUTES = {
    r"POST /api/repos/create": _Handler.create,
    rf"GET /api/models/{ID}": _Handler.info,
    rf"GET /api/models/{ID}/revision/(.+)": _Handler.info,
    rf"POST /api/models/{ID}/branch/(.+)": _Handler.branch,
    r"POST /api/validate-yaml": _Handler.validate,
    rf"POST /api/models/{ID}/preupload/(.+)": _Handler.preupload,
    rf"POST /{ID}\.git/info/lfs/objects/batch": _Handler.batch,
    r"PUT /lfs/(\w+)/(\d+)": _Handler.put,
    r"POST /verify": _Handler.verify,
    rf"POST /api/models/{ID}/commit/(.+)": _Handler.commit,
    rf"GET /api/models/{ID}/tree/(.+)": _Handler.no_folder,
    rf"(?:GET|HEAD) /{ID}/resolve/([^/]+)/(.+)": _Handler.resolve,
}


def oid_of(content, large):
    """Git's name of a file; of a large one that of its content."""
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha_of(repo, branch):
    """A name of a branch's last commit."""
    return hashlib.sha1(f"{branch} {repo['commits']}".encode()).hexdigest()
