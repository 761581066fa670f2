"""Kills workers and drivers of ``bmp label --engine ray`` and counts what is left; compares speed with the plain loop.

    python benchmarks/label.py --only kills     # 48 photos in shards of 4
    python benchmarks/label.py --only speed     # 192 photos in shards of 64, the default

Photos are scenes of SynthCrowd. Each measurement is written down when it is done, and is not made again by the same
command: what was interrupted goes on. Rows after kills are compared with those of a run in one process that nobody
disturbed. Speed is processor time a photo, without the start, since other work on the machine disturbs it least.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import as_command, write

from bmp.build import load
from bmp.config import load_config
from bmp.inference.label import Job, LabelSettings, label_here, to_shards
from bmp.io.label_shards import claim_settings, read_shard, read_shards, shards_in
from bmp.io.photo_sources import list_photos
from bmp.synthcrowd.files import render
from bmp.synthcrowd.splits import find_split

_WORKERS = 2
_PHOTOS, _A_SHARD = {"kills": 48, "speed": 192}, {"kills": 4, "speed": 64}

Counts = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("kills", "speed"), required=True)
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--photos", type=int, help="48 for kills, 192 for speed")
    parser.add_argument("--shard", type=int, help="photos in a shard: 4 for kills, 64 for speed")
    parser.add_argument("--output", type=Path, default=Path("output/label"))
    options = parser.parse_args()
    options.photos = options.photos or _PHOTOS[options.only]
    options.shard = options.shard or _A_SHARD[options.only]
    options.output /= f"{options.only}-{options.photos}-{options.shard}"
    torch.set_num_threads(1)
    make_photos(options)
    pieces: dict[str, Callable[[], Counts]] = {
        "speed": {
            "plain loop": lambda: plain_speed(options),
            "local engine": lambda: local_speed(options),
            "a worker on Ray": lambda: ray_speed(options),
        },
        "kills": {
            "nobody": lambda: killed(options, "nobody"),
            "a worker": lambda: killed(options, "worker", worker_of),
            "the driver": lambda: killed(options, "driver", driver_of),
            "a worker, then the driver": lambda: killed(options, "both", worker_of, driver_of),
        },
    }[options.only]
    results = options.output / "results.json"
    done: dict[str, Counts] = json.loads(results.read_text())["measured"] if results.exists() else {}
    for name, piece in pieces.items():
        if name not in done:
            done[name] = piece()
            settings = {"config": options.config, "photos": options.photos, "photos in a shard": options.shard}
            write(results, {**settings, "measured": done})
        print(f"{name}: {done[name]}", flush=True)


def make_photos(options: argparse.Namespace) -> None:
    photos = options.output / "photos"
    if photos.exists():
        return
    split, unfinished = find_split("test"), options.output / "photos.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for number, content in enumerate(render("test", split.settings, options.photos, 0)[1]):
        (unfinished / f"{number:04d}.jpg").write_bytes(content)
    unfinished.rename(photos)


def speed(seconds: float, photos: int) -> Counts:
    return {"photos": photos, "processor seconds a photo": round(seconds / photos, 4)}


def plain_speed(options: argparse.Namespace) -> Counts:
    model, paths = load(options.config, device="cpu"), sorted((options.output / "photos").iterdir())
    model(paths[0])
    start = time.process_time()
    for _ in model(paths, batch_size=8, stream=True):
        pass
    return speed(time.process_time() - start, len(paths))


def local_speed(options: argparse.Namespace) -> Counts:
    """Measure the local engine, whose model makes a shard before the clock starts."""
    output = fresh(options, "local")
    output.mkdir()
    work = in_this_process(options, output)
    next(work)
    start = time.process_time()
    photos = sum(done.photos for done in work)
    return speed(time.process_time() - start, photos)


def ray_speed(options: argparse.Namespace) -> Counts:
    """Measure one worker on Ray, from the end of its first shard to that of the last one that it is seen after."""
    output = fresh(options, "ray")
    driver = begin(options, output, workers=1)
    wait_for(driver, output, 1)
    worker, before = worker_of(driver), used(worker_of(driver))
    after, ended = before, 1
    while driver.poll() is None:
        try:
            now = used(worker)
        except OSError:  # it has ended
            break
        if (done := len(shards_in(output))) > ended:
            after, ended = now, done
        time.sleep(0.05)
    if driver.wait():
        sys.exit("the run on Ray failed")
    photos = [len(read_shard(path)) for path in shards_in(output)[1:ended]]
    return speed(after - before, sum(photos))


def killed(options: argparse.Namespace, name: str, *victims: Callable[[subprocess.Popen[bytes]], int]) -> Counts:
    """Kill each of the victims, two shards apart, in one run; give the command again, and compare all rows."""
    output = fresh(options, name)
    driver = begin(options, output)
    for number, victim in enumerate(victims, 1):
        wait_for(driver, output, 2 * number)
        os.kill(victim(driver), signal.SIGKILL)
    code, left = driver.wait(), len(shards_in(output))
    if code and begin(options, output).wait():
        sys.exit(f"{name}: the run after the kills failed")
    # Not read_shards, which would hide a photo that is there twice.
    rows = [row for path in shards_in(output) for row in read_shard(path)]
    whole = {row["id"]: row["people"] for row in undisturbed(options)}
    return {
        "shards when the first run ended": left,
        "runs": 2 if code else 1,
        "rows": len(rows),
        "photos": len({row["id"] for row in rows}),
        "photos with exactly the same people": sum(row["people"] == whole[row["id"]] for row in rows),
        "photos with as many people": sum(len(row["people"]) == len(whole[row["id"]]) for row in rows),
    }


def undisturbed(options: argparse.Namespace) -> list[Any]:
    """Return the rows of a run in this process, which is made once."""
    output = options.output / "undisturbed"
    if not output.exists():
        unfinished = fresh(options, "undisturbed.unfinished")
        unfinished.mkdir()
        for _ in in_this_process(options, unfinished):
            pass
        unfinished.rename(output)
    return list(read_shards(output))


def fresh(options: argparse.Namespace, name: str) -> Path:
    output: Path = options.output / name
    shutil.rmtree(output, ignore_errors=True)
    return output


def in_this_process(options: argparse.Namespace, output: Path) -> Any:
    claim_settings(output, {})
    pipeline = load_config(options.config).pipeline.to_dict()
    shards = to_shards(list_photos([str(options.output / "photos")]).photos, set(), options.shard)
    return label_here(shards, Job(pipeline, "cpu", str(output), LabelSettings(photos=options.shard)))


def begin(options: argparse.Namespace, output: Path, workers: int = _WORKERS) -> subprocess.Popen[bytes]:
    command = ["label", str(options.output / "photos"), "-o", str(output), "-c", options.config, "--engine", "ray"]
    command += ["--workers", str(workers), "--set", f"label.photos={options.shard}", "--device", "cpu", "--quiet"]
    code = "import sys; from bmp.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, *command], start_new_session=True)


def wait_for(driver: subprocess.Popen[bytes], output: Path, shards: int) -> None:
    while len(shards_in(output)) < shards:
        if driver.poll() is not None:
            sys.exit(f"the run ended with code {driver.returncode} before there were {shards} shards")
        time.sleep(0.05)


def used(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def driver_of(driver: subprocess.Popen[bytes]) -> int:
    return driver.pid


def worker_of(driver: subprocess.Popen[bytes]) -> int:
    """Return the process of a worker that has a model, by the name that Ray gives it."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            if b"MapWorker" in title and _descends(int(folder.name), driver.pid):
                return int(folder.name)
        except OSError:  # it has ended
            continue
    sys.exit("no worker was found")


def _descends(process: int, ancestor: int) -> bool:
    while process > 1:
        if process == ancestor:
            return True
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return False


if __name__ == "__main__":
    sys.exit(as_command(main))
