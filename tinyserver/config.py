"""The configuration: one TOML file becomes frozen dataclasses.

The dataclasses are the only list of keys. What each key means stands in its ``setting``; the commented file that
``tinyserver init`` writes and ``docs/configuration.md`` are made from it (:mod:`tinyserver.config_text`).

Sizes are written like ``"50 MiB"`` and held in bytes; durations like ``"1h"`` and held in seconds.
"""

# ruff: noqa: RUF009 (``setting`` returns a dataclass field)

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from tinyserver.protocol import base64
from tinyserver.protocol.errors import InvalidUsername
from tinyserver.protocol.identifiers import check_localpart, is_valid_server_name
from tinyserver.protocol.room_versions import ROOM_VERSIONS

T = TypeVar("T")

Bytes = Annotated[int, "size"]


@dataclass(frozen=True, slots=True)
class Portion:
    """A number of bytes, or a share (0 to 1) of what there is."""

    size: int | None = None
    share: float | None = None


SizeOrShare = Annotated[Portion, "size or share"]
Seconds = Annotated[float, "duration"]

_SIZE_UNITS = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class ConfigError(Exception):
    """The configuration cannot be used; the message names the key and says what to do."""


def setting(doc: str, default: Any = MISSING, **options: Any) -> Any:
    """A dataclass field with its documentation; without a default the key is required."""
    if default is MISSING and "default_factory" not in options:
        return field(metadata={"doc": doc})
    if default is MISSING:
        return field(metadata={"doc": doc}, **options)
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that tinyserver listens at. The section can be repeated."""

    address: str = setting('Host and port: "127.0.0.1:8008", "[::]:8448". Port 0 takes a free port.', "127.0.0.1:8008")
    serves: tuple[Literal["client", "federation", "media", "admin", "metrics"], ...] = setting(
        "What is served here: any of client, federation, media, admin, metrics.",
        ("client", "federation", "media", "admin", "metrics"),
    )
    tls_certificate: str = setting(
        "Certificate chain (PEM). Empty: plain HTTP, for use behind a reverse proxy or at home. "
        "After renewing it, send SIGHUP (systemctl reload tinyserver).",
        "",
    )
    tls_key: str = setting("The certificate's private key (PEM).", "")
    trusted_proxies: tuple[str, ...] = setting(
        "Addresses or networks of reverse proxies whose X-Forwarded-For header is believed.", ("127.0.0.0/8", "::1")
    )
    max_connections: int = setting("Connections at the same time; above that clients get 503.", 2000)


@dataclass(frozen=True, slots=True)
class Registration:
    """Who may make an account."""

    mode: Literal["open", "token", "closed"] = setting(
        'Who can register: "open" anybody, "token" who has a registration token, "closed" nobody '
        '(accounts are then made with "tinyserver user create").',
        "token",
    )
    shared_secret: str = setting(
        "Lets tools that know this secret make accounts (registration by HMAC). Empty: not offered.", ""
    )
    allow_guests: bool = setting("Whether guests may look around without an account.", False)
    email: Literal["no", "optional", "required"] = setting(
        "Whether people who register give a mail address, which they confirm. Needs [smtp].", "optional"
    )
    email_domains: tuple[str, ...] = setting(
        'The domains whose mail addresses people can use: "example.org". Empty: all.', ()
    )


@dataclass(frozen=True, slots=True)
class Passwords:
    """What checking a password costs (Argon2id): more is safer against a stolen database, and slower to log in."""

    memory: Bytes = setting("Memory for one password.", 19 * 1024**2)
    iterations: int = setting("Passes over that memory.", 2)


@dataclass(frozen=True, slots=True)
class Sessions:
    """How long a login lasts."""

    access_token_lifetime: Seconds = setting(
        "How long an access token is valid, for clients that can refresh it; for the others it does not expire.", 3600.0
    )
    refresh_token_lifetime: Seconds = setting(
        "After how long without use a client that refreshes its tokens must log in again. 0s: never.", 0.0
    )


@dataclass(frozen=True, slots=True)
class Rooms:
    """New rooms."""

    default_version: str = setting("The room version of new rooms.", "12")


@dataclass(frozen=True, slots=True)
class DelayedEvents:
    """Events that clients have sent later, unless they say otherwise; calls need it to notice who is gone."""

    max_delay: Seconds = setting("How far ahead. 0s: not at all.", 30 * 86400.0)
    max_scheduled: int = setting("How many of one user at the same time.", 200)


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is online."""

    enabled: bool = setting("Whether people see who else in their rooms is online.", True)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: up to ``burst`` requests at once, refilled by ``per_second``."""

    per_second: float = setting("Requests a second in the long run.")
    burst: int = setting("Requests at once.")


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How fast one user, or one address that is not logged in, may go. Above that clients are told to wait."""

    enabled: bool = setting("Whether there are limits at all.", True)
    admins_exempt: bool = setting("Whether administrators may go as fast as they like.", True)
    message: Bucket = setting("Sending messages and state.", Bucket(5, 50))
    redaction: Bucket = setting("Redacting events.", Bucket(5, 100))
    login_address: Bucket = setting("Logging in, for each address.", Bucket(0.2, 10))
    login_account: Bucket = setting("Logging in, for each account.", Bucket(0.2, 10))
    login_failed: Bucket = setting("Wrong passwords, for each account.", Bucket(0.1, 5))
    registration: Bucket = setting("Making accounts, for each address.", Bucket(0.1, 10))
    mail: Bucket = setting(
        "Having a mail with a link sent, for each address that asks and for each mail address.", Bucket(0.01, 10)
    )
    join: Bucket = setting("Joining and knocking on rooms.", Bucket(0.5, 20))
    invite: Bucket = setting("Inviting people.", Bucket(0.5, 30))
    create_room: Bucket = setting("Making and upgrading rooms.", Bucket(0.2, 20))
    profile: Bucket = setting("Changing one's profile.", Bucket(0.2, 10))
    media: Bucket = setting("Uploads, downloads and previews.", Bucket(10, 100))
    search: Bucket = setting("Searching messages, people and rooms.", Bucket(1, 20))
    report: Bucket = setting("Reporting events, rooms and people.", Bucket(0.1, 10))
    federation: Bucket = setting("Requests of each other server.", Bucket(50, 1000))
    key_query: Bucket = setting(
        "For each address: asking for the keys of other servers, and requests of servers whose keys are not known yet.",
        Bucket(2, 200),
    )
    other: Bucket = setting("Everything else that is limited.", Bucket(20, 200))


