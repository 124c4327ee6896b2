"""What the specification says an answer must look like, and whether one does.

`tests/vectors/answers.json.gz` holds, for every operation of the client-server API and every status that the
specification lists for it, the JSON schema of the answer. It was made from the OpenAPI files of the Matrix
specification v1.19 (Apache License 2.0, The Matrix.org Foundation C.I.C.) by
`python -m tests.answer_schemas DIRECTORY`, where DIRECTORY holds the specification's `api/` and `event-schemas/`.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker

Json = Any

_FILE = Path(__file__).parent / "vectors" / "answers.json.gz"
_METHODS = ("get", "put", "post", "delete")
_WORDS = re.compile(r"description|title|examples?|deprecated|x-.*")
"""Keywords that nothing follows from."""
_TOO_LONG = 200_000
"""Longer answers, in bytes, are not checked: they hold the same things again and again."""

_ANY_ERROR: Json = {"type": "object", "required": ["errcode"], "properties": {"errcode": {"type": "string"}}}
_CHALLENGE: Json = {"type": "object", "required": ["flows", "session"]}
_ALSO: dict[str, Json] = {
    # Scheduled events (MSC4140) have no event ID yet.
    "PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}": {"required": ["delay_id"]},
    "PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}": {"required": ["delay_id"]},
    # Those who are typing and present are told as events that stand in no timeline.
    "GET /_matrix/client/v3/events": {"properties": {"chunk": {"items": {"required": ["type", "content"]}}}},
    # Without a relay there are no credentials for one.
    "GET /_matrix/client/v3/voip/turnServer": {"maxProperties": 0},
    # The actions have older names, too.
    "GET /_matrix/client/v1/auth_metadata": {"required": ["account_management_uri"]},
}
"""What an answer of status 200 may be instead."""


def check_answer(method: str, path: str, status: int, body: bytes) -> None:
    """AssertionError if the specification has a schema for this answer, and the body does not fit it.

    :param path: of the request, percent-encoded, without the query.
    """
    if len(body) > _TOO_LONG:
        return
    found = _schema(method, path, status)
    if found is None:
        return
    try:
        answer = json.loads(body)
    except ValueError:
        raise AssertionError(f"{method} {path} -> {status} is not JSON: {body[:2000]!r}") from None
    errors = sorted(found.iter_errors(answer), key=lambda error: error.json_path)
    told = [f"{error.json_path}: {error.message[:500]}" for error in errors]
    assert not told, f"{method} {path} -> {status} is not what the specification says:\n" + "\n".join(told[:10])


def operations_that_may_answer(status: int) -> set[str]:
    """The "METHOD path" of those operations for which the specification lists a status; parameters have no names."""
    with gzip.open(_FILE) as file:
        operations = json.load(file)["operations"]
    return {re.sub(r"\{\w+\}", "{}", operation) for operation, answers in operations.items() if str(status) in answers}


@functools.cache
def _operations() -> tuple[list[tuple[re.Pattern[str], dict[str, Json]]], dict[str, Json]]:
    """The schemas of each operation by status, with what matches "METHOD path"; and the definitions they refer to."""
    with gzip.open(_FILE) as file:
        stored = json.load(file)
    patterns = []
    for operation, answers in stored["operations"].items():
        fixed = re.split(r"\{\w+\}", operation.removesuffix("/{stateKey}"))
        end = "(/[^/]*)?" if operation.endswith("/{stateKey}") else "/?"
        patterns.append((re.compile("[^/]+".join(map(re.escape, fixed)) + end), answers))
    # What has fewer parameters first: /rooms/{roomId}/state is not a type of state.
    patterns.sort(key=lambda entry: entry[0].pattern.count("[^/]+"))
    return patterns, stored["definitions"]


@functools.lru_cache(512)
def _schema(method: str, path: str, status: int) -> Draft202012Validator | None:
    patterns, _ = _operations()
    for pattern, answers in patterns:
        if pattern.fullmatch(f"{method} {path}"):
            schema = answers.get(str(status), _ANY_ERROR if status >= 400 else None)
            if schema is None:  # a file
                return None
            if status == 401:  # it lists either the challenge or the error of a wrong token, if any
                schema = {"anyOf": [schema, _ANY_ERROR, _CHALLENGE]}
            return _validator(json.dumps(schema, sort_keys=True))
    return None


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    _, definitions = _operations()
    return Draft202012Validator({**json.loads(schema), "$defs": definitions}, format_checker=_FORMATS)


_FORMATS = FormatChecker(formats=())
for _name, _pattern in {
    "mx-user-id": r"@[^\0]*:[^\0]+",
    "mx-room-id": r"![^\0]+",
    "mx-event-id": r"\$[^\0]+",
    "mx-room-alias": r"#[^\0]*:[^\0]+",
    "mx-server-name": r"[0-9a-zA-Z.:\[\]-]+",
}.items():
    _FORMATS.checks(_name)(
        lambda value, pattern=_pattern: not isinstance(value, str) or re.fullmatch(pattern, value, re.S) is not None
    )


class _Collector:
    """Follows references from file to file, and gathers what they lead to under one name each."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self.definitions: dict[str, Json] = {}

    @functools.cache  # noqa: B019 - lives as long as the program
    def document(self, path: Path) -> Json:
        return yaml.safe_load(path.read_text("utf-8"))

    def schema(self, value: Json, file: Path) -> Json:
        """A schema of `file` without words, whose references point into the definitions."""
        if isinstance(value, list):
            return [self.schema(item, file) for item in value]
        if not isinstance(value, dict):
            return value
        result: dict[str, Json] = {}
        for key, item in value.items():
            if key == "oneOf":  # an event is also an object: both may be true
                result["anyOf"] = self.schema(item, file)
            elif key == "$ref":
                result[key] = self._reference(item, file)
            elif key == "properties":
                result[key] = {name: self.schema(each, file) for name, each in item.items()}
            elif not _WORDS.fullmatch(key):
                result[key] = item if key in ("enum", "const", "required") else self.schema(item, file)
        return result

    def _reference(self, reference: str, file: Path) -> str:
        other, _, pointer = reference.partition("#")
        target = (file.parent / other).resolve() if other else file
        name = str(target.relative_to(self._top)).replace("/", ".") + pointer.replace("/", ".")
        if name not in self.definitions:
            self.definitions[name] = {}  # it may refer to itself
            found = self.document(target)
            for piece in filter(None, pointer.split("/")):
                found = found[piece]
            self.definitions[name] = self.schema(found, target)
        return f"#/$defs/{name}"


def collect(top: Path) -> Json:
    """The answers of all operations of the client-server API, by "METHOD path" and status; with what they refer to."""
    collector = _Collector(top.resolve())
    operations: dict[str, dict[str, Json]] = {}
    for file in sorted((top / "api" / "client-server").resolve().glob("*.yaml")):
        document = collector.document(file)
        base = document["servers"][0]["variables"]["basePath"]["default"].rstrip("/")
        for path, methods in document["paths"].items():
            for method in _METHODS:
                answers = operations.setdefault(f"{method.upper()} {base}{path.strip()}", {})
                for status, answer in methods.get(method, {}).get("responses", {}).items():
                    content = answer.get("content", {}).get("application/json")
                    if content is not None:
                        answers.setdefault(status, collector.schema(content.get("schema", {}), file))
    for operation, other in _ALSO.items():
        operations[operation]["200"] = {"anyOf": [operations[operation]["200"], other]}
    used = {operation: answers for operation, answers in operations.items() if answers}
    return {"operations": used, "definitions": collector.definitions}


if __name__ == "__main__":
    _FILE.write_bytes(gzip.compress(json.dumps(collect(Path(sys.argv[1])), sort_keys=True).encode(), mtime=0))
