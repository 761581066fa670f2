"""The server of ``bmp serve`` without a socket: what is saved, who may ask, what is refused and with which status."""

import io
import json
import os
import signal
import socket
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from itertools import islice

import pytest
from fakes import FakeDetector, FakeSegmenter, scene
from PIL import Image as PILImage
from program import CONFIG, FRONT, main_in, save

from bmp.apps import review
from bmp.apps.access import Gate
from bmp.apps.model_thread import BusyError, ByteCache, ModelThread, Urgency
from bmp.apps.serve import _parser, main, opened, page_address
from bmp.apps.web import Limits
from bmp.errors import UserError
from bmp.io.people_file import PeopleFile

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

OTHER = (36, 12, 50, 40)
LIMITS = Limits(body=200_000, megapixels=0.1, pictures=3)


@contextmanager
def served(folder, *arguments, token=None, limits=LIMITS, host="localhost", config=CONFIG):
    """A client of a server on the fake stages, whose photos lie in ``folder / "photos"``."""
    (folder / "config.py").write_text(config)
    options = _parser().parse_args([*map(str, arguments), "-o", str(folder / "out"), "--device", "cpu"])
    (folder / "out").mkdir(exist_ok=True)
    with (
        opened(options, limits) as app,
        TestClient(Gate(app, token, limits.body), base_url=f"http://{host}") as client,
    ):
        client.app_inside = app
        yield client


@contextmanager
def reviewed(folder, *squares):
    """A client of a server with one photo whose people were found, its address, and it as a document."""
    if squares:
        save(folder / "photos" / "a.png", *squares)
    with served(folder, folder / "photos", "-c", str(folder / "config.py")) as client:
        (row,) = client.get("/api/queue").json()["photos"]
        path = f"/api/photos/{row['key']}"
        yield client, path, client.post(f"{path}/find").json()


def png(*squares, size=None):
    stream = io.BytesIO()
    picture = PILImage.fromarray(scene(*squares).pixels.numpy())
    (picture if size is None else picture.resize(size)).save(stream, "png")
    return stream.getvalue()


def moved(person, number, x, y):
    keypoints = list(person["keypoints"])
    keypoints[3 * number : 3 * number + 3] = [x, y, 2]
    return {**person, "keypoints": keypoints}


def saved_file(folder):
    return json.loads((folder / "out" / "people.json").read_text())