@dataclass(frozen=True, slots=True)
class Federation:
    """Talking with other Matrix servers."""

    enabled: bool = setting("Whether other servers are talked to.", True)
    trusted_key_servers: tuple[str, ...] = setting(
        "Servers that are asked for the keys of servers which cannot be reached.", ()
    )
    public_address: str = setting(
        'Where other servers reach this one, as /.well-known/matrix/server tells them: "matrix.example.org:443". '
        "Empty: at public_url, if one listener serves clients and federation; otherwise nothing is told.",
        "",
    )
    retry_pause: Seconds = setting(
        "How long a server that failed is left alone at first (one that cannot be connected to: at most 2 seconds). "
        "The pause grows with each failure, up to 12 hours, and ends as soon as that server makes a request itself.",
        30.0,
    )


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Every connection that tinyserver opens: federation, push, bridges, previews, identity servers, mail."""

    verify_tls: bool = setting("Check certificates. Only a test set-up turns this off.", True)
    extra_ca_files: tuple[str, ...] = setting("Further certificate authorities to trust (PEM files).", ())
    allow_private_addresses: bool = setting(
        "Allow connections to private addresses (192.168.x.x, localhost). A set-up on a LAN turns this on.",
        False,
    )
    dns_servers: tuple[str, ...] = setting('DNS servers to ask, "192.168.0.1" or "[::1]:53". Empty: the system\'s.', ())


@dataclass(frozen=True, slots=True)
class Smtp:
    """Sending mail: confirming mail addresses, new passwords, missed messages."""

    host: str = setting("The mail server. Empty: no mail.", "")
    port: int = setting("Its port.", 587)
    tls: Literal["starttls", "tls", "none"] = setting(
        'How the connection is encrypted: "starttls", "tls" or "none".', "starttls"
    )
    username: str = setting("Login name. Empty: no login.", "")
    password: str = setting("Password of that login.", "")
    sender: str = field(
        default="tinyserver <noreply@example.org>", metadata={"doc": "The sender of the mails.", "key": "from"}
    )


@dataclass(frozen=True, slots=True)
class MailNotifications:
    """Mails that tell of missed messages, to those who want that. Needs [smtp]."""

    delay: Seconds = setting("How long a message must be unread.", 600.0)
    pause: Seconds = setting("How long until the next mail. It doubles as long as nothing is read.", 3600.0)
    longest_pause: Seconds = setting("How long until the next mail at most.", 86400.0)
    with_messages: bool = setting("Whether the messages themselves are in the mail. Encrypted ones never are.", True)


@dataclass(frozen=True, slots=True)
class Voip:
    """Calls."""

    turn_uris: tuple[str, ...] = setting(
        'TURN servers for one-to-one calls: "turn:turn.example.org?transport=udp".', ()
    )
    turn_shared_secret: str = setting("The secret shared with the TURN servers.", "")
    turn_lifetime: Seconds = setting("How long TURN credentials are valid.", 3600.0)
    livekit_url: str = setting(
        "LiveKit server for group calls (wss://...); its token service is built in. Empty: none.", ""
    )
    livekit_key: str = setting("API key at the LiveKit server.", "")
    livekit_secret: str = setting("API secret at the LiveKit server.", "")
    livekit_service_url: str = setting(
        "Where clients get tokens for the LiveKit server. Empty: the built-in token service, below public_url.", ""
    )


@dataclass(frozen=True, slots=True)
class Appservices:
    """Bridges and bots."""

    files: tuple[str, ...] = setting("Registration files (YAML) as bridges generate them.", ())


@dataclass(frozen=True, slots=True)
class Media:
    """Files that people send."""

    max_upload: Bytes = setting("The largest upload.", 50 * 1024**2)
    remote_cache: SizeOrShare = setting(
        "Disk space for copies of files from other servers and for thumbnails: a size, or a share of the free space "
        'such as "20%". What was not asked for the longest goes first, and is fetched again when it is asked for.',
        Portion(size=2 * 1024**3),
    )
    max_remote: Bytes = setting("The largest file that is fetched from another server.", 100 * 1024**2)
    quota: Bytes = setting("Disk space for the uploads of one user together. 0 B: no limit.", 0)
    remote_lifetime: Seconds = setting(
        "Copies of files from other servers go when nobody has asked for them for so long. 0s: never for that reason.",
        0.0,
    )
    local_lifetime: Seconds = setting("Uploads are deleted when they are so old. 0s: never.", 0.0)
    max_image_pixels: int = setting("Pictures with more pixels get no thumbnails.", 50_000_000)
    unauthenticated: bool = setting(
        "Give files also at the old addresses, which ask for no access token. Only for clients of before 2024.",
        False,
    )


@dataclass(frozen=True, slots=True)
class UrlPreviews:
    """Previews of links. The server then fetches the pages that people link to."""

    enabled: bool = setting("Whether previews are made.", False)
    allow_private_addresses: bool = setting(
        "Also of pages on private addresses (192.168.x.x, localhost): everybody here can then look at them.",
        False,
    )
    blocked_domains: tuple[str, ...] = setting("Domains of which no previews are made, with all below them.", ())


@dataclass(frozen=True, slots=True)
class UnifiedPush:
    """The built-in push gateway: notifications for phones by a UnifiedPush distributor such as ntfy."""

    enabled: bool = setting("Whether there is one, at public_url + /_matrix/push/v1/notify.", True)
    allow_private_addresses: bool = setting(
        "Also reach distributors on private addresses (192.168.x.x, localhost), for users of this server: phones on a "
        "LAN then ring without the internet.",
        False,
    )


@dataclass(frozen=True, slots=True)
class Administration:
    """The server's own account: it sends notices to people, and takes commands from administrators."""

    account: str = setting(
        "What stands before the colon in its user ID. Nobody can log in to it. With another name it begins anew, with "
        "new rooms.",
        "tinyserver",
    )
    room: bool = setting(
        "Whether it invites administrators to a room, #admins, where it takes commands and tells of what it needs.",
        True,
    )


