"""The house stays as it is designed: floors that import downwards only, a pure protocol, SQL in one place."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tinyserver"
FLOORS = ["protocol", "storage", "services", "api", "top"]  # each may import itself and what is left of it
TOP_MODULES = {"server", "cli", "__main__"}
OUTSIDE_WORLD = {"asyncio", "aiosqlite", "sqlite3", "starlette", "uvicorn", "socket", "time", "random", "secrets"} | {
    *("logging", "os", "pathlib", "threading", "datetime", "tempfile", "subprocess", "httpx", "uuid")
}
HTTP_LIBRARIES = {"starlette", "uvicorn", "httptools", "h11"}
SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|REPLACE\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+TABLE"
    r"|PRAGMA\s+\w+)\b",
    re.DOTALL,
)
FORBIDDEN_MODULE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text("utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Everything that a module imports: at the top, lazily in functions, and for type checking only."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if FILES[module].name == "__init__.py" else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in FILES else base)
    return frozenset(found)


def floor(module: str) -> str:
    part = module.split(".")[1] if "." in module else "services"
    if part in ("protocol", "storage", "api"):
        return part
    return "top" if part in TOP_MODULES else "services"


def test_there_is_something_to_look_at() -> None:
    assert {floor(module) for module in FILES} >= {"protocol", "storage", "services", "api", "top"}


@pytest.mark.parametrize("module", FILES)
def test_imports_run_downwards(module: str) -> None:
    here = FLOORS.index(floor(module))
    upwards = [name for name in imports(module) if name in FILES and FLOORS.index(floor(name)) > here]
    assert not upwards, f"{module} is on the floor {FLOORS[here]} and imports from above: {upwards}"


def test_no_import_cycles() -> None:
    graph = {module: [name for name in imports(module) if name in FILES and name != module] for module in FILES}
    finished: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> None:
        if module in path:
            raise AssertionError("import cycle: " + " -> ".join([*path[path.index(module) :], module]))
        if module in finished:
            return
        path.append(module)
        for name in graph[module]:
            visit(name)
        path.pop()
        finished.add(module)

    for module in graph:
        visit(module)


@pytest.mark.parametrize("module", [module for module in FILES if floor(module) == "protocol"])
def test_protocol_is_pure(module: str) -> None:
    touched = {name for name in imports(module) if name.split(".")[0] in OUTSIDE_WORLD}
    assert not touched, f"{module} reaches outside: {touched}"


@pytest.mark.parametrize("module", [module for module in FILES if floor(module) != "storage"])
def test_sql_only_in_storage(module: str) -> None:
    statements = [
        node.value
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    assert not statements, f"{module} holds SQL: {statements}"


@pytest.mark.parametrize("module", [module for module in FILES if floor(module) not in ("api", "top")])
def test_http_only_in_api(module: str) -> None:
    touched = {name for name in imports(module) if name.split(".")[0] in HTTP_LIBRARIES}
    assert not touched, f"{module} knows HTTP: {touched}"


@pytest.mark.parametrize("module", FILES)
def test_module_names_say_something(module: str) -> None:
    assert not FORBIDDEN_MODULE_NAMES & set(module.split("."))


@pytest.mark.parametrize("module", FILES)
def test_no_notes_to_self(module: str) -> None:
    text = FILES[module].read_text("utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError", text)
