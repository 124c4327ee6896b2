"""JSON bodies and query strings into declared types; whatever is wrong with them becomes one of the spec's errors.

spec: client-server-api#standard-error-response
"""

from itertools import accumulate
from typing import Any, get_args, get_origin

import msgspec

from tinyserver.api.calls import Call
from tinyserver.protocol.errors import BadJson, InvalidParam, MissingParam, NotJson

DEFAULT_BODY_LIMIT = 1024 * 1024  # bytes
MAX_NESTING = 200  # levels: what is accepted here must also fit the encoders, which stop at 254

_BRACKETS = frozenset(b"[]{}")
_DEPTH_CHANGE = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_ALL_BUT_BRACKETS = bytes(set(range(256)) - _BRACKETS)


class BodyReader:
    """Reads and decodes the body of one endpoint.

    :param body_type: a msgspec Struct, or ``dict`` for any JSON object.
    :param limit: the largest body in bytes.
    :param optional: an empty body counts as ``{}``; many clients send none to endpoints like ``/join`` and ``/leave``.
    """

    def __init__(self, body_type: Any, limit: int = DEFAULT_BODY_LIMIT, *, optional: bool = False) -> None:
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            dict[str, Any] if body_type is dict else body_type
        )
        self._body_type = body_type
        self._limit = limit
        self._optional = optional

    async def read(self, call: Call[Any, Any]) -> None:
        """Set ``call.raw_body`` and ``call.body``. Raises NotJson, BadJson, TooLarge or ClientGone."""
        raw = b"".join([piece async for piece in call.stream(self._limit)])
        call.raw_body = raw
        call.body = self.decode(raw)

    def decode(self, raw: bytes | bytearray) -> Any:
        """The typed body. Raises NotJson for what is no JSON in UTF-8, BadJson for JSON of another shape."""
        if not raw and self._optional:
            raw = b"{}"
        try:
            value = self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise BadJson(_explain(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotJson(f"The body of the request is not valid JSON: {_explain(error)}") from error
        except RecursionError as error:
            raise BadJson("The JSON of the request is nested too deeply.") from error
        if _nesting(raw) > MAX_NESTING:
            raise BadJson(f"The JSON of the request is nested more than {MAX_NESTING} levels deep.")
        return value

    def convert(self, content: dict[str, Any]) -> Any:
        """The typed body, of a JSON object that a reader of objects gave. Raises BadJson for another shape."""
        if self._body_type is dict:
            return content
        try:
            return msgspec.convert(content, self._body_type)
        except msgspec.ValidationError as error:
            raise BadJson(_explain(error)) from error


class QueryReader:
    """Converts the query parameters of one endpoint.

    :param query_type: a msgspec Struct with fields of type str, int, bool, a Literal or an Enum of them, optional or
        with a default, and ``list[...]`` for what may be repeated. ``msgspec.field(name=...)`` names a parameter
        that is no Python name.
    """

    def __init__(self, query_type: type[msgspec.Struct]) -> None:
        self._type = query_type
        fields = msgspec.structs.fields(query_type)
        self._names = {field.encode_name: _is_list(field.type) for field in fields}
        self._required = [field.encode_name for field in fields if field.required]

    def read(self, call: Call[Any, Any]) -> None:
        """Set ``call.query``. Raises MissingParam and InvalidParam."""
        values: dict[str, str | list[str]] = {}
        if self._names:
            parameters = call.query_parameters
            for name in self._required:
                if name not in parameters:
                    raise MissingParam(f"The query parameter '{name}' is missing.")
            for name, is_list in self._names.items():
                if name in parameters:
                    values[name] = parameters[name] if is_list else parameters[name][-1]
        try:
            call.query = msgspec.convert(values, self._type, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidParam(f"A query parameter is wrong: {_explain(error)}") from error


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_is_list(part) for part in get_args(annotation))


def _nesting(raw: bytes | bytearray) -> int:
    """How deep valid JSON nests; 0 where it has too few brackets to nest too deeply (nearly always)."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_NESTING:
        return 0
    inside_string = False
    brackets = bytearray()
    # Between two quotes that are no escaped ones stands a string; what is outside of strings keeps its brackets.
    for part in raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"'):
        if not inside_string:
            brackets += part.translate(None, _ALL_BUT_BRACKETS)
        inside_string = not inside_string
    return max(accumulate(_DEPTH_CHANGE[bracket] for bracket in brackets))


def _explain(error: Exception) -> str:
    """msgspec's own words with the path to the value: "Expected `int`, got `str` - at `$.timeout`"."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8."
    return f"{error}."