@dataclass(frozen=True, slots=True)
class Cache:
    """Memory."""

    budget: Bytes = setting("Memory for all caches together.", 32 * 1024**2)


@dataclass(frozen=True, slots=True)
class Log:
    """What is written to the log (standard error; under systemd the journal). Never a token or a password."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "The least important messages that are written.", "info"
    )
    requests: bool = setting(
        "Write a line for each request (method, path, status, milliseconds). Off: it wears out SD cards.",
        False,
    )


@dataclass(frozen=True, slots=True)
class Support:
    """Whom people and other servers' administrators turn to (/.well-known/matrix/support). Empty: it is not told."""

    admins: tuple[str, ...] = setting('User IDs ("@me:example.org") or mail addresses of administrators.', ())
    security: tuple[str, ...] = setting("The same for matters of security.", ())
    page: str = setting("The URL of a page with help.", "")


@dataclass(frozen=True, slots=True)
class PolicyServer:
    """A policy server that goes by this server's name (/.well-known/matrix/policy_server). Empty: there is none."""

    public_key: str = setting("Its public key: Ed25519 in unpadded Base64. Rooms name it in m.room.policy.", "")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    server_name: str = setting(
        'The name after the colon in "@alice:example.org". It cannot be changed once there are accounts.'
    )
    data_dir: Path = setting("Where the database, the keys and the media live. Relative to this file.", Path("data"))
    public_url: str = setting(
        "The URL where clients reach this server; .well-known tells it to them. A reverse proxy passes everything on: "
        "/_matrix, /.well-known/matrix, and the pages for signing in (/oauth2, /account, /link, /register).",
        "",
    )
    admin_contact: str = setting(
        'Where people reach the administrator when the server\'s disk is full: "mailto:me@example.org". '
        "Empty: they are given public_url.",
        "",
    )
    listen: tuple[Listener, ...] = setting("", (Listener(),))
    registration: Registration = setting("", Registration())
    passwords: Passwords = setting("", Passwords())
    sessions: Sessions = setting("", Sessions())
    rooms: Rooms = setting("", Rooms())
    delayed_events: DelayedEvents = setting("", DelayedEvents())
    presence: Presence = setting("", Presence())
    rate_limits: RateLimits = setting("", RateLimits())
    federation: Federation = setting("", Federation())
    outgoing: Outgoing = setting("", Outgoing())
    smtp: Smtp = setting("", Smtp())
    mail_notifications: MailNotifications = setting("", MailNotifications())
    voip: Voip = setting("", Voip())
    appservices: Appservices = setting("", Appservices())
    media: Media = setting("", Media())
    url_previews: UrlPreviews = setting("", UrlPreviews())
    unifiedpush: UnifiedPush = setting("", UnifiedPush())
    support: Support = setting("", Support())
    policy_server: PolicyServer = setting("", PolicyServer())
    administration: Administration = setting("", Administration())
    cache: Cache = setting("", Cache())
    log: Log = setting("", Log())


