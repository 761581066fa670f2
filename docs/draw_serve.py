"""Draws the pictures of docs/serve.md: the page before and after a keypoint is moved, and the time to the mask.

    python docs/draw_serve.py

Needs the extra web, playwright and a Chromium (BMP_CHROMIUM, or on the PATH). To be run again where
the page has changed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

PICTURES = Path(__file__).resolve().parent / "images"
DRAGS = 15


def main() -> None:
    """Serve a drawn crowd, move a wrist, and write the two pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        import PIL.Image

        from bmp.datasets.synthcrowd import SynthCrowd

        photo = folder / "crowd.png"
        PIL.Image.fromarray(SynthCrowd("test-clear", 23).load(22).pixels.numpy()).save(photo)
        command = [sys.executable, "-m", "bmp.cli", "serve", str(photo), "-c", "nano.py", "-o", str(folder / "out")]
        with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[1]
            try:
                draw(address)
            finally:
                server.terminate()


def draw(address: str) -> None:
    """Drive the page at ``address``, which has one photo, and print how long masks took."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("BMP_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 640})
        page.goto(address)
        page.wait_for_selector("#people li button")
        page.click("#people li:first-child button")
        page.wait_for_timeout(500)
        key = page.url.partition("#")[2]
        person = page.request.get(f"{address}api/photos/{key}").json()["people"][0]
        size = page.request.get(f"{address}api/photos/{key}").json()
        box = page.locator("#canvas").bounding_box()
        assert box is not None
        scale = 0.98 * min(box["width"] / size["width"], box["height"] / size["height"])
        left, top = ((box[b] + (box[s] - size[s] * scale) / 2) for b, s in (("x", "width"), ("y", "height")))
        number = max(range(5, 17), key=lambda k: (person["keypoints"][3 * k + 2], person["keypoint_scores"][k]))
        x, y = (person["keypoints"][3 * number + axis] for axis in (0, 1))
        page.screenshot(path=PICTURES / "serve_before.jpg", type="jpeg", quality=70)
        times = []
        for step in range(DRAGS):
            shift = (-30 if x > size["width"] / 2 else 30) if step == 0 else (-6 if step % 2 else 6)
            page.mouse.move(left + x * scale, top + y * scale)
            page.mouse.down()
            x, y = x + shift, y + shift / 2
            page.mouse.move(left + x * scale, top + y * scale, steps=4)
            page.mouse.up()
            expect(page.locator("#canvas")).to_have_attribute("data-masks", str(step + 1), timeout=30_000)
            times.append(float(page.locator("#canvas").get_attribute("data-milliseconds") or 0))
            if step == 0:
                page.wait_for_timeout(300)
                page.screenshot(path=PICTURES / "serve_after.jpg", type="jpeg", quality=70)
        later = sorted(times[1:])
        print(
            f"the first mask {times[0]:.0f} ms, then median {statistics.median(later):.0f}, at most {later[-1]:.0f} ms"
        )
        browser.close()


if __name__ == "__main__":
    main()
