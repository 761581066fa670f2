"""What all fuzzers share: numbered trials, each within a bound of time and memory. Knows no format.

A trial makes its input from a generator of chance, in a folder of its own, and hands it to the program. It returns a
word for what came of it, such as "read" or "refused"; an exception is a failure. Trials run in a child process, so that
one that hangs, takes all memory or ends its process is a failure with a number, and the others go on.

Every trial depends on the seed and its own number only: ``--first 812 --count 1`` does number 812 again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

Trial = Callable[[random.Random, Path], str]


@dataclass
class Findings:
    """What came of trials. outcomes: how often each word. failures: number and reason. slowest: number and seconds."""

    count: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[int, float] = (0, 0.0)

    def line(self) -> str:
        """Return it as a line for people."""
        words = ", ".join(f"{count} {word}" for word, count in self.outcomes.most_common())
        number, seconds = self.slowest
        return f"{self.count} trials: {words or 'none'}; {len(self.failures)} failed; slowest {seconds:.2f} s (number {number})"


def run(
    trial: Trial, count: int, seed: int = 0, first: int = 0, *, seconds: float = 10.0, megabytes: int = 1000
) -> Findings:
    """Do ``count`` trials from number ``first`` on; each may take so long, and so much memory more than before."""
    findings = Findings()
    context = multiprocessing.get_context("fork")
    number, end = first, first + count
    while number < end:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(trial, seed, number, end, megabytes, theirs))
        child.start()
        theirs.close()
        while number < end:
            try:
                if ours.poll(seconds):
                    word, reason, took = ours.recv()
                else:
                    word, reason, took = "", f"hung: no end after {seconds:g} s", seconds
            except EOFError:
                child.join()
                word, reason, took = "", f"ended its process, exit code {child.exitcode}", 0.0
            findings.count += 1
            if word:
                findings.outcomes[word] += 1
            else:
                findings.failures.append((number, reason))
            if took > findings.slowest[1]:
                findings.slowest = (number, took)
            number += 1
            if not word:
                break
        child.kill()
        child.join()
        ours.close()
    return findings


def _work(trial: Trial, seed: int, first: int, end: int, megabytes: int, report: Connection) -> None:
    """Do trials one after another; after the first failure another process goes on, with clean memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, end):
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            try:
                word, reason = trial(random.Random(f"{seed} {number}"), Path(folder)), ""
            except BaseException:
                word, reason = "", traceback.format_exc()
            report.send((word, reason, time.monotonic() - started))
        if reason:
            break
    report.close()


def main(trials: Mapping[str, Trial], arguments: Sequence[str] | None = None) -> int:
    """Run the fuzzers of one file as a command; the exit code is 1 if any trial failed."""
    parser = argparse.ArgumentParser(
        description="Feed the program broken inputs and see that each gets one clear answer."
    )
    parser.add_argument("--count", type=int, default=1500, help="trials of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial (default: %(default)s)")
    parser.add_argument("--only", choices=list(trials), help="one kind; all if left out")
    options = parser.parse_args(arguments)
    failed = False
    for name in [options.only] if options.only else trials:
        findings = run(trials[name], options.count, options.seed, options.first)
        print(f"{name}: {findings.line()}", flush=True)
        for number, reason in findings.failures:
            print(f"  number {number}: {reason.strip()}", file=sys.stderr)
        failed |= bool(findings.failures)
    return int(failed)