def load_config(file: Path) -> Config:
    """The configuration in ``file``; a relative ``data_dir`` is taken from the file's directory.

    Raises ConfigError, which says what is wrong with which key, and how to mend it.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{file} does not exist. Make it with: tinyserver init --server-name NAME --data DIR"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    try:
        return parse_config(text, file.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def parse_config(text: str, directory: Path) -> Config:
    """As :func:`load_config`, from the text of the file. Raises ConfigError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is not TOML: {error}") from error
    config = _section(Config, values, "")
    _check(config)
    return _with_data_dir(config, directory)


def key_of(setting_field: Field[Any]) -> str:
    """The key of a field in the file; it is the field's name unless that is a word of Python."""
    key: str = setting_field.metadata.get("key", setting_field.name)
    return key


def _with_data_dir(config: Config, directory: Path) -> Config:
    if config.data_dir.is_absolute():
        return config
    return replace(config, data_dir=directory / config.data_dir)


def _section(section: type[T], values: Mapping[str, Any], prefix: str) -> T:
    """An instance of a dataclass from a TOML table; ``prefix`` is the table's name with a dot."""
    known = {key_of(each): each for each in fields(section)}  # type: ignore[arg-type]
    types = get_type_hints(section, include_extras=True)
    for key in values:
        if key not in known:
            raise ConfigError(_unknown_key(prefix + key, key, known, prefix))
    arguments = {}
    for key, each in known.items():
        if key in values:
            arguments[each.name] = _value(types[each.name], values[key], prefix + key, each)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ConfigError(f'the key "{prefix}{key}" is missing. It says: {each.metadata["doc"]}')
    return section(**arguments)


