"""The page in a browser: what moves under the mouse and a finger, what is saved, what two tabs do to each other.

Needs Chromium: Debian's package, or any that BMP_CHROMIUM or the PATH names. It is not downloaded.
"""

import contextlib
import json
import os
import shutil
import threading
import time

import pytest
from fakes import scene
from PIL import Image as PILImage
from program import CONFIG, FRONT, ROOT, save

from bmp.apps.access import Gate
from bmp.apps.serve import _parser, opened, page_address
from bmp.checkpoints import sources
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.errors import UserError

pytest.importorskip("fastapi")
from bmp.apps.web import Limits

try:
    from playwright import sync_api
except ImportError:
    sync_api = None

OTHER = (36, 12, 50, 40)
VIEWPORT = {"width": 1000, "height": 600}
CHROMIUM = os.environ.get("BMP_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
# Its own waiting (wait_for_function) evaluates text, which the page's policy forbids.
expect = getattr(sync_api, "expect", None)
pytestmark = pytest.mark.slow  # starts a browser and a server


@pytest.fixture(scope="module")
def browser():
    if expect is None:
        pytest.skip("playwright is not installed: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one in BMP_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(folder, *arguments, config=CONFIG):
    """Answer in a thread of this process, as the command does in its own, and give the address."""
    uvicorn = pytest.importorskip("uvicorn")
    (folder / "config.py").write_text(config)
    (folder / "out").mkdir(exist_ok=True)
    given = [str(folder / "photos"), "-c", str(folder / "config.py"), "-o", str(folder / "out"), "--device", "cpu"]
    with opened(_parser().parse_args([*given, *arguments]), Limits()) as app:
        server = uvicorn.Server(uvicorn.Config(Gate(app, None, Limits().body), port=0, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield page_address(*server.servers[0].sockets[0].getsockname(), None)
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()


class Tab:
    """A tab with the first photo; positions are pixels of the photo, of ``size``."""

    def __init__(self, context, address, people=2, size=(64, 48)):
        self.size = size
        self.page = context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address, timeout=90_000)  # on a machine that is busy
        expect(self.page.locator("#people li")).to_have_count(people, timeout=90_000)
        expect(self.page.locator("#saved")).to_have_text("saved")

    @classmethod
    def of(cls, page, size):
        """The tab of a page that is open."""
        tab = cls.__new__(cls)
        tab.page, tab.size = page, size
        return tab

    def at(self, x, y):
        box = self.page.locator("#canvas").bounding_box()
        scale = 0.98 * min(box[side] / length for side, length in zip(("width", "height"), self.size, strict=True))
        left, top = (
            box["x"] + (box["width"] - scale * self.size[0]) / 2,
            box["y"] + (box["height"] - scale * self.size[1]) / 2,
        )
        return left + x * scale, top + y * scale

    def drag(self, start, end):
        masks = int(self.page.locator("#canvas").get_attribute("data-masks") or 0)
        self.page.mouse.move(*self.at(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end), steps=5)
        self.page.mouse.up()
        expect(self.page.locator("#canvas")).to_have_attribute("data-masks", str(masks + 1))

    def saved(self, revision):
        expect(self.page.locator("#saved")).to_have_text(f"saved, revision {revision}")

    def pixels(self):
        return self.page.locator("#canvas").screenshot()


@pytest.fixture
def context(browser):
    with browser.new_context(viewport=VIEWPORT) as context:
        yield context


def rows(folder):
    return json.loads((folder / "out" / "people.json").read_text())["annotations"]


def test_a_person_is_put_right_by_mouse_and_keys(context, tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with serving(tmp_path) as address:
        tab = Tab(context, address)
        assert "takes no points" in tab.page.locator("#note").inner_text()
        before = tab.pixels()
        tab.drag((30, 20), (33, 29))  # the right ankle, in the corner of the square
        tab.saved(1)
        assert tab.pixels() != before
        tab.page.keyboard.press("Control+z")
        tab.saved(2)
        tab.page.keyboard.press("Control+Shift+z")
        tab.saved(3)
        tab.page.keyboard.press("Delete")  # the keypoint
        tab.saved(4)
        tab.page.keyboard.press("a")
        tab.page.mouse.move(*tab.at(2, 30))
        tab.page.mouse.down()
        tab.page.mouse.move(*tab.at(12, 46), steps=3)
        tab.page.mouse.up()
        tab.saved(5)
        tab.page.click("#people li:nth-child(1) button")
        tab.page.click("#people li:nth-child(2) button", modifiers=["Shift"])
        tab.page.click("#merge")
        tab.saved(6)
        tab.page.click("#trace")
        expect(tab.page.locator("#round option")).to_have_count(6)
        assert tab.errors == []
    merged, added = sorted(rows(tmp_path), key=lambda row: row["edited"])[::-1][:2]
    assert {tuple(row["edited"]) for row in rows(tmp_path)} == {("added",), ("keypoints", "mask", "merged")}
    assert merged["area"] > added["area"] > 0


def test_while_a_mask_is_under_way_only_the_newest_question_waits(context, tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with serving(tmp_path) as address:
        tab = Tab(context, address)
        asked = []

        def hold_the_first(route):
            asked.append(route)
            if len(asked) > 1:
                route.continue_()

        tab.page.route("**/mask", hold_the_first)
        tab.page.mouse.click(*tab.at(30, 20))  # the right ankle
        for _ in range(5):
            tab.page.keyboard.press("ArrowDown")
        (first,) = asked
        first.continue_()
        tab.saved(1)
        assert len(asked) == 2
        assert tab.errors == []
    assert [round(value) for value in rows(tmp_path)[0]["keypoints"][48:50]] == [30, 25]


def test_two_tabs_lose_nothing_and_tabs_that_were_closed_neither(browser, context, tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with serving(tmp_path) as address, browser.new_context(viewport=VIEWPORT) as elsewhere:
        one, other = Tab(context, address), Tab(elsewhere, address)
        one.drag((20, 10), (17, 9))
        one.saved(1)
        other.drag((36, 12), (38, 8))  # the other person: both are kept
        other.saved(2)
        other.drag((50, 40), (52, 44))
        other.saved(3)
        one.drag((36, 12), (33, 12))  # the same person: asked
        one.page.wait_for_selector("#conflicts button")
        one.page.click("text=Keep mine")
        one.saved(4)
        third = Tab(context, address)
        context.route("**/api/photos/*", abort_saving)
        one.drag((17, 9), (12, 6))
        third.drag((33, 12), (33, 18))
        one.page.close()  # before anything of that was sent
        third.page.close()
        context.unroute("**/api/photos/*", abort_saving)
        again = Tab.of(context.new_page(), one.size)
        again.page.goto(f"{address}#no-such-photo")
        again.saved(5)
        # Storage that is full or forbidden keeps nobody from working.
        again.page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full'); }; }")
        again.drag((33, 18), (34, 20))
        again.saved(6)
    first, second = rows(tmp_path)
    assert [round(value) for value in first["keypoints"][:2]] == [12, 6]
    assert [round(value) for value in second["keypoints"][:2]] == [34, 20]


def abort_saving(route):
    route.abort() if route.request.method == "PUT" else route.continue_()


def test_a_finger_moves_a_keypoint_and_two_zoom(browser, tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with serving(tmp_path) as address, browser.new_context(viewport=VIEWPORT, has_touch=True) as context:
        tab = Tab(context, address)
        session = context.new_cdp_session(tab.page)

        def touch(kind, *points):
            spots = [dict(zip("xy", point, strict=True), id=number) for number, point in enumerate(points)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": spots})

        touch("touchStart", tab.at(30, 20))
        for step in (1, 2, 3):
            touch("touchMove", tab.at(30 + step, 20 + 3 * step))
        touch("touchEnd")
        tab.saved(1)
        before = tab.pixels()
        touch("touchStart", tab.at(20, 20), tab.at(40, 20))
        for step in (2, 4, 6):
            touch("touchMove", tab.at(20 - step, 20), tab.at(40 + step, 20))
        touch("touchEnd")
        time.sleep(0.2)
        assert tab.pixels() != before
        for place in ("#people li:nth-child(1) button", *["#keypoints li:nth-child(1) button"] * 2):
            tab.page.locator(place).tap()  # who has no key V
        tab.saved(2)
        for place in ("#merge", "#people li:nth-child(2) button"):  # nor Shift
            tab.page.locator(place).tap()
        tab.saved(3)
        assert tab.errors == []
    (person,) = rows(tmp_path)
    assert [round(value) for value in person["keypoints"][48:50]] == [33, 29]
    assert person["edited"] == ["keypoints", "mask", "merged"]


def test_parts_are_drawn_and_go_with_the_mask_that_they_were_of(context, tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with serving(
        tmp_path, config=CONFIG.replace("dict(\n", 'dict(\n    parts=dict(type="fakes.FakeParser"),\n', 1)
    ) as address:
        tab = Tab(context, address)
        masks = tab.pixels()
        tab.page.check("[data-show=parts]")
        expect(tab.page.locator("#parts li")).to_have_count(0)
        assert tab.pixels() != masks
        tab.page.click("#people li:nth-child(1) button")
        expect(tab.page.locator("#parts li")).to_have_text(["upper clothes", "pants"])
        tab.drag((30, 20), (33, 29))
        tab.saved(1)
        expect(tab.page.locator("#parts li")).to_have_count(0)
        tab.page.click("#people li:nth-child(2) button")
        expect(tab.page.locator("#parts li")).to_have_count(2)
        assert tab.errors == []
    assert ["parts" in row for row in rows(tmp_path)] == [False, True]
    assert json.loads((tmp_path / "out" / "people.json").read_text())["part_set"]["name"] == "cihp"


def test_a_video_that_is_dropped_becomes_photos_of_the_queue(context, tmp_path):
    av = pytest.importorskip("av")
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    film = tmp_path / "two squares.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=2, width=64, height=48, pix_fmt="yuv420p")
        frame = av.VideoFrame.from_ndarray(scene(FRONT, OTHER).pixels.numpy(), format="rgb24")
        for _ in range(5):  # 2.5 seconds
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with serving(tmp_path) as address:
        tab = Tab(context, address)
        tab.page.set_input_files("#files", film)
        expect(tab.page.locator("#photos li")).to_have_count(4, timeout=30_000)
        expect(tab.page.locator("#name")).to_contain_text("000000.jpg")
        tab.page.set_input_files("#files", {"name": "film.mp4", "mimeType": "video/mp4", "buffer": b"no film"})
        expect(tab.page.locator("#said")).to_contain_text("film.mp4: ")
        assert tab.errors == []
    kept = sorted(path.name for path in (tmp_path / "out" / "uploads").glob("two_squares-*/*"))
    assert kept == ["000000.jpg", "000002.jpg", "000004.jpg"]


def test_lite_finds_people_and_its_masks_follow_keypoints(context, tmp_path):
    pytest.importorskip("ai_edge_litert")
    try:
        sources.resolve("mediapipe/ssd_mobilenet_v2_open_images.tflite")
    except UserError as error:
        pytest.skip(f"the weights of the lite stages cannot be had: {error}")
    (tmp_path / "photos").mkdir()
    shutil.copy(ROOT / "docs" / "images" / "grace_hopper.jpg", tmp_path / "photos" / "a.jpg")
    with PILImage.open(tmp_path / "photos" / "a.jpg") as photo:
        size = photo.size
    with serving(tmp_path, config='_base_ = "lite.py"\n') as address:
        tab = Tab(context, address, 1, size)
        assert "takes no points" in tab.page.locator("#note").inner_text()
        key = tab.page.url.partition("#")[2]
        (person,) = tab.page.request.get(f"{address}api/photos/{key}").json()["people"]
        x, y = person["keypoints"][15:17]  # the left shoulder
        before = tab.pixels()
        tab.drag((x, y), (x - size[0] / 6, y + size[1] / 6))
        tab.saved(1)
        assert tab.pixels() != before
        assert tab.errors == []
    (row,) = rows(tmp_path)
    assert row["edited"] == ["keypoints", "mask"]
    assert row["segmentation"] != person["segmentation"]


def test_the_page_waits_and_asks_again_where_the_queue_is_full(context, tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with serving(tmp_path) as address:
        tab = Tab(context, address)
        full = {"status": 429, "headers": {"retry-after": "1"}, "json": {"error": "the queue is full"}}
        tab.page.route("**/mask", lambda route: route.fulfill(**full), times=1)
        tab.page.mouse.move(*tab.at(30, 20))
        tab.page.mouse.down()
        tab.page.mouse.move(*tab.at(33, 29), steps=3)
        tab.page.mouse.up()
        expect(tab.page.locator("#said")).to_contain_text("busy, trying again in 1 s")
        tab.saved(1)
    assert rows(tmp_path)[0]["edited"] == ["keypoints", "mask"]


def test_clicks_on_and_beside_a_person_change_the_mask(context, tmp_path):
    pytest.importorskip("mmpose.apis", reason="needs the extra openmmlab", exc_type=ImportError)
    crowd = SynthCrowd("test-clear", 1).load(0)
    (tmp_path / "photos").mkdir()
    PILImage.fromarray(crowd.pixels.numpy()).save(tmp_path / "photos" / "a.png")
    with serving(tmp_path, config='_base_ = "nano.py"\n') as address:
        page = context.new_page()
        page.goto(address)
        page.click("#people li:nth-child(1) button", timeout=90_000)
        tab = Tab.of(page, (crowd.width, crowd.height))
        document = f"{address}api/photos/{page.url.partition('#')[2]}"
        before = page.request.get(document).json()["people"][0]
        x, y, width, height = before["bbox"]
        for revision, (key, place) in enumerate([("p", (x + width / 2, y + height / 3)), ("n", (x + 2, y + 2))], 1):
            page.keyboard.press(key)
            page.mouse.click(*tab.at(*place))
            tab.saved(revision)
    clicked = rows(tmp_path)[0]
    assert [label for _, _, label in clicked["points"]] == [1, 0]
    assert clicked["edited"] == ["mask"]
    assert clicked["segmentation"] != before["segmentation"]
