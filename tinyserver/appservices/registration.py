"""What an application service is registered with: a YAML file, as bridges generate it.

spec: application-service-api#registration
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from tinyserver.accounts.tokens import digest
from tinyserver.outgoing.errors import OutgoingError
from tinyserver.outgoing.targets import target_of_url
from tinyserver.protocol.identifiers import is_valid_user_id
from tinyserver.protocol.linear_patterns import LinearPattern, PatternError

MAX_BYTES = 256 * 1024
MAX_NAMESPACES = 100
"""Of each kind."""
MAX_PROTOCOLS = 50
MAX_PROTOCOL = 255
_MAX_TEXT = 1024


class RegistrationError(Exception):
    """A registration cannot be used; the message says what is wrong with it."""


class NamespaceEntry(msgspec.Struct):
    """One namespace as it stands in the file."""

    regex: str
    exclusive: bool = False


class NamespacesTable(msgspec.Struct):
    """The namespaces as they stand in the file."""

    users: list[NamespaceEntry] | None = None
    rooms: list[NamespaceEntry] | None = None
    aliases: list[NamespaceEntry] | None = None


class RegistrationFile(msgspec.Struct):
    """The file; keys that are not known are left alone."""

    id: str
    url: str | None
    hs_token: str
    sender_localpart: str
    namespaces: NamespacesTable | None
    as_token: str | None = None
    rate_limited: bool | None = True
    receive_ephemeral: bool | None = None
    push_ephemeral: bool | None = msgspec.field(default=None, name="de.sorunome.msc2409.push_ephemeral")
    device_news: bool | None = msgspec.field(default=None, name="org.matrix.msc3202")
    protocols: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Namespace:
    """Some user IDs, room IDs or aliases; with `is_exclusive` nobody else may make any of them."""

    pattern: LinearPattern
    is_exclusive: bool


@dataclass(frozen=True, slots=True)
class Registration:
    """A checked registration.

    Attributes:
        url: where the service listens, without a slash at its end (None: nowhere).
        token_hash: the SHA-256 of its `as_token`; the token itself is not kept.
        receives_ephemeral: whether it is told of typing, receipts and presence.
        ephemeral_keys: how that is called in its transactions.
        receives_device_news: whether it is told of device lists and of the keys of its devices (MSC3202).
        protocols: the networks that it bridges to.
    """

    id: str
    url: str | None
    token_hash: bytes
    hs_token: str
    sender_localpart: str
    users: tuple[Namespace, ...]
    rooms: tuple[Namespace, ...]
    aliases: tuple[Namespace, ...]
    is_rate_limited: bool
    receives_ephemeral: bool
    ephemeral_keys: tuple[str, ...]
    receives_device_news: bool
    protocols: tuple[str, ...]
    stored: str
    """What `stored_registration` makes it from again."""


def parse_registration(text: str, server_name: str) -> Registration:
    """The registration in the text of a file.

    Raises:
        RegistrationError: it is no YAML, or lacks something, or holds something that cannot be used.
    """
    found = _decoded(text)
    token, found.as_token = found.as_token, None
    _check_text("as_token", token)
    return _checked(found, digest(token or ""), server_name)


def stored_registration(stored: str, token_hash: bytes, server_name: str) -> Registration:
    """A registration that was checked when it was stored.

    Raises:
        RegistrationError: it cannot be used any more.
    """
    try:
        found = msgspec.json.decode(stored, type=RegistrationFile)
    except msgspec.MsgspecError as error:
        raise RegistrationError(str(error)) from error
    return _checked(found, token_hash, server_name)


def _check_text(key: str, value: str | None) -> None:
    if not value or len(value) > _MAX_TEXT or not value.isprintable():
        raise RegistrationError(f"'{key}' must be text of 1 to {_MAX_TEXT} printable characters")
    if key != "id" and (not value.isascii() or " " in value):
        raise RegistrationError(f"'{key}' must be ASCII without spaces: it is sent in a header")


def _checked(found: RegistrationFile, token_hash: bytes, server_name: str) -> Registration:
    _check_text("id", found.id)
    _check_text("hs_token", found.hs_token)
    if not found.sender_localpart or not is_valid_user_id(f"@{found.sender_localpart}:{server_name}"):
        raise RegistrationError("'sender_localpart' must be the part of a user ID between the @ and the colon")
    names = found.namespaces or NamespacesTable()
    return Registration(
        id=found.id,
        url=_checked_url(found.url),
        token_hash=token_hash,
        hs_token=found.hs_token,
        sender_localpart=found.sender_localpart,
        users=_compiled("users", names.users),
        rooms=_compiled("rooms", names.rooms),
        aliases=_compiled("aliases", names.aliases),
        is_rate_limited=found.rate_limited is not False,
        receives_ephemeral=bool(found.receive_ephemeral or found.push_ephemeral),
        ephemeral_keys=_ephemeral_keys(found),
        receives_device_news=bool(found.device_news),
        protocols=_checked_protocols(found.protocols or []),
        stored=msgspec.json.encode(found).decode(),
    )


def _decoded(text: str) -> RegistrationFile:
    if len(text) > MAX_BYTES:
        raise RegistrationError(f"it is larger than {MAX_BYTES} bytes")
    # Only who has application services pays for it.
    import yaml

    try:
        value: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RegistrationError(f"it is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise RegistrationError("it must be a YAML mapping with the keys id, url, as_token, hs_token, ...")
    try:
        return msgspec.convert({str(key): each for key, each in value.items()}, RegistrationFile)
    except msgspec.ValidationError as error:
        raise RegistrationError(f"{error} (text that looks like a number needs quotes)") from error
    except RecursionError as error:
        raise RegistrationError("it refers to itself") from error


def _checked_url(url: str | None) -> str | None:
    if not url:
        return None
    try:
        target_of_url(url)
    except OutgoingError as error:
        raise RegistrationError(f"'url' must be an http or https URL, or null: {error}") from error
    if "?" in url or "#" in url:
        raise RegistrationError("'url' must not have a query or a fragment")
    return url.rstrip("/")


def _ephemeral_keys(found: RegistrationFile) -> tuple[str, ...]:
    """Who asks for it by both names may understand only one of them."""
    stable, old = found.receive_ephemeral, found.push_ephemeral
    return (("ephemeral",) if stable else ()) + (("de.sorunome.msc2409.ephemeral",) if old else ())


def _checked_protocols(protocols: list[str]) -> tuple[str, ...]:
    if len(protocols) > MAX_PROTOCOLS or any(not each or len(each) > MAX_PROTOCOL for each in protocols):
        raise RegistrationError(f"'protocols' must be at most {MAX_PROTOCOLS} names of 1 to {MAX_PROTOCOL} characters")
    return tuple(dict.fromkeys(protocols))


def _compiled(kind: str, entries: list[NamespaceEntry] | None) -> tuple[Namespace, ...]:
    if entries is None:
        return ()
    if len(entries) > MAX_NAMESPACES:
        raise RegistrationError(f"'namespaces.{kind}' has more than {MAX_NAMESPACES} entries")
    found = []
    for index, entry in enumerate(entries):
        try:
            found.append(Namespace(LinearPattern(entry.regex), entry.exclusive))
        except PatternError as error:
            raise RegistrationError(f"'namespaces.{kind}[{index}].regex' cannot be used: {error}") from error
    return tuple(found)
