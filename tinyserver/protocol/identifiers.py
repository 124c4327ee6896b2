"""The grammar of Matrix identifiers: parsing them, checking them, and the historical forms that still occur.

Parsing functions return frozen dataclasses whose ``str()`` is the identifier again and raise
:class:`InvalidIdentifier`; ``is_valid_*`` functions take any value and never raise.

spec: appendices#identifier-grammar
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Any

from tinyserver.protocol.errors import InvalidUsername

MAX_IDENTIFIER_BYTES = 255

_SERVER_NAME = re.compile(
    r"(?:(?P<ipv4>[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})"
    r"|\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\]"
    r"|(?P<dns>[0-9A-Za-z.-]{1,255}))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_LOCALPART = re.compile(r"[a-z0-9._=\-/+]+")
_COMPLIANT_LOCALPART = re.compile(r"[!-9;-~]+")
_HASH_ID = re.compile(r"[A-Za-z0-9_\-]{43}")
_KEY_VERSION = re.compile(r"[A-Za-z0-9_]+")
_MEDIA_ID = re.compile(r"[A-Za-z0-9_\-]+")
_OPAQUE = re.compile(r"[0-9A-Za-z._~\-]{1,255}")
_NAMESPACED = re.compile(r"[a-z][a-z0-9._\-]{0,254}")
_ROOM_VERSION = re.compile(r"[a-z0-9.\-]{1,32}")


class InvalidIdentifier(ValueError):
    """A text is not an identifier of the kind that was expected."""


class HostKind(Enum):
    """What stands in a server name before the port."""

    IPV4 = "IPv4 literal"
    IPV6 = "IPv6 literal"
    DNS = "DNS name"


@dataclass(frozen=True, slots=True)
class ServerName:
    """A parsed server name: ``host`` without the brackets of an IPv6 literal, ``port`` if one is given."""

    host: str
    port: int | None
    kind: HostKind

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.kind is HostKind.IPV6 else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UserId:
    """``@localpart:server_name``"""

    localpart: str
    server_name: str

    def __str__(self) -> str:
        return f"@{self.localpart}:{self.server_name}"


@dataclass(frozen=True, slots=True)
class RoomAlias:
    """``#localpart:server_name``"""

    localpart: str
    server_name: str

    def __str__(self) -> str:
        return f"#{self.localpart}:{self.server_name}"


@dataclass(frozen=True, slots=True)
class RoomId:
    """``!opaque:server_name``, or ``!opaque`` (``server_name`` is ``None``) where it is the create event's hash."""

    opaque: str
    server_name: str | None

    def __str__(self) -> str:
        return f"!{self.opaque}" if self.server_name is None else f"!{self.opaque}:{self.server_name}"


@dataclass(frozen=True, slots=True)
class EventId:
    """``$opaque:server_name``, or ``$opaque`` (``server_name`` is ``None``) where it is the event's hash."""

    opaque: str
    server_name: str | None

    def __str__(self) -> str:
        return f"${self.opaque}" if self.server_name is None else f"${self.opaque}:{self.server_name}"


@dataclass(frozen=True, slots=True)
class KeyId:
    """A key identifier ``algorithm:name``, such as ``ed25519:a_1`` or ``curve25519:DEVICEID``."""

    algorithm: str
    name: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.name}"


@dataclass(frozen=True, slots=True)
class MxcUri:
    """``mxc://server_name/media_id``"""

    server_name: str
    media_id: str

    def __str__(self) -> str:
        return f"mxc://{self.server_name}/{self.media_id}"


# --- Server names


@lru_cache(maxsize=1024)
def parse_server_name(text: str) -> ServerName:
    """Take a server name apart.

    :raises InvalidIdentifier: not a server name.

    spec: appendices#server-name
    """
    match = _SERVER_NAME.fullmatch(text) if len(text) <= MAX_IDENTIFIER_BYTES else None
    if match is None:
        raise InvalidIdentifier(f"{text[:300]!r} is not a server name")
    port = None if match["port"] is None else int(match["port"])
    if port is not None and port > 65535:
        raise InvalidIdentifier(f"{text!r} has a port beyond 65535")
    if match["ipv4"] is not None:
        if any(int(number) > 255 for number in match["ipv4"].split(".")):
            raise InvalidIdentifier(f"{text!r} is not an IPv4 address")
        return ServerName(match["ipv4"], port, HostKind.IPV4)
    if match["ipv6"] is not None:
        try:
            IPv6Address(match["ipv6"])
        except AddressValueError as error:
            raise InvalidIdentifier(f"{text!r} is not an IPv6 address") from error
        return ServerName(match["ipv6"], port, HostKind.IPV6)
    return ServerName(match["dns"], port, HostKind.DNS)


