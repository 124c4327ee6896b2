"""Policy servers: whom a room asks whether an event is welcome, and its signature on those that are.

spec: server-server-api#policy-servers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinyserver.protocol.event_hashes import verify_event_signature
from tinyserver.protocol.events import Event, parse_pdu
from tinyserver.protocol.identifiers import is_valid_server_name
from tinyserver.protocol.signing import SignatureError, with_signature

POLICY = "m.room.policy"
KEY_ID = "ed25519:policy_server"
"""What the key of every policy server is called in signatures."""


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """Which server a room asks, and its public key (Ed25519, unpadded Base64)."""

    server: str
    key: str


def policy_in(content: Mapping[str, Any]) -> RoomPolicy | None:
    """What the content of an `m.room.policy` event says, or None where it does not name a server and a key.

    spec: server-server-api#determining-if-a-policy-server-is-enabled-in-a-room
    """
    via, keys = content.get("via"), content.get("public_keys")
    key = keys.get("ed25519") if isinstance(keys, dict) else None
    if not isinstance(via, str) or not is_valid_server_name(via) or not isinstance(key, str):
        return None
    return RoomPolicy(via, key)


def needs_signature(event_type: str, state_key: str | None) -> bool:
    """Whether policy servers are asked about such events: about all but the one that names them."""
    return event_type != POLICY or state_key != ""


def is_signed(event: Event, policy: RoomPolicy) -> bool:
    """Whether an event carries the policy server's valid signature.

    spec: server-server-api#validating-policy-server-signatures
    """
    try:
        verify_event_signature(event.pdu, event.version, policy.server, KEY_ID, policy.key)
    except SignatureError:
        return False
    return True


def countersigned(event: Event, policy: RoomPolicy, answer: Mapping[str, Any]) -> Event | None:
    """An event with the signature in a policy server's answer beside those that it has, or None where that is not
    valid.

    spec: server-server-api#post_matrixpolicyv1sign
    """
    of_server = answer.get(policy.server)
    signature = of_server.get(KEY_ID) if isinstance(of_server, dict) else None
    if not isinstance(signature, str):
        return None
    signed = parse_pdu(with_signature(event.pdu, policy.server, KEY_ID, signature), event.version)
    return signed if is_signed(signed, policy) else None
