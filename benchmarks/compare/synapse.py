"""Synapse from PyPI on SQLite, in a virtual environment of its own, as its manual says to run it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import sys
from pathlib import Path
from typing import Any

from .server import SERVER_NAME, SHARED_SECRET, Server, run_command

SYNAPSE_VERSION = "1.163.2"

_UNLIMITED = {"per_second": 1e6, "burst_count": 1_000_000}
RATE_LIMITS: dict[str, Any] = {
    "rc_message": _UNLIMITED,
    "rc_registration": _UNLIMITED,
    "rc_registration_token_validity": _UNLIMITED,
    "rc_admin_redaction": _UNLIMITED,
    "rc_joins_per_room": _UNLIMITED,
    "rc_3pid_validation": _UNLIMITED,
    "rc_third_party_invite": _UNLIMITED,
    "rc_media_create": _UNLIMITED,
    "rc_delayed_event_mgmt": _UNLIMITED,
    "rc_room_creation": _UNLIMITED,
    "rc_reports": _UNLIMITED,
    "rc_user_directory": _UNLIMITED,
    "rc_login": {"address": _UNLIMITED, "account": _UNLIMITED, "failed_attempts": _UNLIMITED},
    "rc_joins": {"local": _UNLIMITED, "remote": _UNLIMITED},
    "rc_invites": {"per_room": _UNLIMITED, "per_user": _UNLIMITED, "per_issuer": _UNLIMITED},
    "rc_presence": {"per_user": _UNLIMITED},
}
_LOGGING = {
    "version": 1,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"level": "WARNING", "handlers": ["console"]},
    "disable_existing_loggers": False,
}


class Synapse(Server):
    """A Synapse on its generated configuration, with what must be equal on both sides laid over it."""

    name = "Synapse"

    def __init__(self, directory: Path, environment: Path) -> None:
        super().__init__(directory)
        self._python = str(environment / "bin" / "python")

    @staticmethod
    async def install(work_dir: Path) -> Path:
        """Make the virtual environment if it is not there yet; its path. Whoever else asks meanwhile waits."""
        environment = work_dir / f"venv-matrix-synapse-{SYNAPSE_VERSION}"
        complete = environment / "complete"
        with (work_dir / "installing").open("w") as turn:
            await asyncio.to_thread(fcntl.flock, turn, fcntl.LOCK_EX)
            if not complete.exists():
                await run_command(sys.executable, "-m", "venv", "--clear", str(environment), cwd=work_dir, timeout=120)
                pip = (str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--prefer-binary")
                await run_command(*pip, f"matrix-synapse=={SYNAPSE_VERSION}", cwd=work_dir, timeout=600)
                complete.touch()
        return environment

    async def configure(self) -> None:
        await run_command(
            *(self._python, "-m", "synapse.app.homeserver", "--generate-config", "--report-stats=no"),
            *("--server-name", SERVER_NAME, "--config-path", "homeserver.yaml"),
            *("--data-directory", str(self.data_dir)),
            cwd=self.directory,
        )
        (self.directory / "logging.yaml").write_text(json.dumps(_LOGGING))
        # JSON is YAML; the later file's keys replace the earlier one's.
        (self.directory / "benchmark.yaml").write_text(json.dumps(self._overrides(), indent=1))

    def _overrides(self) -> dict[str, Any]:
        listener = {
            "port": self.port,
            "bind_addresses": ["127.0.0.1"],
            "type": "http",
            "tls": False,
            "resources": [{"names": ["client", "federation"], "compress": False}],
        }
        return {
            "listeners": [listener],
            "log_config": str(self.directory / "logging.yaml"),
            "registration_shared_secret": SHARED_SECRET,
            "trusted_key_servers": [],
            # Passwords are hashed as cheaply as possible on both sides: they are not what is compared.
            "bcrypt_rounds": 4,
            **RATE_LIMITS,
        }

    def command(self) -> list[str]:
        return [self._python, "-m", "synapse.app.homeserver", "-c", "homeserver.yaml", "-c", "benchmark.yaml"]