def is_valid_server_name(text: Any) -> bool:
    """Whether this is a server name."""
    if not isinstance(text, str):
        return False
    try:
        parse_server_name(text)
    except InvalidIdentifier:
        return False
    return True


def domain_of(identifier: str) -> str:
    """The server name in a user ID, room alias, or room or event ID with a domain: what follows the first colon.

    :raises InvalidIdentifier: there is no colon.
    """
    _, colon, domain = identifier.partition(":")
    if not colon:
        raise InvalidIdentifier(f"{identifier[:300]!r} has no domain")
    return domain


# --- Users


def parse_user_id(text: str, *, historical: bool = True) -> UserId:
    """Take a user ID apart.

    :param historical: accept the localparts of old user IDs: empty, or of any characters but ``:`` and NUL. They occur
        in events of other servers; new ones must not be made.
    :raises InvalidIdentifier: not a user ID.

    spec: appendices#user-identifiers
    """
    localpart, server_name = _split(text, "@", "user ID")
    if not historical and _LOCALPART.fullmatch(localpart) is None:
        raise InvalidIdentifier("a user ID can only contain a-z, 0-9 and . _ = - / + before the colon")
    return UserId(localpart, server_name)


def is_valid_user_id(text: Any, *, historical: bool = True) -> bool:
    """Whether this is a user ID; see :func:`parse_user_id`."""
    try:
        parse_user_id(text, historical=historical)
    except InvalidIdentifier:
        return False
    return True


def is_compliant_user_id(text: Any) -> bool:
    """Whether clients may be shown this user ID outside of events: its localpart is printable ASCII and not empty.

    spec: appendices#historical-user-ids
    """
    try:
        return _COMPLIANT_LOCALPART.fullmatch(parse_user_id(text).localpart) is not None
    except InvalidIdentifier:
        return False


def check_localpart(text: str, server_name: str = "") -> None:
    """Check the name of a new account.

    :param server_name: counts towards the 255 bytes of the whole user ID.
    :raises InvalidUsername: empty, too long, or characters other than ``a-z 0-9 . _ = - / +``.
    """
    if not isinstance(text, str) or not text:
        raise InvalidUsername("A user name cannot be empty.")
    if _LOCALPART.fullmatch(text) is None:
        raise InvalidUsername
    if len(text) + len(server_name) + 2 > MAX_IDENTIFIER_BYTES:
        raise InvalidUsername("This user name is too long.")


def map_to_localpart(name: str, *, preserve_case: bool = False) -> str:
    """The localpart which stands for a name of any characters.

    :param preserve_case: names that differ only in case give different localparts.
    :raises InvalidIdentifier: the name holds a lone surrogate.

    spec: appendices#mapping-from-other-character-sets
    """
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise InvalidIdentifier("the name is not valid Unicode") from error
    mapped = []
    for byte in encoded:
        character = chr(byte)
        if "A" <= character <= "Z":
            mapped.append("_" + character.lower() if preserve_case else character.lower())
        elif character == "_" and preserve_case:
            mapped.append("__")
        elif character != "=" and _LOCALPART.fullmatch(character):
            mapped.append(character)
        else:
            mapped.append(f"={byte:02x}")
    return "".join(mapped)


# --- Rooms and events


def parse_room_alias(text: str) -> RoomAlias:
    """Take a room alias apart.

    :raises InvalidIdentifier: not a room alias.

    spec: appendices#room-aliases
    """
    return RoomAlias(*_split(text, "#", "room alias"))


def is_valid_room_alias(text: Any) -> bool:
    """Whether this is a room alias."""
    try:
        parse_room_alias(text)
    except InvalidIdentifier:
        return False
    return True


def parse_room_id(text: str) -> RoomId:
    """Take a room ID of any room version apart.

    :raises InvalidIdentifier: neither ``!opaque:domain`` nor ``!`` with the 43 characters of a hash.

    spec: appendices#room-ids
    """
    if isinstance(text, str) and is_hash_room_id(text):
        return RoomId(text[1:], None)
    return RoomId(*_split(text, "!", "room ID"))


def is_valid_room_id(text: Any) -> bool:
    """Whether this is a room ID of any room version."""
    try:
        parse_room_id(text)
    except InvalidIdentifier:
        return False
    return True


