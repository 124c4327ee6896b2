"""`python -m benchmarks.compare`: run the scenarios against the servers one after the other and print the table."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from .bench import Bench, Options, Scenario
from .http import RequestFailed
from .results import Results
from .scenarios import SCENARIOS
from .server import BenchmarkError, Server
from .synapse import SYNAPSE_VERSION, Synapse
from .tinyserver import TinyServer

_DEFAULT_SECONDS = 20.0


def main() -> int:
    """Exit code 1 if a scenario failed (the figures of the others are printed all the same), 130 if interrupted."""
    options = _arguments()
    try:
        results = uvloop.run(_run(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    machine = _machine()
    print(f"{', '.join(f'{key}: {value}' for key, value in machine.items())}, room version: {options.room_version}\n")
    print(results.markdown())
    for failure in results.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    if options.json is not None:
        document = {"machine": machine, "options": vars(options) | {"json": None}, **results.json()}
        options.json.write_text(json.dumps(document, indent=1, default=str) + "\n")
    return 1 if results.failures else 0


def _arguments() -> argparse.Namespace:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--server", choices=["tinyserver", "synapse", "both"], default="both")
    parser.add_argument("--only", action="append", choices=names, metavar="SCENARIO", help=f"one of {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=_DEFAULT_SECONDS, help="length of a timed phase (default: 20)")
    parser.add_argument(
        "--limit", type=float, default=900, help="seconds after which the whole run ends (default: 900)"
    )
    parser.add_argument("--big-room", action="store_true", help="also measure a room of --members local members")
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument(
        "--events", type=int, default=0, help="also start on a database of so many events (not Synapse)"
    )
    parser.add_argument("--room-version", default="12")
    parser.add_argument("--work-dir", type=Path, default=Path(".bench"), help="virtual environment and data (.bench)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> Results:
    task = asyncio.current_task()
    assert task is not None
    # A cancelled task still stops the servers it has started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    work_dir = options.work_dir.resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    results = Results()
    servers: list[Callable[[Path], Server]] = []
    if options.server in ("tinyserver", "both"):
        servers.append(TinyServer)
        results.versions[TinyServer.name] = TinyServer.version()
    if options.server in ("synapse", "both"):
        environment = await Synapse.install(work_dir)
        servers.append(lambda directory: Synapse(directory, environment))
        results.versions[Synapse.name] = SYNAPSE_VERSION
    try:
        async with asyncio.timeout(options.limit):
            for make in servers:
                for scenario in _chosen(options):
                    if make is TinyServer or not scenario.tinyserver_only:
                        await _one(make, scenario, options, results)
    except TimeoutError:
        results.failures.append(f"the run was ended after {options.limit} s; see --limit and --only")
    return results


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    names = set(options.only or (scenario.name for scenario in SCENARIOS if scenario.default))
    if options.big_room:
        names.add("big-room")
    if options.events:
        names.add("preloaded-start")
    return [scenario for scenario in SCENARIOS if scenario.name in names]


async def _one(
    make: Callable[[Path], Server], scenario: Scenario, options: argparse.Namespace, results: Results
) -> None:
    """Run a scenario on a new server in an empty directory, which is removed afterwards unless something failed."""
    runs = options.work_dir.resolve() / "run"
    runs.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{scenario.name}-", dir=runs))
    server = make(directory)
    bench = Bench(server, Options(options.seconds, options.room_version, options.members, options.events), results)
    began = time.monotonic()
    failed = True
    try:
        async with asyncio.timeout(scenario.limit * max(1.0, options.seconds / _DEFAULT_SECONDS)):
            await server.configure()
            await scenario.run(bench)
        failed = False
    except* (BenchmarkError, RequestFailed, AssertionError, TimeoutError) as group:
        results.failures.append(f"{server.name}, {scenario.name}: {_first(group)!r} (see {directory})")
    finally:
        await server.kill()
        if not failed:
            shutil.rmtree(directory)
    print(f"{server.name}: {scenario.name} took {time.monotonic() - began:.0f} s", file=sys.stderr)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _machine() -> dict[str, Any]:
    return {"Python": platform.python_version(), "cores": os.cpu_count(), "CPU": platform.machine()}


if __name__ == "__main__":
    raise SystemExit(main())
