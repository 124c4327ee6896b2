"""How a run is shared out among several workers (pytest -n 2 --dist loadfile --no-loadscope-reorder).

A worker takes the next file when it is through with one. What takes long comes first, so that no worker is alone with
it at the end, and all tests with a Synapse stay with one worker, so that one is started.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# httpcore looks for it several times a request, and what is not there is looked for in every folder of packages: a
# seventh of the processor time of the clients.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

PEERS = "tests/federation/peers/"
FIRST = (
    PEERS,
    "tests/js/test_encryption_kill.py",
    "tests/server/test_junk_input.py",
    "tests/server/test_kill.py",
    "tests/server/test_e2ee_kill.py",
    "tests/server/test_disk_full.py",
    "tests/server/test_delayed_events.py",
    "tests/server/test_clock.py",
    "tests/encryption/",
    "tests/js/",
    "tests/bridges/",
    "tests/server/",
    "tests/federation/",
)


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into the order in which they are handed out."""
    items.sort(key=_rank)


class Scheduling(LoadFileScheduling):
    """Hands out file by file, but those with a Synapse at once."""

    def _split_scope(self, nodeid: str) -> str:
        return PEERS if nodeid.startswith(PEERS) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The scheduler of `--dist loadfile`; None leaves the others to xdist."""
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None