def is_hash_room_id(text: str) -> bool:
    """Whether this is a room ID as in room version 12: ``!`` and the 43 characters of the create event's ID."""
    return text[:1] == "!" and _HASH_ID.fullmatch(text, 1) is not None


def parse_event_id(text: str) -> EventId:
    """Take an event ID of any room version apart.

    :raises InvalidIdentifier: neither ``$opaque:domain`` nor ``$`` with the 43 characters of a hash in either Base64
        alphabet.

    spec: appendices#event-ids
    """
    if isinstance(text, str) and text[:1] == "$":
        hash_text = text[1:].replace("+", "-").replace("/", "_")
        if _HASH_ID.fullmatch(hash_text):
            return EventId(text[1:], None)
    return EventId(*_split(text, "$", "event ID"))


def is_valid_event_id(text: Any) -> bool:
    """Whether this is an event ID of any room version."""
    try:
        parse_event_id(text)
    except InvalidIdentifier:
        return False
    return True


def is_valid_room_version(text: Any) -> bool:
    """Whether this could be the identifier of a room version, known or not.

    spec: rooms/index#room-version-grammar
    """
    return isinstance(text, str) and _ROOM_VERSION.fullmatch(text) is not None


# --- Keys, media and other names


def parse_key_id(text: str) -> KeyId:
    """Take a key identifier apart, of a server or of a device.

    :raises InvalidIdentifier: not ``algorithm:name``, or longer than 255 bytes.
    """
    if not isinstance(text, str) or _byte_length(text) > MAX_IDENTIFIER_BYTES:
        raise InvalidIdentifier("not a key ID")
    algorithm, _, name = text.partition(":")
    if not algorithm or not name:
        raise InvalidIdentifier(f"{text!r} is not a key ID")
    return KeyId(algorithm, name)


def is_valid_server_key_id(text: Any) -> bool:
    """Whether this names a signing key of a server: ``ed25519:`` and letters, digits or ``_``.

    spec: server-server-api#publishing-keys
    """
    return isinstance(text, str) and text.startswith("ed25519:") and _KEY_VERSION.fullmatch(text, 8) is not None


def parse_mxc_uri(text: str) -> MxcUri:
    """Take a content URI apart.

    :raises InvalidIdentifier: not ``mxc://server_name/media_id`` with a media ID of letters, digits, ``_`` and ``-``.

    spec: client-server-api#matrix-content-mxc-uris
    """
    if not isinstance(text, str) or not text.startswith("mxc://"):
        raise InvalidIdentifier("not an mxc:// URI")
    server_name, _, media_id = text[6:].partition("/")
    if not is_valid_server_name(server_name) or not is_valid_media_id(media_id):
        raise InvalidIdentifier(f"{text[:300]!r} is not an mxc:// URI")
    return MxcUri(server_name, media_id)


def is_valid_media_id(text: Any) -> bool:
    """Whether this is the media ID of a content URI; at most 255 characters."""
    return isinstance(text, str) and len(text) <= MAX_IDENTIFIER_BYTES and _MEDIA_ID.fullmatch(text) is not None


def is_valid_opaque_id(text: Any) -> bool:
    """Whether this fits the grammar of opaque identifiers. spec: appendices#opaque-identifiers"""
    return isinstance(text, str) and _OPAQUE.fullmatch(text) is not None


def is_valid_namespaced_id(text: Any) -> bool:
    """Whether this fits the grammar ``m.like.this``. spec: appendices#common-namespaced-identifier-grammar"""
    return isinstance(text, str) and _NAMESPACED.fullmatch(text) is not None


def canonical_email(address: str) -> str:
    """The form in which e-mail addresses are compared and stored: case-folded. spec: appendices#e-mail"""
    return address.casefold()


def _split(text: str, sigil: str, what: str) -> tuple[str, str]:
    """The localpart and the server name of ``sigil localpart:server_name``."""
    if not isinstance(text, str):
        raise InvalidIdentifier(f"a {what} must be a string")
    localpart, _, server_name = text.partition(":")
    if localpart[:1] != sigil or "\0" in localpart or not is_valid_server_name(server_name):
        raise InvalidIdentifier(f"{text[:300]!r} is not a valid {what}")
    if _byte_length(text) > MAX_IDENTIFIER_BYTES:
        raise InvalidIdentifier(f"a {what} cannot be longer than {MAX_IDENTIFIER_BYTES} bytes")
    return localpart[1:], server_name


def _byte_length(text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidIdentifier("an identifier cannot contain lone surrogates") from error
