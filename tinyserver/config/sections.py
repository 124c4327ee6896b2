"""Every key of the configuration.

The dataclasses are the only list of keys. What each key means stands in its ``setting``; the commented file that
``tinyserver init`` writes and ``docs/configuration.md`` are made from it (:mod:`tinyserver.config.text`).
"""

# ruff: noqa: RUF009 (``setting`` returns a dataclass field)

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tinyserver.config.values import Bytes, Portion, Seconds, SizeOrShare, setting


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
class Identity:
    """Identity servers: they know who is behind a mail address, if people have told them."""

    servers: tuple[str, ...] = setting(
        'Those that people may use through this server, by host or host:port: "id.example.org"; "*": all. Empty: none.',
        (),
    )
    base_url: str = setting("The URL of the one that clients use unless told otherwise. Empty: none.", "")


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
    identity: Identity = setting("", Identity())
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
