"""Draws the pictures of docs/serve.md: the page before and after a keypoint is moved, and the time to the mask.

    python docs/draw_serve.py

Needs the extra web, playwright and a Chromium (BMP_CHROMIUM, or on the PATH). To be run again where the page or the
weights of nano.py have changed: a keypoint of somebody in a drawn crowd is moved to where the ground truth has it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import PIL.Image
from playwright.sync_api import Page, expect, sync_playwright

from bmp.datasets.synthcrowd import SynthCrowd
from bmp.io.segmentations import to_mask

PICTURES = Path(__file__).resolve().parent / "images"
SCENE, PERSON, KEYPOINT = 23, 0, 13  # of test-clear; of the people found in it; the left knee
DRAGS = 15


def main() -> None:
    """Serve a drawn crowd, move the keypoint, and write the two pictures."""
    crowds = SynthCrowd("test-clear", SCENE + 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = folder / "crowd.png"
        PIL.Image.fromarray(crowds.load(SCENE).pixels.numpy()).save(photo)
        command = [sys.executable, "-m", "bmp.cli", "serve", str(photo), "-c", "nano.py", "-o", str(folder / "out")]
        with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[1]
            try:
                with sync_playwright() as playwright:
                    chromium = os.environ.get("BMP_CHROMIUM") or shutil.which("chromium")
                    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                    page = browser.new_page(viewport={"width": 1100, "height": 640})
                    page.goto(address)
                    draw(page, address, crowds)
                    browser.close()
            finally:
                server.terminate()


def draw(page: Page, address: str, crowds: SynthCrowd) -> None:
    """Drive the page, which has one photo, and print how long masks took and what they were worth."""
    page.wait_for_selector("#people li button")
    page.click(f"#people li:nth-child({PERSON + 1}) button")
    page.click(f"#keypoints li:nth-child({KEYPOINT + 1}) button")
    page.wait_for_timeout(500)
    document = f"{address}api/photos/{page.url.partition('#')[2]}"
    photo = page.request.get(document).json()
    height, width = photo["height"], photo["width"]
    before = photo["people"][PERSON]
    truth = crowds.people()[crowds.ground_truth["images"][SCENE]["id"]]
    masks = [to_mask(row.get("segmentation"), height, width) for row in truth]

    def overlaps() -> list[float]:
        segmentation = page.request.get(document).json()["people"][PERSON]["segmentation"]
        mask = to_mask(segmentation, height, width)
        return [float((mask & other).sum() / (mask | other).sum()) for other in masks]

    first = overlaps()
    own = first.index(max(first))
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    scale = 0.98 * min(box["width"] / width, box["height"] / height)
    left, top = box["x"] + (box["width"] - width * scale) / 2, box["y"] + (box["height"] - height * scale) / 2
    x, y = before["keypoints"][3 * KEYPOINT : 3 * KEYPOINT + 2]
    place = truth[own]["keypoints"][3 * KEYPOINT : 3 * KEYPOINT + 2]
    page.screenshot(path=PICTURES / "serve_before.jpg", type="jpeg", quality=70)
    times = []
    for step in range(DRAGS):
        page.mouse.move(left + x * scale, top + y * scale)
        page.mouse.down()
        x, y = place if step == 0 else (x + (-6 if step % 2 else 6), y)
        page.mouse.move(left + x * scale, top + y * scale, steps=4)
        page.mouse.up()
        expect(page.locator("#canvas")).to_have_attribute("data-masks", str(step + 1), timeout=30_000)
        times.append(float(page.locator("#canvas").get_attribute("data-milliseconds") or 0))
        if step == 0:
            expect(page.locator("#saved")).to_have_text("saved, revision 1")
            page.screenshot(path=PICTURES / "serve_after.jpg", type="jpeg", quality=70)
            print(f"IoU of the mask {first[own]:.2f} before, {overlaps()[own]:.2f} after")
    later = sorted(times[1:])
    print(f"the first mask {times[0]:.0f} ms, then median {statistics.median(later):.0f}, at most {later[-1]:.0f} ms")


if __name__ == "__main__":
    main()