def _unknown_key(full: str, key: str, known: Mapping[str, Field[Any]], prefix: str) -> str:
    # Only a wrong configuration needs it.
    from difflib import get_close_matches

    near = get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.5)
    if not near:
        return f'there is no key "{full}". Known here: {", ".join(known)}. See docs/configuration.md.'
    doc = known[near[0]].metadata["doc"]
    return f'there is no key "{full}". Is "{prefix}{near[0]}" meant? {doc}'.rstrip()


def _value(annotation: Any, value: Any, key: str, each: Field[Any]) -> Any:
    """A TOML value as the field's type."""
    if get_origin(annotation) is Annotated:
        return _quantity(get_args(annotation)[1], value, key)
    if get_origin(annotation) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f'"{key}" must be a list, such as {_example(each)}.')
        element = get_args(annotation)[0]
        return tuple(_value(element, item, f"{key}[{index}]", each) for index, item in enumerate(value))
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        if value not in choices:
            raise ConfigError(f'"{key}" must be one of {", ".join(map(repr, choices))}, not {value!r}.')
        return value
    if is_dataclass(annotation):
        if not isinstance(value, dict):
            raise ConfigError(f'"{key}" must be a table of keys and values.')
        return _section(annotation, value, f"{key}.")  # type: ignore[arg-type]
    return _plain(annotation, value, key)


def _plain(annotation: Any, value: Any, key: str) -> Any:
    accepted: dict[Any, Any] = {str: str, Path: str, int: int, float: (int, float), bool: bool}
    names = {
        str: "text in quotes",
        Path: "a path in quotes",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
    }
    if not isinstance(value, accepted[annotation]) or (isinstance(value, bool) and annotation is not bool):
        raise ConfigError(f'"{key}" must be {names[annotation]}, not {value!r}.')
    if annotation in (int, float) and value < 0:
        raise ConfigError(f'"{key}" must not be negative.')
    return Path(value) if annotation is Path else annotation(value)


def _quantity(kind: str, value: Any, key: str) -> int | float | Portion:
    """A size in bytes, a duration in seconds, or a portion."""
    if kind == "size":
        return _size(value, key)
    if kind == "size or share":
        return _portion(value, key)
    number, unit = _measured(value)
    if unit not in _DURATION_UNITS:
        raise ConfigError(
            f'"{key}" must be a duration such as "90s" or "1h" (units: ms, s, m, h, d, w), not {value!r}.'
        )
    return number * _DURATION_UNITS[unit]


def _size(value: Any, key: str) -> int:
    number, unit = _measured(value)
    if unit.upper() not in _SIZE_UNITS:
        raise ConfigError(f'"{key}" must be a size such as "50 MiB" (units: B, KiB, MiB, GiB), not {value!r}.')
    return int(number * _SIZE_UNITS[unit.upper()])


def _portion(value: Any, key: str) -> Portion:
    number, unit = _measured(value)
    if unit == "%" and number <= 100:
        return Portion(share=number / 100)
    try:
        return Portion(size=_size(value, key))
    except ConfigError as error:
        raise ConfigError(f'"{key}" must be a size such as "2 GiB" or a share such as "20%", not {value!r}.') from error


