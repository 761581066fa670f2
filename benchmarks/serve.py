"""Load on ``bmp serve``: latencies of POST /predict by the number of clients, and the share that a full queue refuses.

    python benchmarks/serve.py --config nano.py --photos FOLDER --output benchmarks/results/serve.json

Starts the server itself and asks it from threads of this process, on the same machine: the server's share of the CPUs
is what the clients leave.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
from common import as_command, write

CLIENTS = (1, 2, 4, 8, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos to send")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each number of clients")
    parser.add_argument("--queue", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/serve.json"))
    options = parser.parse_args()
    photos = [path.read_bytes() for path in sorted(options.photos.glob("*.jpg"))[:20]]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bmp.cli", "serve", "-c", options.config, "-o", folder, "--port", "0"]
        with subprocess.Popen([*command, "--queue", str(options.queue)], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[1]
            try:
                load(address, photos[:1] * 2, 1, 0.0)
                rows = [load(address, photos, clients, options.seconds) for clients in CLIENTS]
            finally:
                server.terminate()
    write(options.output, {"config": options.config, "queue": options.queue, "loads": rows})


def load(address: str, photos: list[bytes], clients: int, seconds: float) -> dict[str, float]:
    """Let clients ask, each anew once it is answered, for so long; those who are refused come back in 0.1 s."""
    done: list[float] = []
    refused: list[float] = []
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        with httpx.Client(base_url=address, timeout=120) as session:
            while True:
                photo = photos[number % len(photos)]
                number += clients
                started = time.monotonic()
                answer = session.post("/predict", files={"pictures": ("photo.jpg", photo)})
                took = time.monotonic() - started
                if answer.status_code == 429:
                    assert int(answer.headers["retry-after"]) >= 1
                    refused.append(took)
                    time.sleep(0.1)
                else:
                    answer.raise_for_status()
                    done.append(took)
                if time.monotonic() >= end:
                    return

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    cuts = statistics.quantiles(done, n=20, method="inclusive") if len(done) > 1 else done * 19
    row = {
        "clients": clients,
        "answered": len(done),
        "per_second": round(len(done) / took, 2),
        "p50_ms": round(1000 * cuts[9]),
        "p95_ms": round(1000 * cuts[18]),
        "refused_share": round(len(refused) / (len(done) + len(refused)), 3),
        "refusal_p95_ms": round(1000 * sorted(refused)[int(0.95 * (len(refused) - 1))]) if refused else 0,
    }
    print(row)
    return row


if __name__ == "__main__":
    sys.exit(as_command(main))
