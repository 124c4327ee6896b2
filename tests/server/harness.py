"""A real tinyserver process on a temporary directory and a random loopback port.

`TinyServer` runs the command line exactly as a person does (`tinyserver init`, `tinyserver serve`), keeps the log, and
can be stopped, killed and started again on the same data. `client.Client` talks to it.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import pytest

from tinyserver.cli import main

from .client import SHARED_SECRET

# The entry point as it is installed beside the interpreter that runs the tests.
COMMAND = str(Path(sys.executable).with_name("tinyserver"))
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
# What may never stand in a log: an exception that nobody handled, or a record that the server itself calls an error.
ALARMS = re.compile(
    r"Traceback \(most recent call last\)|\b(?:ERROR|CRITICAL)\b|never awaited|never retrieved|Unhandled"
)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid over it: tables are merged key by key, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def to_toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """A TOML document of strings, numbers, booleans, lists, tables and arrays of tables (what a config consists of)."""

    def is_tables(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)

    lines = [
        f"{key} = {json.dumps(value)}"
        for key, value in table.items()
        if not isinstance(value, Mapping) and not is_tables(value)
    ]
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            lines.append(f"[{name}]\n{to_toml(value, name + '.')}")
        elif is_tables(value):
            lines.extend(f"[[{name}]]\n{to_toml(item, name + '.')}" for item in value)
    return "\n".join(lines) + "\n"


class Log:
    """The file that a server process prints into, over all its restarts. A mark is a position in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self._checked = 0
        self._tolerated: list[re.Pattern[str]] = []

    def mark(self) -> int:
        """The present end of the log."""
        return self.path.stat().st_size

    def text(self, since: int = 0) -> str:
        """What was printed after the mark."""
        with self.path.open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def wait_for(
        self, pattern: str, *, process: subprocess.Popen[bytes], since: int = 0, count: int = 1
    ) -> list[re.Match[str]]:
        """Wait until the regular expression has matched `count` times after `since`, and return the matches.

        AssertionError if the process ends or START_TIMEOUT passes before.
        """
        expression = re.compile(pattern, re.IGNORECASE)
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            ended = process.poll() is not None  # asked before the log is read, so that nothing of it is missed
            found = list(expression.finditer(self.text(since)))
            if len(found) >= count:
                return found
            if ended or time.monotonic() > deadline:
                why = "the process ended" if ended else f"{START_TIMEOUT} s passed"
                raise AssertionError(f"{why} before the log said {pattern!r}:\n{self.text(since)[-6000:]}")
            time.sleep(0.01)

    def tolerate(self, pattern: str) -> None:
        """Lines matching the expression are expected from now on (a test that fills the disk expects errors)."""
        self._tolerated.append(re.compile(pattern))

    def check(self) -> None:
        """AssertionError if an unhandled error was logged since the last check."""
        start, self._checked = self._checked, self.mark()
        lines = self.text(start).splitlines()
        for number, line in enumerate(lines):
            if ALARMS.search(line) and not any(allowed.search(line) for allowed in self._tolerated):
                shown = "\n".join(lines[max(0, number - 5) : number + 60])
                raise AssertionError(f"the server logged an error:\n{shown}")