def _measured(value: Any) -> tuple[float, str]:
    """A number and its unit; (0, "") for what is no such text."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+|%)\s*", value) if isinstance(value, str) else None
    return (float(found[1]), found[2]) if found else (0.0, "")


def _example(each: Field[Any]) -> str:
    return str(list(each.default)) if isinstance(each.default, tuple) and each.default else '["..."]'


_KEY_BYTES = 32


def _check(config: Config) -> None:
    """What no single key can tell. Raises ConfigError."""
    if not is_valid_server_name(config.server_name):
        raise ConfigError(f'"server_name" must be a name such as "example.org", not {config.server_name!r}.')
    if config.rooms.default_version not in ROOM_VERSIONS:
        raise ConfigError(f'"rooms.default_version" must be one of {", ".join(ROOM_VERSIONS)}.')
    try:
        check_localpart(config.administration.account, config.server_name)
    except InvalidUsername as error:
        raise ConfigError(f'"administration.account" must be the name of an account: {error.message}') from error
    if not config.listen:
        raise ConfigError('"listen" is empty: add a [[listen]] section with an address.')
    for index, listener in enumerate(config.listen):
        parse_address(listener.address, f"listen[{index}].address")
        if bool(listener.tls_certificate) != bool(listener.tls_key):
            raise ConfigError(f'"listen[{index}]" needs both tls_certificate and tls_key, or neither.')
        for proxy in listener.trusted_proxies:
            _check_network(proxy, f"listen[{index}].trusted_proxies")
    for each in fields(config.rate_limits):
        bucket = getattr(config.rate_limits, each.name)
        if isinstance(bucket, Bucket) and (bucket.per_second <= 0 or bucket.burst < 1):
            raise ConfigError(f'"rate_limits.{each.name}" needs a positive per_second and a burst of 1 or more.')
    if config.federation.public_address and not is_valid_server_name(config.federation.public_address):
        raise ConfigError('"federation.public_address" must be a host such as "matrix.example.org:443".')
    if not 1 <= config.federation.retry_pause <= 3600:
        raise ConfigError('"federation.retry_pause" must be from "1s" to "1h".')
    for name in config.federation.trusted_key_servers:
        if not is_valid_server_name(name):
            raise ConfigError(f'"federation.trusted_key_servers" must hold server names, not {name!r}.')
    for server in config.outgoing.dns_servers:
        _check_dns_server(server)
    if config.passwords.memory < 1024**2 or config.passwords.iterations < 1:
        raise ConfigError('"passwords" needs at least "1 MiB" of memory and 1 iteration.')
    if config.smtp.host and not config.public_url:
        raise ConfigError('"smtp" needs "public_url": mails have links to this server in them.')
    if config.registration.email == "required" and not config.smtp.host:
        raise ConfigError('"registration.email" is "required", so mails must be sent: set "smtp.host".')
    if config.sessions.access_token_lifetime < 1:
        raise ConfigError('"sessions.access_token_lifetime" must be at least "1s".')
    if config.policy_server.public_key and not _is_key(config.policy_server.public_key):
        raise ConfigError('"policy_server.public_key" must be 32 bytes in unpadded Base64.')


def _is_key(text: str) -> bool:
    try:
        return len(base64.decode(text)) == _KEY_BYTES
    except ValueError:
        return False


def _check_dns_server(server: str) -> None:
    host, _, port = server.rpartition(":") if re.search(r"\]:\d+$|^[^:]+:\d+$", server) else (server, "", "53")
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
        valid = 0 < int(port) < 65536
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f'"outgoing.dns_servers" must hold addresses such as "192.168.0.1", not {server!r}.')


def _check_network(network: str, key: str) -> None:
    try:
        ip_network(network, strict=False)
    except ValueError as error:
        raise ConfigError(f'"{key}" must hold addresses or networks such as "10.0.0.0/8", not {network!r}.') from error


def parse_address(address: str, key: str = "address") -> tuple[str, int]:
    """Host and port of ``"127.0.0.1:8008"`` or ``"[::]:8448"``. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f'"{key}" has an IPv6 address without brackets: write "[{host}]:{port}".')
    if not host or not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > 65535:
        raise ConfigError(f'"{key}" must be a host and a port such as "127.0.0.1:8008", not {address!r}.')
    return host, int(port)
