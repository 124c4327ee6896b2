"""Requests that nobody should send: junk at every place of an endpoint's path, query, headers and body.

Where a server knows a thing by name (a room, an event, a user), the request says a word like `{ROOM}`, and
`World.fill` puts the real one there: so the same example is the same request in every run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import inspect

from tinyserver.api.routing import Endpoint

WORDS = ("ROOM", "OLD_ROOM", "EVENT", "STATE_EVENT", "ALICE", "BOB", "DEVICE", "ALIAS", "FILTER", "SERVER", "SINCE")

# Written into the JSON as they stand: no Python value gives them.
_RAW = ("NaN", "-Infinity", "1e999", "-1e999", "1.0", "-0", "1e2", "0.1", "1" + "0" * 400, "01", "+1", "tru", "'a'")
_RAW_MARK = re.compile(r'"%RAW (.+?)%"')

_TEXTS = (
    "", " ", "a", "\0", "a\0b", "\ud800", "\udfff\ud800x", "\U0001f600", "é" * 200, "x" * 300, "x" * 5000, "\u202e",
    "\n",
    "null", "0", "-1", "1.5", "%", "%00", "/", "..", "\\", '"', "'; DROP TABLE events; --", "{", "*", "$", "$x", "@",
    "@:",
    "@a", "@:x", "@A:{SERVER}", "@nobody:{SERVER}", "@alice:far.example", "@" + "a" * 300 + ":{SERVER}", "!", "!x",
    "!x:{SERVER}", "!nowhere:far.example", "!" + "A" * 43, "$" + "A" * 43, "#", "#x", "#none:{SERVER}", "#:", ":",
    "mxc://",
    "mxc://a/b", "m.room.member", "m.room.power_levels", "m.room.create", "m.room.message", "m.direct", "m.push_rules",
    "m.fully_read", "m.ignored_user_list", "m.login.password", "m.login.dummy", "org.example.x", "12", "1", "99",
    "public",
    "join", "leave", "ban", "s0", "s1", "s99999999999999999999", "s-1", "s1_1.x", "t0", "t-5", "t" + "9" * 400,
    "s" + "9" * 5000,
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 50, 100, 2**31, 2**53 - 1, 2**53, -(2**53), 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400)
_CONTAINERS: tuple[Any, ...] = (
    [], {}, [None], [[]], [{}], {"": None}, {"a": {"b": [1, {}]}}, [1, "a", None], ["{ALICE}", 1], {"{ALICE}": "x"},
    {"\0": 1}, {"\ud800": 1}, {"x" * 300: {}}, {"{ALICE}": {}}, {"{ALICE}": 2**70}, ["x"] * 500,
    {"a": [[[[[[[[[[]]]]]]]]]]},
)  # fmt: skip

# Documents that are right, by a piece of the path that they belong to: changed at a place or two they go deep.
_EVENTS: tuple[dict[str, Any], ...] = (
    {"msgtype": "m.text", "body": "x", "format": "org.matrix.custom.html", "formatted_body": "<b>x</b>"},
    {
        "msgtype": "m.text", "body": "* x", "m.new_content": {"msgtype": "m.text", "body": "x"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "{EVENT}"}, "m.mentions": {"user_ids": ["{BOB}"],
        "room": True},
    },
    {
        "body": "x",
        "m.relates_to": {
            "rel_type": "m.thread", "event_id": "{EVENT}", "is_falling_back": True,
            "m.in_reply_to": {"event_id": "{EVENT}"}, "key": "👍",
        },
    },
    {"m.relates_to": {"rel_type": "m.annotation", "event_id": "{EVENT}", "key": "👍"}},
    {"redacts": "{EVENT}", "reason": "x"},
    {"membership": "invite", "displayname": "x", "avatar_url": "mxc://a/b", "reason": "x", "is_direct": True,
     "join_authorised_via_users_server": "{ALICE}", "third_party_invite": {"display_name": "x", "signed": {
         "mxid": "{BOB}", "token": "x", "signatures": {"{SERVER}": {"ed25519:1": "x"}}}}},
    {"users": {"{ALICE}": 100, "{BOB}": 0}, "users_default": 0, "events": {"m.room.name": 50}, "events_default": 0,
     "state_default": 50, "ban": 50, "kick": 50, "redact": 50, "invite": 0, "notifications": {"room": 50}},
    {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": "{OLD_ROOM}"}]},
    {"history_visibility": "shared"},
    {"guest_access": "can_join"},
    {"alias": "{ALIAS}", "alt_aliases": ["{ALIAS}"]},
    {"name": "x", "topic": "x", "m.topic": {"m.text": [{"body": "x", "mimetype": "text/plain"}]}},
    {"url": "mxc://a/b", "info": {"w": 1, "h": 1, "size": 1, "mimetype": "image/png"}},
    {"pinned": ["{EVENT}"]},
    {"body": "x", "replacement_room": "{OLD_ROOM}"},
    {"via": ["{SERVER}"], "order": "x", "suggested": True, "canonical": True},
    {"allow": ["*"], "deny": ["far.example"], "allow_ip_literals": False},
    {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_ms": 1, "rotation_period_msgs": 1},
    {"display_name": "x", "key_validity_url": "https://x/", "public_key": "x", "public_keys": [{"public_key": "x"}]},
    {"creator": "{ALICE}", "room_version": "12", "m.federate": True, "type": "m.space",
     "predecessor": {"room_id": "{OLD_ROOM}", "event_id": "{EVENT}"}, "additional_creators": ["{BOB}"]},
)  # fmt: skip
_ROOM_FILTER: dict[str, Any] = {
    "limit": 5, "types": ["m.*"], "not_types": ["x"], "senders": ["{ALICE}"], "not_senders": ["{BOB}"],
    "contains_url": False,
    "rooms": ["{ROOM}"], "not_rooms": [], "lazy_load_members": True, "include_redundant_members": False,
    "unread_thread_notifications": True, "related_by_rel_types": ["m.thread"], "related_by_senders": ["{BOB}"],
}  # fmt: skip
FILTER: dict[str, Any] = {
    "event_fields": ["content.body", "type"], "event_format": "client", "presence": {"limit": 1, "types": ["*"]},
    "account_data": {"types": ["*"]},
    "room": {"rooms": ["{ROOM}"], "not_rooms": [], "include_leave": True, "timeline": _ROOM_FILTER,
    "state": _ROOM_FILTER,
             "ephemeral": _ROOM_FILTER, "account_data": _ROOM_FILTER},
}  # fmt: skip
_ACCOUNT_DATA: tuple[dict[str, Any], ...] = (
    {"{BOB}": ["{ROOM}"]},
    {"ignored_users": {"{BOB}": {}}},
    {"tags": {"m.favourite": {"order": 0.5}}},
    {"order": 0.5},
    {"global": {"override": [{"rule_id": "x", "actions": ["notify"], "enabled": True, "default": False,
                              "conditions": [{"kind": "event_match", "key": "type", "pattern": "x"}]}]}},
    {"event_id": "{EVENT}"},
)  # fmt: skip
_DOCUMENTS: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = (
    ("/send/", _EVENTS),
    ("/state/", _EVENTS),
    ("/redact/", ({"reason": "x", "redacts": "{EVENT}"},)),
    ("/filter", (FILTER,)),
    ("account_data", _ACCOUNT_DATA),
    ("/tags/", ({"order": 0.5},)),
    ("/profile/", ({"displayname": "x"}, {"avatar_url": "mxc://a/b"}, {"m.tz": "Europe/Berlin"},
    {"org.example": {"a": 1}})),
    ("read_markers", ({"m.fully_read": "{EVENT}", "m.read": "{EVENT}", "m.read.private": "{EVENT}"},)),
    ("/receipt/", ({"thread_id": "main"}, {})),
    ("/typing/", ({"typing": True, "timeout": 1000},)),
    ("/presence/", ({"presence": "online", "status_msg": "x"},)),
    ("/pushrules/", ({"actions": ["notify", {"set_tweak": "sound", "value": "x"}], "pattern": "x", "enabled": True,
                      "conditions": [{"kind": "room_member_count", "is": ">2"}]},)),
    ("pushers/set", ({"kind": "http", "app_id": "a", "pushkey": "x", "app_display_name": "x", "lang": "en",
                      "device_display_name": "x", "profile_tag": "x", "append": False, "enabled": True,
                      "data": {"url": "https://127.0.0.1:9/_matrix/push/v1/notify", "format": "event_id_only"}},
                     {"kind": None, "app_id": "a", "pushkey": "x"})),
    ("push/v1/notify", ({"notification": {"event_id": "{EVENT}", "room_id": "{ROOM}", "counts": {"unread": 1},
                         "prio": "high", "devices": [{"app_id": "a", "pushkey": "http://127.0.0.1:9/x",
                                                      "pushkey_ts": 1, "data": {}, "tweaks": {}}]}},)),
    ("/search", ({"search_categories": {"room_events": {
        "search_term": "hello", "keys": ["content.body"], "filter": _ROOM_FILTER, "order_by": "recent",
        "event_context": {"before_limit": 1, "after_limit": 1, "include_profile": True}, "include_state": True,
        "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]}}}},)),
    ("publicRooms", ({"filter": {"generic_search_term": "x", "room_types": [None, "m.space"]}, "limit": 5,
    "since": "x"},)),
)  # fmt: skip

_PATH_WORDS: Mapping[str, tuple[str, ...]] = {
    "roomId": ("{ROOM}", "{ROOM}", "{OLD_ROOM}"),
    "roomIdOrAlias": ("{ROOM}", "{ALIAS}"),
    "roomAlias": ("{ALIAS}", "#new:{SERVER}"),
    "userId": ("{ALICE}", "{ALICE}", "{BOB}"),
    "eventId": ("{EVENT}", "{STATE_EVENT}"),
    "deviceId": ("{DEVICE}",),
    "filterId": ("{FILTER}",),
    "eventType": (
        "m.room.message", "m.reaction", "m.room.redaction", "m.room.member", "m.room.power_levels", "m.room.join_rules",
        "m.room.canonical_alias", "m.room.create", "m.room.server_acl", "m.room.tombstone", "m.room.history_visibility",
        "m.room.third_party_invite", "m.space.child", "m.room.name", "m.room.topic", "m.room.pinned_events",
        "org.example.x",
    ),
    "stateKey?": ("", "", "{ALICE}", "{BOB}", "x"),
    "stateKey": ("", "{ALICE}", "x"),
    "txnId": ("txn",),
    "keyName": ("displayname", "avatar_url", "m.tz", "org.example"),
    "type": ("m.direct", "m.ignored_user_list", "org.example.x", "m.fully_read"),
    "tag": ("m.favourite", "u.work"),
    "receiptType": ("m.read", "m.read.private", "m.fully_read"),
    "relType": ("m.thread", "m.replace", "m.annotation"),
    "kind": ("override", "content", "room", "sender", "underride"),
    "ruleId": (".m.rule.master", "{ROOM}", "x"),
    "authType": ("m.login.dummy", "m.login.registration_token"),
}  # fmt: skip
_QUERY_WORDS: Mapping[str, tuple[str, ...]] = {
    "from": ("{SINCE}", "t1"), "to": ("{SINCE}",), "since": ("{SINCE}",), "at": ("{SINCE}",), "dir": ("b", "f"),
    "limit": ("5", "0"), "filter": ("{FILTER}", "%FILTER%"), "timeout": ("0", "1"), "full_state": ("true",),
    "membership": ("join",), "not_membership": ("leave",), "user_id": ("{ALICE}",), "room_id": ("{ROOM}",),
    "set_presence": ("offline",), "ts": ("1", "9999999999999"),
}  # fmt: skip
# A number that would keep a long-polling request waiting is no junk.
_PATIENT = re.compile(r"\d{2,}")

_WHOLE_BODIES: tuple[bytes, ...] = (
    b"", b"null", b"[]", b"3", b'"x"', b"{", b"}", b"{]", b'{"a":', b'{"a":1,"a":2}', b"\xef\xbb\xbf{}",
    b"\xff\xfe{\0}\0",
    b'{"a":"\xff"}', b'{"\xc3\x28":1}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\\ud800"}', b'{"\\udfff":1}',
    b'{"a":"\\u0000"}',
    b'{"a":"\\x"}', b'{"a":"\n"}', b"{} {}", b"{},", b"\0", b"[" * 10_000, b'{"a":' * 10_000,
    b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'{"a":' * 220 + b"1" + b"}" * 220,
    b'{"a":1e999}', b'{"a":NaN}', b'{"a":' + b"9" * 5000 + b"}", b'{"body":"x",}',
    b"--x\r\ncontent-disposition: form-data\r\n",
)  # fmt: skip
_BIG_BODIES: tuple[bytes, ...] = (
    b'{"body":"' + b"x" * 2 * 1024 * 1024 + b'"}',
    b" " * (2 * 1024 * 1024),
    b"[" + b"0," * 500_000 + b"0]",
    b'{"x":[' + b"{}," * 100_000 + b"{}]}",
    b"{" + b",".join(b'"%d":0' % n for n in range(60_000)) + b"}",
)


@dataclass
class World:
    """The real things behind the words, and who may be asked for what. `tokens` are access tokens."""

    values: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def fill(self, text: str) -> str:
        """`text` with the real names in it."""
        if "{" in text:
            for word in WORDS:
                text = text.replace("{" + word + "}", self.values[word])
        return text


@dataclass(frozen=True)
class Request:
    """One request, with words still to be filled in. `path` is a list of segments that are not yet encoded."""

    method: str
    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    token: str | None
    body: bytes | None

    def target(self, world: World) -> str:
        """The request target: path and query, percent-encoded; lone surrogates as the bytes that they would be."""
        path = "/".join(_encode(world.fill(segment)) for segment in self.segments)
        if not self.query:
            return path
        return f"{path}?" + "&".join(f"{_encode(name)}={_encode(world.fill(value))}" for name, value in self.query)


def _encode(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def dumps(value: Any) -> bytes:
    """JSON with what Python does not write: raw numbers, lone surrogates as escapes."""
    text = json.dumps(value, ensure_ascii=True)
    return _RAW_MARK.sub(lambda match: match[1], text).encode("ascii")


class Junk:
    """Makes requests for endpoints out of a source of randomness."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def _often(self, percent: int) -> bool:
        return self._random.randrange(100) < percent

    def value(self) -> Any:
        """Any JSON value that is likely to be wrong."""
        kind = self._random.randrange(6)
        if kind == 0:
            return self._random.choice((None, True, False))
        if kind == 1:
            return self._random.choice(_NUMBERS)
        if kind == 2:
            return f"%RAW {self._random.choice(_RAW)}%"
        if kind == 3:
            return self._random.choice(_CONTAINERS)
        return self._random.choice(_TEXTS)

    def request(self, endpoint: Endpoint) -> Request:
        """A request for an endpoint, right in most of its places, so that it gets far, and wrong in some."""
        headers: list[tuple[str, str]] = []
        body = None
        if endpoint.method in ("PUT", "POST", "DELETE") and (endpoint.body is not None or self._often(20)):
            body = self.body(endpoint)
            kinds = ("application/json",) * 5 + (
                "text/plain",
                "application/x-www-form-urlencoded",
                "\xff",
                "a/b; charset=x",
            )
            headers.append(("content-type", self._random.choice(kinds)))
        token: str | None = "ALICE" if self._often(80) else self._random.choice(("BOB", "BOB", "CAROL", "GUEST", None))
        if self._often(5):
            schemes = (
                "Bearer",
                "Bearer ",
                "Bearer \xff\xfe",
                "Basic YTpi",
                "Bearer " + "x" * 5000,
                "Bearer a b",
                "\xe9",
                ",",
            )
            headers.append(("authorization", self._random.choice(schemes)))
            token = None
        if self._often(3):
            junk = (("x-forwarded-for", "\xff, 1.2.3.4:x"), ("accept-encoding", "\xff"), ("user-agent", "\xff" * 500))
            headers.append(self._random.choice(junk))
        return Request(endpoint.method, self._path(endpoint), self._query(endpoint), tuple(headers), token, body)

    def _path(self, endpoint: Endpoint) -> tuple[str, ...]:
        return tuple(
            self._segment(segment[1:-1]) if segment.startswith("{") else segment for segment in endpoint.path.split("/")
        )

    def _segment(self, name: str) -> str:
        if self._often(70):
            return self._random.choice(_PATH_WORDS.get(name, ("x", "{ROOM}", "{ALICE}")))
        return self._random.choice(_TEXTS)

    def _query(self, endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
        names = [] if endpoint.query is None else [f.encode_name for f in msgspec.structs.fields(endpoint.query)]
        pairs = [
            (name, self._query_value(name, patient=endpoint.long_poll))
            for name in names
            for _ in range(self._random.choice((0, 1, 1, 1, 2)))
        ]
        if self._often(5):
            pairs.append((self._random.choice(("access_token", "user_id", "\ud800", "")), self._random.choice(_TEXTS)))
        return tuple(pairs)

    def _query_value(self, name: str, *, patient: bool) -> str:
        if name in _QUERY_WORDS and self._often(60):
            value = self._random.choice(_QUERY_WORDS[name])
        elif self._often(30):
            value = str(self._random.choice(_NUMBERS))
        else:
            value = self._random.choice(_TEXTS)
        if name == "filter" and (value == "%FILTER%" or self._often(20)):
            return dumps(self.mutated(FILTER)).decode("ascii")
        return "0" if patient and name == "timeout" and _PATIENT.search(value) else value

    def body(self, endpoint: Endpoint) -> bytes:
        """A body: mostly of the right shape with some places wrong, sometimes wrong as a whole."""
        if self._often(2):
            return self._random.choice(_BIG_BODIES)
        if self._often(12):
            return self._random.choice(_WHOLE_BODIES)
        body = dumps(self.document(endpoint))
        if self._often(4):
            return body[: self._random.randrange(len(body) + 1)]
        if self._often(4):
            place = self._random.randrange(len(body) + 1)
            return body[:place] + bytes([self._random.choice((0, 34, 92, 123, 192, 255))]) + body[place:]
        return body

    def document(self, endpoint: Endpoint) -> Any:
        """A JSON document for the endpoint with up to three places changed."""
        if endpoint.body is None or endpoint.body is dict:
            fitting = [docs for piece, docs in _DOCUMENTS if piece in endpoint.path] or [docs for _, docs in _DOCUMENTS]
            return self.mutated(self._random.choice(self._random.choice(fitting)))
        return self.mutated(self._of_type(inspect.type_info(endpoint.body), "", 0))

    def _of_type(self, kind: inspect.Type, name: str, depth: int) -> Any:
        """A value that the type allows; text according to the name of its field."""
        match kind:
            case inspect.StructType():
                return {
                    each.encode_name: self._of_type(each.type, each.encode_name, depth + 1)
                    for each in kind.fields
                    if each.required or self._often(50)
                }
            case inspect.UnionType():
                return self._of_type(self._random.choice(kind.types), name, depth)
            case inspect.ListType() | inspect.CollectionType() | inspect.VarTupleType():
                return [self._of_type(kind.item_type, name, depth + 1) for _ in range(self._random.randrange(3))]
            case inspect.DictType():
                keys = self._random.sample(("{ALICE}", "{BOB}", "m.room.name", "x"), self._random.randrange(3))
                return {key: self._of_type(kind.value_type, key, depth + 1) for key in keys}
            case inspect.LiteralType():
                return self._random.choice(kind.values)
            case inspect.IntType() | inspect.FloatType():
                return self._random.choice(_NUMBERS)
            case inspect.BoolType():
                return self._often(50)
            case inspect.NoneType():
                return None
            case inspect.AnyType():
                return self._random.choice(self._random.choice(_DOCUMENTS)[1]) if depth < 4 else self.value()
        return self._text(name)

    def _text(self, name: str) -> str:
        known = {
            "user_id": "{BOB}", "room_id": "{ROOM}", "event_id": "{EVENT}", "invite": "{BOB}", "device_id": "{DEVICE}",
            "room_version": "12", "new_version": "11", "type": "m.login.password", "room_alias_name": "x",
            "devices": "{DEVICE}",
        }  # fmt: skip
        if name in known and self._often(70):
            return known[name]
        return self._random.choice(_TEXTS)

    def mutated(self, document: Any) -> Any:
        """A copy of the document with up to three of its values replaced, removed or joined by others."""
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 3))):
            document = self._mutated_once(document)
        return document

    def _mutated_once(self, node: Any) -> Any:
        if isinstance(node, dict) and node and self._often(85):
            key = self._random.choice(list(node))
            if self._often(10):
                return {other: value for other, value in node.items() if other != key}
            if self._often(8):
                return {**node, self._random.choice(_TEXTS): self.value()}
            return {**node, key: self._mutated_once(node[key])}
        if isinstance(node, list) and node and self._often(70):
            place = self._random.randrange(len(node))
            return [*node[:place], self._mutated_once(node[place]), *node[place + 1 :]]
        return self.value()
