"""The files around the program agree with each other and with it."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-dev.lock")
SCRIPTS = ("bench", "build", "docs", "lint", "lock", "run", "setup", "test")


def package_name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def locked(lock: str) -> dict[str, list[str]]:
    """Package names of a lock with their hashes."""
    packages: dict[str, list[str]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            packages[package_name(line)] = []
            assert "==" in line
        elif "--hash=" in line:
            packages[list(packages)[-1]].append(line)
    return packages


def test_every_npm_package_has_a_hash_and_no_host() -> None:
    packages = json.loads((ROOT / "tests" / "js" / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"]
    own = "no-native-crypto"  # a package of this repository, and the link to it
    assert packages.pop(own)
    fetched = [package for package in packages.values() if package.get("resolved") != own]
    assert len(fetched) == len(packages) - 1
    assert all(package["integrity"] and "resolved" not in package for package in fetched)


def test_what_the_server_needs_is_locked() -> None:
    runtime = {package_name(each) for each in PROJECT["project"]["dependencies"]}
    assert runtime <= set(locked("requirements.lock"))
    tools = {package_name(each) for each in PROJECT["dependency-groups"]["dev"]}
    assert runtime | tools <= set(locked("requirements-dev.lock"))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_no_host(lock: str) -> None:
    assert all(locked(lock).values())
    assert "://" not in (ROOT / lock).read_text()


def test_both_locks_pin_the_same_versions() -> None:
    pins = [set(re.findall(r"^([\w.-]+==[\w.+!-]+)", (ROOT / lock).read_text(), re.MULTILINE)) for lock in LOCKS]
    assert pins[0] <= pins[1]


def test_every_dependency_is_accounted_for() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    missing = [name for name in locked("requirements.lock") if not re.search(rf"\b{re.escape(name)}\b", page)]
    missing += [name for name in map(package_name, PROJECT["dependency-groups"]["dev"]) if name not in page]
    assert not missing, f"docs/dependencies.md says nothing about {missing}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_can_be_run_and_stop_at_errors(script: str) -> None:
    file = ROOT / "scripts" / script
    assert os.access(file, os.X_OK)
    assert "set -eu" in file.read_text()


def test_the_readme_names_the_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"scripts/{script}" in readme for script in SCRIPTS if script != "setup")
    from tinyserver.cli import COMMANDS

    assert all(f"tinyserver {command}" in readme for command in COMMANDS)