class TinyServer:
    """One tinyserver on its own directory: `start`, `stop` (SIGTERM), `kill` (SIGKILL), `restart`.

    All keep the data and the port. All methods block: a test that has requests in flight meanwhile calls them through
    `asyncio.to_thread`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        server_name: str = "tiny.test",
        config: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.server_name = server_name
        self.data_dir = directory / "data"
        self.config_file = directory / "tinyserver.toml"
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.environment = dict(environment or {})
        self.log = Log(directory / "server.log")
        self._overrides = dict(config or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def command(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `tinyserver ARGUMENTS` to its end; the caller looks at the return code and the output."""
        return subprocess.run(
            [COMMAND, *arguments],
            input=stdin,
            env=self._environ(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def give(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The same in the process of the tests, without the second that a new one needs to begin.

        A command for a server that does not run has an event loop of its own: an asynchronous test calls this through
        `asyncio.to_thread`.
        """
        out, errors = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
            patch.setattr("sys.stdin", io.StringIO(stdin))
            mask = os.umask(0o077)  # what commands set
            try:
                code = main(arguments)
            finally:
                os.umask(mask)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())

    def init(self) -> None:
        """`tinyserver init`, then the generated config with this server's port and what the test overrides."""
        run = self.command if self.environment else self.give
        done = run(
            "init", "--server-name", self.server_name, "--data", str(self.data_dir), "--config", str(self.config_file)
        )
        assert done.returncode == 0, f"tinyserver init failed:\n{done.stdout}{done.stderr}"
        self.write_config()

    def init_with_federation(
        self, port: int, certificate: Path, key: Path, config: Mapping[str, Any] | None = None, *, media: bool = False
    ) -> None:
        """`init` for a server that other servers reach over TLS at `port` of 127.0.0.1, with `config` laid over it."""
        self.init()
        for_clients = {"address": f"127.0.0.1:{self.port}", "serves": ["client", "media", "admin", "metrics"]}
        for_servers = {
            "address": f"127.0.0.1:{port}",
            "serves": ["federation", "media"] if media else ["federation"],
            "tls_certificate": str(certificate),
            "tls_key": str(key),
        }
        self.write_config({"listen": [for_clients, for_servers], **(config or {})})

    def write_config(self, config: Mapping[str, Any] | None = None) -> None:
        """Lay `config` over the config file (it counts from the next start)."""
        if config is not None:
            self._overrides = merged(self._overrides, config)
        generated = tomllib.loads(self.config_file.read_text())
        self.config_file.write_text(to_toml(merged(merged(generated, self._defaults()), self._overrides)))

    def _defaults(self) -> dict[str, Any]:
        return {
            "public_url": self.base_url,
            "listen": [
                {"address": f"127.0.0.1:{self.port}", "serves": ["client", "federation", "media", "admin", "metrics"]}
            ],
            "registration": {"mode": "open", "shared_secret": SHARED_SECRET},
            "rate_limits": {"enabled": False},
            # Nobody answers there: names of other servers fail at once, and no test asks a real name server.
            "outgoing": {"dns_servers": ["127.0.0.1:9"]},
            "passwords": {"memory": "1 MiB", "iterations": 1},
        }

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start (the first time: after `init`) and wait until every listener listens and a request is answered.

        `environment` is laid over the process's environment for this and later starts.
        """
        assert not self.running, "the server runs already"
        self.environment.update(environment or {})
        if not self.config_file.exists():
            self.init()
        listeners = tomllib.loads(self.config_file.read_text())["listen"]
        mark = self.launch()
        assert self._process is not None
        try:
            self.log.wait_for(r"\blistening\b", process=self._process, since=mark, count=len(listeners))
            self.answer()
        except BaseException:
            self.kill()
            raise

    def answer(self) -> None:
        """Have one request answered. What the requests before it had logged stands in the log then."""
        answer = httpx.get(f"{self.base_url}/_matrix/client/versions", timeout=START_TIMEOUT, trust_env=False)
        assert answer.status_code == 200, answer.text

    def launch(self) -> int:
        """Start the process without waiting for anything, as for a start that must fail; the log's mark before it."""
        mark = self.log.mark()
        with self.log.path.open("ab") as log:
            self._process = subprocess.Popen(
                [COMMAND, "serve", "--config", str(self.config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environ(),
                cwd=self.directory,
            )
        return mark

    def wait_exit(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait until the process has ended by itself; its return code."""
        assert self._process is not None
        return self._process.wait(timeout)

    def stop(self) -> None:
        """SIGTERM; the server must drain and exit 0 within STOP_TIMEOUT. Nothing happens if it does not run."""
        if not self.running:
            return
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self.wait_exit()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no exit within {STOP_TIMEOUT} s of SIGTERM:\n{self.log.text()[-4000:]}") from None
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log.text()[-4000:]}"

    def kill(self) -> None:
        """SIGKILL, as when the plug is pulled from the process. Nothing happens if it does not run."""
        if self._process is not None:
            self._process.kill()
            self.wait_exit()

    def restart(self, environment: Mapping[str, str] | None = None) -> None:
        """Stop cleanly and start again on the same data and port."""
        self.stop()
        self.start(environment)
