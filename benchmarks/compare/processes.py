"""What a process and all its descendants have used, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """CPU seconds (user and system) and bytes that were sent towards the disk, since the process began.

    The kernel counts a page when it becomes dirty: a page that is written again before it has reached the disk counts
    once, and a file system in memory counts nothing.
    """

    cpu: float
    written: int

    def since(self, earlier: Usage) -> Usage:
        return Usage(self.cpu - earlier.cpu, self.written - earlier.written)


@dataclass(frozen=True)
class Memory:
    """Resident and proportional set size of the process tree in bytes."""

    rss: int
    pss: int


def tree(pid: int) -> list[int]:
    """The process and its living descendants."""
    found = [pid]
    for parent in found:
        for task in _tasks(parent):
            try:
                children = (task / "children").read_text().split()
            except OSError:
                continue
            found.extend(int(child) for child in children)
    return found


def usage(pid: int) -> Usage:
    """Usage of the whole tree; children that have ended and were waited for are in their parent's CPU time."""
    cpu, written = 0.0, 0
    for process in tree(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            counters = Path(f"/proc/{process}/io").read_text()
        except OSError:
            continue
        cpu += sum(int(ticks) for ticks in fields[11:15]) * _TICK
        written += _number(counters, "write_bytes:")
    return Usage(cpu, written)


def memory(pid: int) -> Memory:
    """Memory of the whole tree at this moment."""
    rss, pss = 0, 0
    for process in tree(pid):
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        rss += _number(rollup, "Rss:") * 1024
        pss += _number(rollup, "Pss:") * 1024
    return Memory(rss, pss)


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _number(text: str, label: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(label))
