"""Eight processes on one store, with kills, lock holders and full disks at random.

``python -m tests.faults.soak --minutes 10 --seed 1``: prints what happened and what came of it;
exit code 1 if a point was lost or doubled, if the file is damaged, or if the process that
lives through all of it has grown.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .harness import Child, Store, Tally

PROCESSES = 8
DISK = 512
"""Megabytes of the file system that the store is on."""
TOLERANCE = {
    'rss': (statistics.median, 1.25),
    # The least: a journal, say, has files of its own while it is open, but what leaks stays.
    'threads': (min, 1.0),
    'fds': (min, 1.0),
}
"""How many times what it is in the first third of the time what the survivor uses may be in the
last.
"""

WRITER = """
    import itertools, os, random, sys, threading, time
    from pathlib import Path
    from child import experiment, fork, reap, say
    from neptune_async.exceptions import FlushTimeoutError, StorageError
    series, seed, stop = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    draw = random.Random(seed)

    def use():
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        fds = len(os.listdir('/proc/self/fd'))
        say('use', pages * os.sysconf('SC_PAGE_SIZE') // 1024, threading.active_count(), fds)

    def child(path):
        for n in range(50):
            exp[path].log(n)

    exp, logged, forks = None, 0, 0
    used = time.monotonic()
    while not stop.exists():
        try:
            if exp is None:
                exp = experiment(durability=draw.choice(['interval', 'interval', 'call', 'power']))
        except StorageError:
            time.sleep(0.1)  # the disk is full, or somebody holds the store: not at once again
            continue
        count = draw.randrange(1, 200)
        say('announced', logged + count)
        for _ in range(count):
            exp[series].log(logged)
            logged += 1
        action = draw.random()
        try:
            if action < 0.3:
                exp.flush(timeout=5.0)
                say('acknowledged', logged)
            elif action < 0.4:
                assert exp[series].tail(1) == [logged - 1]
                say('acknowledged', logged)
            elif action < 0.42:
                path = f'{series}_fork{forks}'
                forks += 1
                say('forked', path)
                if reap(fork(lambda: child(path))) == [0]:
                    say('reaped', path)
            elif action < 0.47:
                closing, exp = exp, None
                closing.close(timeout=5.0)
                say('acknowledged', logged)
        except (FlushTimeoutError, StorageError):
            pass
        if time.monotonic() - used > 2.0:
            used = time.monotonic()
            use()
        time.sleep(draw.uniform(0.0, 0.2))
    if exp is not None:
        exp.close()
"""


@dataclass
class Soak:
    """The processes and what they have said."""

    folder: Path
    store: Store
    minutes: float
    draw: random.Random
    can_fill: bool
    counts: Counter[str] = field(default_factory=Counter)
    bounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    uses: list[tuple[float, ...]] = field(default_factory=list)
    lives: int = 0

    def run(self) -> None:
        """Let the processes go on until the time is over, then judge."""
        stop = self.folder / 'stop'
        slots = [self._start(stop) for _ in range(PROCESSES)]
        end = time.monotonic() + 60 * self.minutes
        check = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(self.draw.uniform(0.1, 1.0))
            action = self.draw.random()
            if action < 0.4:
                slot = self.draw.randrange(1, PROCESSES)  # the first lives through all of it
                slots[slot] = self._kill(slots[slot], stop)
            elif action < 0.5:
                self._hold(self.draw.uniform(0.1, 2.0))
            elif action < 0.53 and self.can_fill:
                self._fill(self.draw.uniform(0.5, 2.0))
            for slot, (child, _) in enumerate(slots):
                if child.process.poll() is not None:
                    self.faults.append(f'a process ended by itself:\n{child.errors[-2000:]}')
                    slots[slot] = self._kill(slots[slot], stop)
            if time.monotonic() > check:
                check += 60
                self._check()
        stop.touch()
        for number, (child, series) in enumerate(slots):
            ended = child.finish(0)
            self._judge_by(series, ended.lines, ended_well=True)
            if number == 0:
                self.uses = [
                    tuple(map(float, line.split()[1:])) for line in ended.lines
                    if line.startswith('use')
                ]  # fmt: skip
        self._judge()

    def _start(self, stop: Path) -> tuple[Child, str]:
        self.lives += 1
        series = f'writer{self.lives}'
        child = Child(
            self.folder, WRITER, series, self.lives, stop, tally=self.store.tally,
            limit=60 * self.minutes + 300,
            env={'STORE': str(self.store.path), 'TMPDIR': str(self.folder)},
        )  # fmt: skip
        return child, series

    def _kill(self, slot: tuple[Child, str], stop: Path) -> tuple[Child, str]:
        child, series = slot
        child.process.kill()
        self._judge_by(series, child.finish(None).lines)
        self.counts['killed'] += 1
        return self._start(stop)

    def _judge_by(self, series: str, lines: list[str], ended_well: bool = False) -> None:
        said = [line.split() for line in lines]
        announced = max((int(s[1]) for s in said if s[0] == 'announced'), default=0)
        acknowledged = max((int(s[1]) for s in said if s[0] == 'acknowledged'), default=0)
        self.bounds[series] = (announced if ended_well else acknowledged, announced)
        reaped = {s[1] for s in said if s[0] == 'reaped'}
        for path in (s[1] for s in said if s[0] == 'forked'):
            self.counts['forked'] += 1
            self.bounds[path] = (50 if path in reaped else 0, 50)

    def _hold(self, seconds: float) -> None:
        with suppress(sqlite3.OperationalError), self.store.held():
            self.counts['held'] += 1
            time.sleep(seconds)

    def _fill(self, seconds: float) -> None:
        filler = self.store.path.with_name('filler')
        with filler.open('wb', buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(2**16))
        self.counts['disk full'] += 1
        time.sleep(seconds)
        filler.unlink()

    def _check(self) -> None:
        with suppress(sqlite3.OperationalError):  # full, or held
            with closing(sqlite3.connect(self.store.path)) as connection:
                found = connection.execute('PRAGMA integrity_check').fetchall()
            self.counts['checked'] += 1
            if found != [('ok',)]:
                self.faults.append(f'integrity_check: {found[:3]}')

    def _judge(self) -> None:
        self.store.open_once()
        if self.store.spills:
            self.faults.append(f'not taken in: {self.store.spills}')
        self.store.require_whole()
        for series, (acknowledged, announced) in self.bounds.items():
            found = self.store.values(series)
            self.counts['points'] += len(found)
            try:
                self.store.require_equal(found, [*range(max(len(found), acknowledged))])
                assert len(found) <= announced, f'{len(found)} stored, {announced} announced'
            except AssertionError as error:
                self.faults.append(f'{series}: {error}')
        third = len(self.uses) // 3
        for column, (name, (typical, times)) in enumerate(TOLERANCE.items()):
            first, last = (
                typical([use[column] for use in part])
                for part in (self.uses[:third], self.uses[-third:])
            )
            self.counts[f'{name} first'], self.counts[f'{name} last'] = int(first), int(last)
            if last > times * first:
                self.faults.append(f'{name} grew from {first:.0f} to {last:.0f}')


def main() -> int:
    """Soak for as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--seed', type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder, 'disk')
        disk.mkdir()
        mount = ['mount', '-t', 'tmpfs', '-o', f'size={DISK}m', 'none', str(disk)]
        mounted = subprocess.run(mount, capture_output=True, text=True)
        if mounted.returncode:
            print(f'F26 is left out, a full disk cannot be injected: {mounted.stderr.strip()}')
        tally = Tally()
        store = Store(disk / 'experiments.db', tally)
        draw = random.Random(options.seed)
        soak = Soak(Path(folder), store, options.minutes, draw, not mounted.returncode)
        try:
            soak.run()
        finally:
            if not mounted.returncode:
                subprocess.run(['umount', '-l', str(disk)], check=True)
    soak.counts |= {'lost': tally.lost, 'doubled': tally.doubled, 'hung': tally.hung}
    soak.counts['lives'] = soak.lives
    uses = [f'{use} {at}' for use in TOLERANCE for at in ('first', 'last')]
    happened = ['lives', 'killed', 'held', 'disk full', 'forked', 'checked']
    for name in [*happened, 'points', 'lost', 'doubled', 'hung', *uses]:
        print(f'{name:<14} {soak.counts[name]:>12,}')
    for fault in soak.faults:
        print(fault, file=sys.stderr)
    return 1 if soak.faults else 0


if __name__ == '__main__':
    sys.exit(main())
