"""The page in a browser: what moves under the mouse and a finger, what is saved, what two tabs do to each other.

Needs Chromium: Debian's package, or any that BMP_CHROMIUM or the PATH names. It is not downloaded.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from program import CONFIG, ENVIRONMENT, FRONT, save

try:
    from playwright import sync_api
except ImportError:
    sync_api = None

OTHER = (36, 12, 50, 40)
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
def serving(folder):
    """Start the command and give its address; it has to end by itself, with code 0, when it is told to."""
    (folder / "config.py").write_text(CONFIG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bmp.cli", "serve", "photos", "-c", "config.py", "-o", "out", "--port", str(port)]
    server = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert f"http://127.0.0.1:{port}/" in server.stdout.readline()
        yield f"http://127.0.0.1:{port}/"
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.stdout.close()


class Tab:
    """A tab with the first photo; positions are pixels of the photo."""

    def __init__(self, context, address):
        self.page = context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        expect(self.page.locator("#people li")).to_have_count(2, timeout=30_000)
        expect(self.page.locator("#saved")).to_have_text("saved")

    def at(self, x, y):
        box = self.page.locator("#canvas").bounding_box()
        scale = 0.98 * min(box["width"] / 64, box["height"] / 48)
        return box["x"] + (box["width"] - 64 * scale) / 2 + x * scale, box["y"] + (
            box["height"] - 48 * scale
        ) / 2 + y * scale

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


def rows(folder):
    return json.loads((folder / "out" / "people.json").read_text())["annotations"]


def test_a_person_is_put_right_by_mouse_and_keys(browser, tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with serving(tmp_path) as address:
        tab = Tab(browser.new_context(viewport={"width": 1300, "height": 700}), address)
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


def test_two_tabs_lose_nothing_and_a_tab_that_was_closed_neither(browser, tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with serving(tmp_path) as address:
        context = browser.new_context(viewport={"width": 1300, "height": 700})
        one, other = Tab(context, address), Tab(browser.new_context(viewport={"width": 1300, "height": 700}), address)
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
        one.page.route(
            "**/api/photos/*", lambda route: route.abort() if route.request.method == "PUT" else route.continue_()
        )
        one.drag((17, 9), (12, 6))
        one.page.close()  # before anything of that was sent
        again = Tab.__new__(Tab)
        again.page = context.new_page()
        again.page.goto(address)
        again.saved(5)
    first, second = rows(tmp_path)
    assert [round(value) for value in first["keypoints"][:2]] == [12, 6]
    assert [round(value) for value in second["keypoints"][:2]] == [33, 12]


def test_a_finger_moves_a_keypoint_and_two_zoom(browser, tmp_path):
    save(tmp_path / "photos" / "a.png", FRONT, OTHER)
    with serving(tmp_path) as address:
        context = browser.new_context(viewport={"width": 1300, "height": 700}, has_touch=True)
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
        assert tab.errors == []
    assert [round(value) for value in rows(tmp_path)[0]["keypoints"][48:50]] == [33, 29]
