"""What single steps on an event cost: canonical JSON, hashes, signatures, parsing, authorisation, push rules.

python -m benchmarks.protocol
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import canonicaljson
import orjson

from tinyserver.protocol import canonical_json
from tinyserver.protocol.auth_rules import auth_keys_for, check_auth
from tinyserver.protocol.client_events import client_event_bytes
from tinyserver.protocol.event_hashes import (
    add_content_hash,
    check_content_hash,
    event_id_of,
    reference_hash,
    sign_event,
    verify_event_signature,
)
from tinyserver.protocol.events import Event, build_pdu, parse_pdu
from tinyserver.protocol.push_rules import NO_CHANGES, CompiledRules, PushContext, notification_class
from tinyserver.protocol.room_versions import ROOM_VERSIONS
from tinyserver.protocol.signing import SigningKey

VERSION = ROOM_VERSIONS["12"]
KEY = SigningKey("a", bytes(32))
SERVER = "example.org"
ALICE = "@alice:example.org"


def signed(
    event_type: str, content: dict[str, Any], state_key: str | None, auth: list[Event], room_id: str | None
) -> Event:
    """An event as this server would send it."""
    pdu = build_pdu(
        VERSION,
        room_id=room_id,
        type=event_type,
        sender=ALICE,
        state_key=state_key,
        content=content,
        prev_events=[event.event_id for event in auth[-1:]],
        auth_events=[event.event_id for event in auth if event.type != "m.room.create"],
        depth=10,
        origin_server_ts=1_790_000_000_000,
    )
    pdu = sign_event(add_content_hash(pdu), VERSION, SERVER, KEY)
    return parse_pdu(pdu, VERSION)


def microseconds(step: Callable[[], object]) -> float:
    """The time of one call, the best of five rounds."""
    timer = timeit.Timer(step)
    number, _ = timer.autorange()
    return min(timer.repeat(5, number)) / number * 1e6


def main() -> None:
    """Print the table."""
    create = signed("m.room.create", {"room_version": "12"}, "", [], None)
    room_id = create.room_id
    join = signed("m.room.member", {"membership": "join", "displayname": "Alice"}, ALICE, [create], room_id)
    levels = signed("m.room.power_levels", {"users": {}, "events": {"m.room.name": 50}}, "", [create, join], room_id)
    body = {"msgtype": "m.text", "body": "Shall we meet at the usual place, or is it raining where you are?"}
    message = signed("m.room.message", body, None, [create, levels, join], room_id)
    pdu, state = message.pdu, {event.key: event for event in (create, join, levels)}
    text = canonical_json.encode(pdu)
    verify_key = KEY.verify_key_base64
    rules, context = CompiledRules(NO_CHANGES), PushContext(user_id="@bob:example.org", member_count=5)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("canonical JSON, checked", lambda: canonical_json.encode(pdu)),
        ("canonical JSON, known good", lambda: canonical_json.encode_checked(pdu)),
        ("canonical JSON by the canonicaljson package", lambda: canonicaljson.encode_canonical_json(pdu)),
        ("decode, orjson", lambda: orjson.loads(text)),
        ("decode, strict", lambda: canonical_json.loads_strict(text)),
        ("check the content hash", lambda: check_content_hash(pdu)),
        ("reference hash", lambda: reference_hash(pdu, VERSION)),
        ("event ID", lambda: event_id_of(pdu, VERSION)),
        ("sign", lambda: sign_event(pdu, VERSION, SERVER, KEY)),
        ("verify a signature", lambda: verify_event_signature(pdu, VERSION, SERVER, KEY.key_id, verify_key)),
        ("parse and check a PDU", lambda: parse_pdu(pdu, VERSION)),
        ("take a PDU from the own store", lambda: Event.from_trusted(pdu, VERSION, message.event_id)),
        ("select auth events", lambda: auth_keys_for(VERSION, message.type, ALICE, None, body)),
        ("authorise a message", lambda: check_auth(message, state)),
        ("notification class", lambda: notification_class(message, member_count=5, room_mention_allowed=False)),
        ("evaluate the default push rules", lambda: rules.evaluate(message, context)),
        ("render for clients", lambda: client_event_bytes(message, room_id=False)),
    ]
    print(f"a message event of {len(text)} bytes, room version {VERSION.identifier}\n")
    print("| step | us |\n| --- | ---: |")
    for name, step in steps:
        print(f"| {name} | {microseconds(step):.1f} |")


if __name__ == "__main__":
    main()