class TestSaving:
    @pytest.mark.slow
    def test_an_edit_is_in_people_json_and_whoever_comes_back_goes_on(self, tmp_path):
        with reviewed(tmp_path, FRONT, OTHER) as (client, path, document):
            first, second = document["people"]
            changes = {"0": moved(first, 9, 12.345, 15), "1": None}
            (queued,) = client.get("/api/queue").json()["photos"]
            assert queued["sure"] == min(first["agreement"], second["agreement"])
            after = client.put(path, json={"revision": 0, "changes": changes}).json()
            assert after["revision"] == 1
        data = saved_file(tmp_path)
        (row,) = data["annotations"]
        assert row["keypoints"][27:30] == [12.35, 15.0, 2] or row["keypoints"][27:30] == [12.34, 15.0, 2]
        assert row["edited"] == ["keypoints"]
        assert "agreement" not in row  # which is about what the model has found
        assert row["round"] == first["round"]  # what nobody edits stays
        assert not (tmp_path / "out" / "people.json.partial").exists()
        with reviewed(tmp_path) as (client, path, document):
            assert document["revision"] == 1
            # Taking a deletion back brings all of the person back.
            back = client.put(path, json={"revision": 1, "changes": {"1": {**second, "edited": []}}}).json()
        restored = back["people"][1]
        assert {key: value for key, value in restored.items() if key != "revision"} == second

    @pytest.mark.slow
    def test_two_tabs_are_merged_by_person_and_conflicts_change_nothing(self, tmp_path):
        with reviewed(tmp_path, FRONT, OTHER) as (client, path, document):
            first, second = document["people"]
            mine, theirs = {"0": moved(first, 0, 1, 2)}, {"1": moved(second, 0, 3, 4)}
            assert client.put(path, json={"revision": 0, "changes": mine}).status_code == 200
            both = client.put(path, json={"revision": 0, "changes": theirs})
            assert both.status_code == 200
            assert [person["keypoints"][:2] for person in both.json()["people"]] == [[1, 2], [3, 4]]
            stale = client.put(path, json={"revision": 0, "changes": {"0": moved(first, 0, 9, 9), "1": None}})
            assert stale.status_code == 409
            assert stale.json()["people"] == ["0", "1"]
            assert stale.json()["document"] == client.get(path).json()
            assert len(client.get(path).json()["people"]) == 2
            # The same once more, since the answer was lost, is no conflict.
            again = client.put(path, json={"revision": 0, "changes": theirs})
            assert (again.status_code, again.json()["revision"]) == (200, 2)
            ahead = client.put(path, json={"revision": 7, "changes": {"0": None}})
            assert ahead.status_code == 409

    @pytest.mark.slow
    def test_a_mask_drawn_by_hand_takes_pixels_and_gives_them_back(self, tmp_path):
        with reviewed(tmp_path, FRONT, OTHER) as (client, path, document):
            first, second = document["people"]
            wide = {**first, "segmentation": second["segmentation"], "edited": ["mask"]}
            client.put(path, json={"revision": 0, "changes": {"0": wide}})
            assert client.get(path).json()["people"][1]["segmentation"] == second["segmentation"]  # as it was drawn
            client.put(path, json={"revision": 1, "changes": {"0": {**first, "edited": []}}})
            assert [person["area"] for person in client.get(path).json()["people"]] == [first["area"], second["area"]]
            client.put(path, json={"revision": 2, "changes": {"0": wide}})
        rows = saved_file(tmp_path)["annotations"]
        assert [row["area"] for row in rows] == [second["area"], 0]
        assert rows[1]["drawn"] == second["segmentation"]

    @pytest.mark.slow
    def test_merging_and_adding_give_rows_that_can_be_saved(self, tmp_path):
        with reviewed(tmp_path, FRONT, OTHER) as (client, path, document):
            both = client.post(f"{path}/merge", json={"people": document["people"]}).json()
            assert both["area"] == sum(person["area"] for person in document["people"])
            added = client.post(f"{path}/add", json={"box": [2, 30, 12, 46]}).json()
            assert added["bbox"] == [2, 30, 10, 16]
            assert added["area"] > 0
            changes = {"0": {**both, "edited": ["merged"]}, "1": None, "new-one": added}
            after = client.put(path, json={"revision": 0, "changes": changes, "reviewed": True}).json()
            assert [person["edited"] for person in after["people"]] == [["merged"], ["added"]]
            (row,) = client.get("/api/queue").json()["photos"]
            assert (row["people"], row["edited"], row["sure"], row["reviewed"]) == (2, 2, None, True)

    @pytest.mark.slow
    def test_the_mask_follows_a_keypoint_and_the_loop_can_be_looked_at(self, tmp_path):
        with reviewed(tmp_path, FRONT) as (client, path, document):
            person = moved(document["people"][0], 16, 40, 30)
            other = {"keypoints": person["keypoints"]}  # of others the pose is enough
            asked = {"person": person, "moved": [16], "others": [other]}
            mask = client.post(f"{path}/mask", json=asked).json()
            assert mask["segmentation"] != person["segmentation"]
            wrong = client.post(f"{path}/mask", json={**asked, "others": [{"keypoints": [1, 2, 2]}]})
            assert (wrong.status_code, "keypoints" in wrong.json()["error"]) == (422, True)
            clicked = client.post(f"{path}/mask", json={"person": {**person, "points": [[1, 1, 1]]}})
            assert clicked.status_code == 422
            assert "takes no points" in clicked.json()["error"]
            rounds = client.post(f"{path}/trace").json()
            assert [len(each["accepted"]) for each in rounds] == [1, 1]
            assert client.get(f"{path}/picture").headers["content-type"] == "image/jpeg"

    def test_a_mask_does_not_wait_until_people_json_is_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(review, "_SECONDS", 0.01)
        writing, written = threading.Event(), threading.Event()
        with reviewed(tmp_path, FRONT) as (client, path, document):
            write = PeopleFile.write

            def slow(file):
                writing.set()
                written.wait(30)
                write(file)

            monkeypatch.setattr(PeopleFile, "write", slow)
            person = moved(document["people"][0], 16, 40, 30)
            client.put(path, json={"revision": 0, "changes": {"0": person}})
            assert writing.wait(10)
            assert client.post(f"{path}/mask", json={"person": person, "moved": [16]}).status_code == 200
            assert not written.is_set()
            written.set()

    def test_a_photo_that_is_opened_is_encoded_before_the_first_correction(self, tmp_path, monkeypatch):
        opened, encode = [], FakeSegmenter.open
        monkeypatch.setattr(FakeSegmenter, "open", lambda self, images: opened.extend(images) or encode(self, images))
        with reviewed(tmp_path, FRONT) as (client, path, document):
            person = moved(document["people"][0], 16, 40, 30)
            client.post(f"{path}/mask", json={"person": person, "moved": [16]})
            assert len(opened) == 2  # to find people, and for corrections
            client.post(f"{path}/find")
            client.post(f"{path}/mask", json={"person": person, "moved": [16]})
            assert len(opened) == 2

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"bbox": [0, 0, -1, 5]}, "bbox"),
            ({"bbox": [0, 0, 5]}, "bbox"),
            ({"keypoints": [1, 2, 2]}, "keypoints"),
            ({"keypoints": [5, 5, 3] * 17}, "expected v"),
            ({"keypoints": [1e9, 5, 2] * 17}, "near the image"),
            ({"segmentation": {"size": [48, 64], "counts": "00"}}, "segmentation"),
            ({"segmentation": {"size": [4, 4], "counts": "`0"}}, "segmentation"),
            ({"score": 2}, "score"),
            ({"points": [[1, 1, 7]]}, "points"),
            ({"edited": ["everything"]}, "edited"),
            ({"keypoint_scores": [0.5]}, "keypoint_scores"),
        ],
    )
    def test_rows_that_make_no_sense_are_refused_in_one_line(self, found, change, words):
        client, path, document = found
        row = {**document["people"][0], **change}
        answer = client.put(path, json={"revision": 0, "changes": {"0": row}})
        assert answer.status_code == 422
        assert words in answer.json()["error"]
        assert "\n" not in answer.json()["error"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with reviewed(tmp_path_factory.mktemp("served"), FRONT) as found:
        yield found


class TestAccess:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 200),
            ({"origin": "http://localhost"}, 200),
            ({"origin": "http://localhost:3000"}, 403),
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"sec-fetch-site": "same-site"}, 403),
            ({"host": "evil.example"}, 403),
            ({"host": "127.0.0.1:8000"}, 200),
            ({"host": "[::1]:8000"}, 200),
            ({"host": "localhost.evil.example"}, 403),
            ({"host": "["}, 400),
            ({"host": "127.0.0.2"}, 200),
        ],
    )
    def test_pages_of_others_and_names_that_were_made_to_point_here_are_refused(self, found, headers, status):
        client, _, _ = found
        assert client.get("/api/queue", headers=headers).status_code == status

    def test_a_token_opens_by_header_or_by_the_cookie_of_the_first_page(self, found):
        inside = found[0].app_inside
        client = TestClient(Gate(inside, "söme secret", 1000), base_url="http://photos.example", follow_redirects=False)
        assert client.get("/api/queue").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        bearer = {"authorization": "Bearer söme secret".encode()}
        assert client.get("/api/queue", headers=bearer).status_code == 200
        assert client.get("/health").json()["status"] == "ok"
        answer = client.get("/", params={"token": "söme secret"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert client.get("/api/queue").status_code == 200

    @pytest.mark.parametrize(
        "path", ["/page/../serve.py", "/page/%2e%2e/serve.py", "/api/photos/..%2f..%2fetc", "/api/photos/a"]
    )
    def test_no_path_leads_anywhere_else(self, found, path):
        assert found[0].get(path).status_code == 404

    def test_the_page_and_the_description_are_served_without_anything_from_elsewhere(self, found):
        client = found[0]
        page = client.get("/")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        for name in ("page.js", "masks.js", "page.css"):
            assert client.get(f"/page/{name}").status_code == 200
        assert "/predict" in client.get("/openapi.json").json()["paths"]


class TestRequests:
    def test_people_of_photos_come_as_coco(self, found):
        files = [("pictures", ("../x/a.png", png(FRONT, OTHER))), ("pictures", ("b.txt", b"no picture"))]
        answer = found[0].post("/predict", files=files).json()
        assert [(row["id"], row["file_name"]) for row in answer["images"]] == [(1, "a.png")]
        assert [row["image_id"] for row in answer["annotations"]] == [1, 1]
        assert [row["file_name"] for row in answer["failed"]] == ["b.txt"]

    def test_given_boxes_are_the_people(self, found):
        files = [("pictures", ("a.png", png(FRONT, OTHER)))]
        answer = found[0].post("/predict", files=files, data={"boxes": "[[1, 1, 9, 9]]"}).json()
        assert [row["bbox"] for row in answer["annotations"]] == [[1, 1, 8, 8]]

    @pytest.mark.parametrize(
        ("pictures", "data", "status", "words"),
        [
            ([b"no picture"], {}, 422, "picture"),
            ([b""], {}, 422, "a.png: the file is empty"),
            ([png(FRONT)[:90]], {}, 422, ""),
            ([png(FRONT)] * 4, {}, 413, "at most 3"),
            ([png(size=(400, 400))], {}, 413, "megapixels"),
            ([b"x" * 300_000], {}, 413, "longer than"),
            ([png(FRONT)], {"boxes": "[[5, 5, 1, 1]]"}, 422, "boxes"),
            ([png(FRONT)], {"boxes": "[[NaN, 5, 1, 1]]"}, 422, "boxes"),
            ([png(FRONT)], {"boxes": "no"}, 422, "boxes"),
            ([png(FRONT)], {"boxes": "[1, 1, 9, 9]"}, 422, "boxes"),
            ([png(FRONT)], {"boxes": '[["1", 1, 9, 9]]'}, 422, "boxes"),
            ([png(FRONT)], {"boxes": "[[-90, -90, -50, -50]]"}, 422, "something of the photo"),
            ([png(FRONT)] * 2, {"boxes": "[]"}, 422, "one picture"),
        ],
    )
    def test_what_cannot_be_done_is_said_in_one_line(self, found, pictures, data, status, words):
        files = [("pictures", ("a.png", content)) for content in pictures]
        answer = found[0].post("/predict", files=files, data=data)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]
        assert "\n" not in answer.json()["error"]

    def test_a_body_of_unknown_length_is_counted_on_the_way(self, found):
        pieces = (b"x" * 50_000 for _ in range(10))
        headers = {"content-type": "multipart/form-data; boundary=b"}
        assert found[0].post("/predict", content=pieces, headers=headers).status_code == 413

    @pytest.mark.parametrize(
        "content",
        [b"", b"no json", b"[]", b'{"revision": -1, "changes": {}}', b'{"revision": 0, "changes": {"a/b": null}}'],
    )
    def test_bodies_that_are_no_saving_are_refused(self, found, content):
        client, path, _ = found
        assert client.put(path, content=content, headers={"content-type": "application/json"}).status_code == 422


def test_programs_that_come_while_the_queue_is_full_are_told_when_to_come_back(tmp_path, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    detect = FakeDetector.detect

    def slow(self, images):
        begun.set()
        assert go.wait(30)
        return detect(self, images)

    monkeypatch.setattr(FakeDetector, "detect", slow)
    files = {"pictures": ("a.png", png(FRONT))}
    with served(tmp_path, "-c", tmp_path / "config.py", "--queue", "1") as client, ThreadPoolExecutor(4) as pool:
        try:
            first = pool.submit(client.post, "/predict", files=files)
            assert begun.wait(30)
            # One of these waits, and there is no room for the others.
            more = [pool.submit(client.post, "/predict", files=files) for _ in range(3)]
            refused = [answer.result() for answer in islice(as_completed(more, 30), 2)]
        finally:
            go.set()
        for answer in refused:
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert "queue is full" in answer.json()["error"]
        assert sorted(answer.result(30).status_code for answer in (first, *more)) == [200, 200, 429, 429]


@pytest.mark.slow  # loads what tells parts from skeletons
def test_parts_are_found_kept_and_gone_with_their_mask(tmp_path):
    (tmp_path / "out").mkdir()
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with served(tmp_path, tmp_path / "photos", "-c", tmp_path / "config.py", "--parts") as client:
        (row,) = client.get("/api/queue").json()["photos"]
        path = f"/api/photos/{row['key']}"
        first, second = client.post(f"{path}/find").json()["people"]
        assert first["parts"]
        assert second["parts"]
        sent = client.post("/predict", files={"pictures": ("a.png", png(FRONT))}).json()
        assert {part["name"] for part in sent["annotations"][0]["parts"]} <= {
            "head",
            "torso",
            "left arm",
            "right arm",
            "left leg",
            "right leg",
        }
        mask = client.post(f"{path}/mask", json={"person": moved(first, 16, 40, 30), "moved": [16]}).json()
        changes = {"0": {**first, **mask}, "1": moved(second, 9, 12, 15)}
        after = client.put(path, json={"revision": 0, "changes": changes}).json()["people"]
        assert "parts" not in after[0]
        assert after[1]["parts"] == second["parts"]
    assert saved_file(tmp_path)["part_set"]["coarse"] is True
    with served(tmp_path) as client:  # goes on with the parser, which people.json names
        assert "parts" in client.get(path).json()["people"][1]
    assert saved_file(tmp_path)["part_set"]["coarse"] is True


def test_people_below_the_score_of_the_config_are_left_out_and_the_file_says_so(tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT)
    with served(
        tmp_path, tmp_path / "photos", "-c", tmp_path / "config.py", config=CONFIG + "min_score = 0.95\n"
    ) as client:
        (row,) = client.get("/api/queue").json()["photos"]
        assert client.post(f"/api/photos/{row['key']}/find").json()["people"] == []
        assert client.post("/predict", files={"pictures": ("a.png", png(FRONT))}).json()["annotations"] == []
    assert saved_file(tmp_path)["info"]["min_score"] == 0.95


@pytest.mark.parametrize(
    ("option", "words"),
    [(["--parts"], "made without"), (["--min-score", "0.5"], "made with 0"), (["--set", "a=1"], "--set")],
)
def test_a_file_goes_on_as_it_began(tmp_path, option, words):
    with reviewed(tmp_path, FRONT):
        pass
    with pytest.raises(UserError, match=words), served(tmp_path, *option):
        pass


@pytest.mark.slow
def test_dropped_photos_join_the_queue_and_are_there_again(tmp_path):
    with served(tmp_path, "-c", str(tmp_path / "config.py")) as client:
        files = [("files", ("../../evil.png", png(FRONT))), ("files", ("notes.txt", b"text"))]
        answer = client.post("/api/uploads", files=files).json()
        assert [row["file_name"] for row in answer["failed"]] == ["notes.txt"]
        (key,) = answer["keys"]
        assert len(client.post(f"/api/photos/{key}/find").json()["people"]) == 1
        film = client.post("/api/uploads", files={"files": ("film.mp4", b"no film")})
        assert (film.status_code, "film.mp4: " in film.json()["error"]) == (422, True)
    (kept,) = (tmp_path / "out" / "uploads").iterdir()
    assert kept.name.startswith("evil-")
    with served(tmp_path) as client:  # with the pipeline of people.json
        assert [row["key"] for row in client.get("/api/queue").json()["photos"]] == [key]


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(tmp_path, capfd, caplog):
    (tmp_path / "config.py").write_text(CONFIG)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert main(["-c", f"{tmp_path}/config.py", "-o", f"{tmp_path}/out", "--port", str(port)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"--port {port}: cannot listen there" in line
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


@pytest.mark.slow
def test_the_command_says_where_the_page_is_and_ends_when_it_is_told_to(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def end():
        for _ in range(600):
            time.sleep(0.05)
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                os.kill(os.getpid(), signal.SIGTERM)  # which the server has taken over by now
                return

    ending = threading.Thread(target=end)
    ending.start()
    arguments = ["-c", "config.py", "-o", "out", "--port", port, "--token", "a&b", "--quiet"]
    code, out, err = main_in(tmp_path, "serve", *arguments)
    ending.join()
    assert (code, err) == (0, "")
    assert out == f"open http://127.0.0.1:{port}/?token=a%26b (Ctrl-C ends it; everything is saved)\n"
    assert saved_file(tmp_path)["annotations"] == []


def test_the_address_of_the_page_has_its_token_whatever_that_is():
    assert page_address("::1", 80, "ö a&b=#") == "http://[::1]:80/?token=%C3%B6%20a%26b%3D%23"
    assert page_address("127.0.0.1", 8000, None) == "http://127.0.0.1:8000/"


class TestModelThread:
    def test_a_full_queue_says_when_to_come_back_and_what_is_urgent_goes_first(self):
        go, order = threading.Event(), []
        thread = ModelThread(dict.fromkeys(Urgency, 2))
        first = thread.submit(go.wait, Urgency.REQUEST)
        while thread._waiting:
            pass
        later = [thread.submit(lambda n=n: order.append(n), Urgency.REQUEST) for n in (1, 2)]
        with pytest.raises(BusyError) as full:
            thread.submit(print, Urgency.REQUEST)
        assert full.value.retry_after >= 1
        later.append(thread.submit(lambda: order.append("urgent"), Urgency.CORRECTION))
        go.set()
        for future in (first, *later):
            future.result(10)
        assert order == ["urgent", 1, 2]
        thread.stop()

    def test_views_are_kept_up_to_a_number_of_bytes(self):
        import torch

        cache, made = ByteCache(100), []

        def make(name):
            return cache.get(name, lambda: made.append(name) or (torch.zeros(10), None))

        for name in "abac":  # 40 bytes each: c takes the place of b
            make(name)
        assert cache.bytes == 80
        make("a"), make("b")
        assert made == ["a", "b", "c", "b"]
