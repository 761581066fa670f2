"""Kills workers and drivers of ``bmp label --engine ray`` and counts what is left; compares speed with the plain loop.

    python benchmarks/label.py --photos 48 --output output/label

Photos are scenes of SynthCrowd, labelled by the nano preset. After each kill the same command is given again, and the
rows are compared with those of a run that nobody disturbed. Speed is processor time a photo, without the start, since
other work on the machine disturbs it least.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from common import write

from bmp.build import load
from bmp.config import load_config
from bmp.inference.label import Job, LabelSettings, label_here, to_shards
from bmp.io.label_shards import PhotoRow, claim_settings, read_shards, shards_in
from bmp.io.photo_sources import list_photos
from bmp.synthcrowd.files import render
from bmp.synthcrowd.splits import find_split

_WORKERS = 2
_A_SHARD = 4  # photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--photos", type=int, default=48)
    parser.add_argument("--output", type=Path, default=Path("output/label"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    shutil.rmtree(options.output, ignore_errors=True)
    photos = options.output / "photos"
    photos.mkdir(parents=True)
    split = find_split("test")
    for number, content in enumerate(render("test", split.settings, options.photos, 0)[1]):
        (photos / f"{number:04d}.jpg").write_bytes(content)
    speeds = {"plain loop": plain_speed(options.config, photos), "local": local_speed(options.config, photos)}
    whole, speeds["a worker on Ray"] = undisturbed(options)
    print({name: f"{seconds:.3f} s of a processor a photo" for name, seconds in speeds.items()})
    kills = {
        "a worker": killed(options, "worker", worker_of),
        "the driver": killed(options, "driver", lambda driver: driver.pid),
        "a worker, then the driver": killed(options, "both", worker_of, lambda driver: driver.pid),
    }
    for name, rows in kills.items():
        same = {row["id"]: row["people"] for row in rows} == whole
        print(f"killed {name}: {len(rows)} rows, {len({row['id'] for row in rows})} photos, the same people: {same}")
    counts = {name: {"rows": len(rows), "photos": len({row["id"] for row in rows})} for name, rows in kills.items()}
    write(
        options.output / "label.json", {"photos": options.photos, "processor seconds a photo": speeds, "kills": counts}
    )


def plain_speed(config: str, photos: Path) -> float:
    model, paths = load(config, device="cpu"), sorted(photos.iterdir())
    model(paths[0])
    start = time.process_time()
    for _ in model(paths, batch_size=8, stream=True):
        pass
    return (time.process_time() - start) / len(paths)


def local_speed(config: str, photos: Path) -> float:
    """Return the seconds of the local engine, whose model makes a shard before the clock starts."""
    output = photos.parent / "local"
    output.mkdir()
    claim_settings(output, {})
    pipeline = load_config(config).pipeline.to_dict()
    shards = to_shards(list_photos([str(photos)]).photos, set(), _A_SHARD)
    work = label_here(shards, Job(pipeline, "cpu", str(output), LabelSettings(photos=_A_SHARD)))
    next(work)
    start = time.process_time()
    photos_done = sum(done.photos for done in work)
    return (time.process_time() - start) / photos_done


def begin(options: argparse.Namespace, output: Path, workers: int = _WORKERS) -> subprocess.Popen[bytes]:
    command = ["label", str(options.output / "photos"), "-o", str(output), "-c", options.config, "--engine", "ray"]
    command += ["--workers", str(workers), "--set", f"label.photos={_A_SHARD}", "--device", "cpu", "--quiet"]
    code = "import sys; from bmp.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, *command], start_new_session=True)


def undisturbed(options: argparse.Namespace) -> tuple[dict[str, object], float]:
    """Label everything with one worker; return people by photo, and its seconds a photo after the first shard."""
    output = options.output / "whole"
    driver = begin(options, output, 1)
    wait_for(output, 1)
    worker, start = worker_of(driver), len(shards_in(output))
    before = after = used(worker)
    ended = start
    while driver.poll() is None:
        try:
            now = used(worker)
        except OSError:
            break
        if (done := len(shards_in(output))) > ended:
            after, ended = now, done
        time.sleep(0.05)
    if driver.wait():
        sys.exit("the undisturbed run failed")
    rows = list(read_shards(output))
    return {row["id"]: row["people"] for row in rows}, (after - before) / max(1, (ended - start) * _A_SHARD)


def used(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def killed(
    options: argparse.Namespace, name: str, *victims: Callable[[subprocess.Popen[bytes]], int]
) -> Sequence[PhotoRow]:
    """Kill each of the victims in a run of its own after some shards, give the command again, and return all rows."""
    output = options.output / name
    for number, victim in enumerate(victims, 1):
        driver = begin(options, output)
        wait_for(output, 2 * number)
        os.kill(victim(driver), signal.SIGKILL)
        driver.wait()
    if begin(options, output).wait():
        sys.exit(f"{name}: the run after the kills failed")
    # Not read_shards, which would hide a photo that is there twice.
    import pyarrow.parquet

    return [row for path in shards_in(output) for row in pyarrow.parquet.read_table(path).to_pylist()]


def wait_for(output: Path, shards: int) -> None:
    while len(shards_in(output)) < shards:
        time.sleep(0.05)


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
    main()
