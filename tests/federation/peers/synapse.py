"""A real Synapse process that other servers reach over TLS on loopback."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.compare.synapse import RATE_LIMITS

from ...server.client import SHARED_SECRET
from ...server.harness import Log, free_port
from ..network import Authority

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0


class Synapse:
    """One Synapse on its own directory, for clients at `base_url`, for servers at its name: `start`, `stop`, `kill`.

    All keep the data and the ports. All methods block.

    :param python: the interpreter of the virtual environment that Synapse is installed in.
    """

    def __init__(self, directory: Path, python: Path, authority: Authority, host: str = "127.0.0.1") -> None:
        self.directory = directory
        self.port, self.federation_port = free_port(), free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.server_name = f"{host}:{self.federation_port}"
        self.log = Log(directory / "server.log")
        self._python = python
        self._ca_file = authority.ca_file
        self._process: subprocess.Popen[bytes] | None = None
        self._configure(authority, host)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait for the first answer."""
        assert not self.running, "Synapse runs already"
        with self.log.path.open("ab") as log:
            self._process = subprocess.Popen(
                [self._python, "-m", "synapse.app.homeserver", "-c", "homeserver.yaml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                # For servers that are no Matrix servers, such as identity servers, it has no setting of its own.
                env={**os.environ, "SSL_CERT_FILE": str(self._ca_file)},
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"Synapse did not start:\n{self.log.text()[-4000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.base_url}/health", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """SIGTERM. Nothing happens if it does not run."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_TIMEOUT)

    def kill(self) -> None:
        """SIGKILL. Nothing happens if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _configure(self, authority: Authority, host: str) -> None:
        certificate, key = authority.issue(host)
        seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        (self.directory / "signing.key").write_text(f"ed25519 a_test {seed}\n")
        logging = {
            "version": 1,
            "formatters": {"plain": {"format": "%(asctime)s %(name)s %(levelname)s %(message)s"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
            "root": {"level": "INFO", "handlers": ["console"]},
            "loggers": {"synapse.storage.background_updates": {"level": "WARNING"}},
            "disable_existing_loggers": False,
        }
        (self.directory / "logging.yaml").write_text(json.dumps(logging))
        # JSON is YAML.
        config = self._config(str(authority.ca_file), str(certificate), str(key))
        (self.directory / "homeserver.yaml").write_text(json.dumps(config, indent=1))

    def _config(self, ca_file: str, certificate: str, key: str) -> dict[str, Any]:
        def listener(port: int, names: list[str], tls: bool) -> dict[str, Any]:
            resources = [{"names": names, "compress": False}]
            return {"port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": tls, "resources": resources}

        return {
            "server_name": self.server_name,
            "pid_file": str(self.directory / "synapse.pid"),
            "listeners": [
                listener(self.port, ["client"], tls=False),
                listener(self.federation_port, ["federation"], tls=True),
            ],
            "database": {"name": "sqlite3", "args": {"database": str(self.directory / "synapse.db")}},
            "log_config": str(self.directory / "logging.yaml"),
            "media_store_path": str(self.directory / "media"),
            "signing_key_path": str(self.directory / "signing.key"),
            "macaroon_secret_key": secrets.token_hex(16),
            "form_secret": secrets.token_hex(16),
            "registration_shared_secret": SHARED_SECRET,
            "report_stats": False,
            "trusted_key_servers": [],
            "bcrypt_rounds": 4,
            "tls_certificate_path": certificate,
            "tls_private_key_path": key,
            "federation_custom_ca_list": [ca_file],
            "ip_range_blacklist": [],
            "federation_ip_range_blacklist": [],
            "allow_public_rooms_over_federation": True,
            "allow_device_name_lookup_over_federation": True,
            "allow_public_rooms_without_auth": True,
            "room_list_publication_rules": [{"action": "allow"}],
            # A server that was away is tried again at once.
            "federation": {"destination_min_retry_interval": "1s", "destination_max_retry_interval": "2s"},
            "rc_federation": {"window_size": 1, "sleep_limit": 100_000, "reject_limit": 100_000, "concurrent": 100},
            **RATE_LIMITS,
        }
