"""Hashes, IDs and signatures of events.

The functions take PDUs in the format of the given room version that have been parsed (``events.parse_pdu``) or are
just being built. They raise ``CanonicalJsonError`` for values that have no canonical form in the room version.

spec: server-server-api#signing-events
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from tinyserver.protocol import base64, canonical_json, signing
from tinyserver.protocol.identifiers import domain_of, parse_user_id
from tinyserver.protocol.redaction import redacted_content
from tinyserver.protocol.room_versions import EventIdFormat, RoomVersion
from tinyserver.protocol.signing import SigningKey

_NOT_IN_CONTENT_HASH = frozenset({"unsigned", "signatures", "hashes"})


def content_hash(pdu: Mapping[str, Any]) -> str:
    """The SHA-256 of the complete event without ``unsigned``, ``signatures`` and ``hashes``, in unpadded Base64.

    spec: server-server-api#calculating-the-content-hash-for-an-event
    """
    return base64.encode(_content_hash(pdu))


def add_content_hash(pdu: dict[str, Any]) -> dict[str, Any]:
    """A copy of the PDU with its content hash in ``hashes``."""
    return {**pdu, "hashes": {"sha256": content_hash(pdu)}}


def check_content_hash(pdu: Mapping[str, Any]) -> bool:
    """Whether ``hashes`` holds the content hash of the event. If not, it has been redacted, or changed on the way."""
    hashes = pdu.get("hashes")
    claimed = hashes.get("sha256") if isinstance(hashes, dict) else None
    try:
        return base64.decode(claimed) == _content_hash(pdu)  # type: ignore[arg-type]
    except ValueError:
        return False


def _content_hash(pdu: Mapping[str, Any]) -> bytes:
    hashed = {key: value for key, value in pdu.items() if key not in _NOT_IN_CONTENT_HASH}
    return sha256(canonical_json.encode_lenient(hashed)).digest()


def _essential_bytes(pdu: Mapping[str, Any], version: RoomVersion) -> bytes:
    """What the reference hash and the signatures cover: the redacted event without ``signatures`` and ``unsigned``.

    A stray ``event_id`` is left out where the ID is not part of the event.
    """
    kept = version.hashed_keys
    essential = {key: value for key, value in pdu.items() if key in kept}
    essential["content"] = redacted_content(pdu.get("type"), pdu.get("content"), version)
    if version.strict_canonical_json:
        return canonical_json.encode_checked(essential)
    return canonical_json.encode_lenient(essential)


def reference_hash(pdu: Mapping[str, Any], version: RoomVersion) -> bytes:
    """The SHA-256, 32 bytes, of the essential fields of an event: those which redaction keeps, without signatures.

    spec: server-server-api#calculating-the-reference-hash-for-an-event
    """
    return sha256(_essential_bytes(pdu, version)).digest()


def event_id_of(pdu: Mapping[str, Any], version: RoomVersion) -> str:
    """The ID of an event: its own ``event_id`` in room versions 1 and 2, else ``$`` and the reference hash."""
    if version.event_id_in_pdu:
        return pdu["event_id"]  # type: ignore[no-any-return]
    hash_bytes = reference_hash(pdu, version)
    if version.event_id_format is EventIdFormat.HASH:
        return "$" + base64.encode(hash_bytes)
    return "$" + base64.encode_urlsafe(hash_bytes)


def room_id_of_create(pdu: Mapping[str, Any], version: RoomVersion) -> str:
    """The ID of the room which a create event makes, in versions where it is the event's own ID with ``!``.

    spec: rooms/v12#event-format
    """
    if not version.room_id_is_create_hash:
        return pdu["room_id"]  # type: ignore[no-any-return]
    return "!" + event_id_of(pdu, version)[1:]


def sign_event(pdu: Mapping[str, Any], version: RoomVersion, server_name: str, key: SigningKey) -> dict[str, Any]:
    """A copy of the PDU, which must have its content hash, with the server's signature added."""
    return signing.with_signature(pdu, server_name, key.key_id, key.sign(_essential_bytes(pdu, version)))


def verify_event_signature(
    pdu: Mapping[str, Any], version: RoomVersion, server_name: str, key_id: str, verify_key_base64: str
) -> None:
    """Check the signature of this server and key on an event. It survives redaction.

    :raises SignatureError: it is missing, malformed or wrong.
    """
    signature = signing.signature_of(pdu, server_name, key_id)
    try:
        message = _essential_bytes(pdu, version)
    except canonical_json.CanonicalJsonError as error:
        raise signing.SignatureError("the event has no canonical JSON form") from error
    signing.verify_bytes(message, signature, verify_key_base64)


def required_signers(pdu: Mapping[str, Any], version: RoomVersion) -> set[str]:
    """The names of the servers whose signature the event needs.

    The sender's server, unless it is a third-party invite, which another server may send; in versions 1 and 2 also the
    server in the event ID; for a restricted join also the server of the user who authorised it.

    :raises InvalidIdentifier: one of these users is not named by a user ID.

    spec: server-server-api#validating-hashes-and-signatures-on-received-events, rooms/v8#authorisation-rules
    """
    content = pdu["content"]
    is_member = pdu["type"] == "m.room.member"
    signers = set()
    if not (is_member and content.get("membership") == "invite" and "third_party_invite" in content):
        signers.add(parse_user_id(pdu["sender"]).server_name)
    if version.event_id_in_pdu:
        signers.add(domain_of(pdu["event_id"]))
    if is_member and version.restricted and "join_authorised_via_users_server" in content:
        signers.add(parse_user_id(content["join_authorised_via_users_server"]).server_name)
    return signers
