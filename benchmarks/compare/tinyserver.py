"""tinyserver as it is installed beside the interpreter that runs the benchmark."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from .server import SERVER_NAME, SHARED_SECRET, Server, run_command

_CONFIG = """\
server_name = "{name}"
data_dir = "{data}"
public_url = "http://127.0.0.1:{port}"

[[listen]]
address = "127.0.0.1:{port}"
serves = ["client", "federation", "media", "admin", "metrics"]

[registration]
mode = "closed"
shared_secret = "{secret}"

[rate_limits]
enabled = false

# Passwords are hashed as cheaply as possible on both sides: they are not what is compared.
[passwords]
memory = "1 MiB"
iterations = 1
"""


class TinyServer(Server):
    """A tinyserver on a fresh `tinyserver init`, with what must be equal on both sides set."""

    name = "tinyserver"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._command = str(Path(sys.executable).with_name("tinyserver"))
        self._config = directory / "tinyserver.toml"

    @staticmethod
    def version() -> str:
        return importlib.metadata.version("tinyserver")

    async def configure(self) -> None:
        await run_command(
            *(self._command, "init", "--server-name", SERVER_NAME),
            *("--data", str(self.data_dir), "--config", str(self._config)),
            cwd=self.directory,
        )
        values = {"name": SERVER_NAME, "data": self.data_dir, "port": self.port, "secret": SHARED_SECRET}
        self._config.write_text(_CONFIG.format_map(values))

    def command(self) -> list[str]:
        return [self._command, "serve", "--config", str(self._config)]
