"""Made-up PDUs that look like those of ordinary rooms: to train the event codec's dictionary and to measure with.

Nothing is taken from real conversations. Text is drawn from a vocabulary that the caller gives, so that a measurement
can use words that the dictionary has never seen.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from typing import Any

Pdu = dict[str, Any]

TRAINING_WORDS = (
    "the to and a of is in it you that I for on we with this have be are not at can but if will so just do what was "
    "there up out from about all now get one like time ok yes no thanks please how see good know today tomorrow when "
    "where who going home work need think want maybe later back here has been they he she my your our me would should "
    "could don't I'm it's that's let's der die und das ist nicht ich du wir es ein zu mit auf den für auch noch aber "
    "ja nein gut morgen heute le la les et est pas je tu nous un une des pour que merci oui el los y que no por "
    "gracias https:// www. .com/ .org :) 😀 👍"
)
MEASURING_WORDS = (
    "lunch kitchen window garden bicycle battery sensor charging doctor appointment tickets station platform seven "
    "half past quarter forgot umbrella raining yesterday weekend birthday cake grandma picks kids school dentist "
    "Schlüssel Abendessen bringst Bahnhof viertel gateau demain voiture llaves mercado tarde really almost finished "
    "parcel arrived neighbour fixed leaking tap spare heating boiler upstairs switch off lights goodnight coming soon"
)


def unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def url_safe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Rooms:
    """Draws PDUs from one seed and vocabulary, in the format of room version 12 or 10."""

    def __init__(self, seed: int, words: str, version: int) -> None:
        self.dice = random.Random(seed)
        self.words = words.split()
        self.version = version
        self.clock = 1_600_000_000_000 + self.dice.randrange(10**11)
        self.new_room()

    def new_room(self) -> None:
        self.servers = [self.server(), self.server()]
        self.users = [f"@{self.letters(3, 10)}:{self.dice.choice(self.servers)}" for _ in range(6)]
        self.room_id = "!" + (
            url_safe(self.bits(32)) if self.version == 12 else f"{self.letters(18, 18, True)}:{self.servers[0]}"
        )
        self.key_ids = {server: f"ed25519:{self.dice.choice(['a_' + self.letters(4, 4, True), 'auto', '1'])}"
                        for server in self.servers}  # fmt: skip
        self.depth = self.dice.randrange(5, 20_000)

    def server(self) -> str:
        """A server name; few are seen by more than one room."""
        if self.dice.random() < 0.1:
            return "matrix.org"
        start = self.dice.choice(("", "", "matrix.", "chat.", "home."))
        return start + self.letters(3, 10) + self.dice.choice((".org", ".com", ".net", ".de", ".fr", ".lan", ".local"))

    def bits(self, size: int) -> bytes:
        return self.dice.randbytes(size)

    def letters(self, low: int, high: int, capitals: bool = False) -> str:
        alphabet = "abcdefghijklmnopqrstuvwxyz" + ("ABCDEFGHIJKLMNOPQRSTUVWXYZ" if capitals else "")
        return "".join(self.dice.choices(alphabet, k=self.dice.randint(low, high)))

    def event_id(self) -> str:
        return "$" + url_safe(self.bits(32))

    def text(self, length: int = 60) -> str:
        body = self.dice.choice(self.words).capitalize()
        length = self.dice.randint(length // 2, length * 3 // 2)
        while len(body) < length:
            body += self.dice.choice((" ", " ", " ", " ", ", ", ". ", "? ")) + self.dice.choice(self.words)
        return body

    def uri(self) -> str:
        return f"mxc://{self.dice.choice(self.servers)}/{self.letters(24, 24, True)}"

    def pdu(self, event_type: str, content: Pdu, state_key: str | None = None, **more: Any) -> Pdu:
        sender = self.dice.choice(self.users)
        server = sender.split(":", 1)[1]
        self.depth += 1
        self.clock += self.dice.randrange(1_000, 600_000)
        pdu = {
            "auth_events": [self.event_id() for _ in range((2 if self.version == 12 else 3) + (state_key is not None))],
            "content": content,
            "depth": self.depth,
            "hashes": {"sha256": unpadded(self.bits(32))},
            "origin_server_ts": self.clock,
            "prev_events": [self.event_id() for _ in range(1 if self.dice.random() < 0.95 else 2)],
            "room_id": self.room_id,
            "sender": sender,
            "signatures": {server: {self.key_ids[server]: unpadded(self.bits(64))}},
            "type": event_type,
        }
        if state_key is not None:
            pdu["state_key"] = state_key
        if self.dice.random() < 0.05:
            pdu["unsigned"] = {"age_ts": self.clock}
        return pdu | more

    def relation(self) -> Pdu:
        choice = self.dice.random()
        if choice < 0.6:
            return {}
        if choice < 0.85:
            return {"m.relates_to": {"m.in_reply_to": {"event_id": self.event_id()}}}
        return {
            "m.relates_to": {
                "event_id": self.event_id(),
                "is_falling_back": True,
                "m.in_reply_to": {"event_id": self.event_id()},
                "rel_type": "m.thread",
            }
        }

    def mentions(self) -> Pdu:
        choice = self.dice.random()
        if choice < 0.3:
            return {}
        return {"m.mentions": {"user_ids": [self.dice.choice(self.users)]} if choice > 0.8 else {}}


def message(rooms: Rooms) -> Pdu:
    """A plain message of about 60 characters."""
    return rooms.pdu("m.room.message", {"body": rooms.text(), "msgtype": "m.text"} | rooms.mentions())


def rich_message(rooms: Rooms) -> Pdu:
    """A reply, a thread's message, an emote, a notice or formatted text."""
    body = rooms.text()
    content = {"body": body, "msgtype": rooms.dice.choice(("m.text", "m.notice", "m.emote"))}
    if rooms.dice.random() < 0.5:
        tag = rooms.dice.choice(("strong", "em", "p", "code", "blockquote", "li", 'a href=\\"https://matrix.to/#/'))
        content |= {"format": "org.matrix.custom.html", "formatted_body": f"<{tag}>{body}</{tag.split()[0]}><br/>"}
    return rooms.pdu("m.room.message", content | rooms.relation() | rooms.mentions())


def edit(rooms: Rooms) -> Pdu:
    """The replacement of a message."""
    body = rooms.text()
    content = {
        "body": f"* {body}",
        "m.mentions": {},
        "m.new_content": {"body": body, "m.mentions": {}, "msgtype": "m.text"},
        "m.relates_to": {"event_id": rooms.event_id(), "rel_type": "m.replace"},
        "msgtype": "m.text",
    }
    return rooms.pdu("m.room.message", content)


def encrypted(rooms: Rooms) -> Pdu:
    """A Megolm message with about 400 characters of ciphertext."""
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": unpadded(rooms.bits(rooms.dice.randrange(260, 340))),
        "device_id": rooms.letters(10, 10, True).upper(),
        "sender_key": unpadded(rooms.bits(32)),
        "session_id": unpadded(rooms.bits(32)),
    }
    return rooms.pdu("m.room.encrypted", content | rooms.relation())


def member(rooms: Rooms) -> Pdu:
    """A membership with profile."""
    content: Pdu = {"displayname": rooms.letters(4, 12).capitalize(), "membership": "join"}
    if rooms.dice.random() < 0.6:
        content["avatar_url"] = rooms.uri()
    if rooms.dice.random() < 0.3:
        content = {"membership": rooms.dice.choice(("invite", "leave", "ban", "knock"))}
    if rooms.dice.random() < 0.1:
        content |= {"reason": rooms.text(30)}
    if rooms.dice.random() < 0.1:
        content |= {"join_authorised_via_users_server": rooms.dice.choice(rooms.users), "is_direct": True}
    return rooms.pdu("m.room.member", content, rooms.dice.choice(rooms.users))


def reaction(rooms: Rooms) -> Pdu:
    """An annotation."""
    relation = {"event_id": rooms.event_id(), "key": rooms.dice.choice("👍❤😂🎉👀🙏"), "rel_type": "m.annotation"}
    return rooms.pdu("m.reaction", {"m.relates_to": relation})


def redaction(rooms: Rooms) -> Pdu:
    """A redaction, `redacts` where the room version has it."""
    redacts = {"redacts": rooms.event_id()}
    if rooms.version == 12:
        return rooms.pdu("m.room.redaction", redacts)
    return rooms.pdu("m.room.redaction", {"reason": rooms.text(20)} if rooms.dice.random() < 0.3 else {}, **redacts)


def media(rooms: Rooms) -> Pdu:
    """An image, file, video or voice message; half of them encrypted."""
    kind, mimetype = rooms.dice.choice(
        (("m.image", "image/jpeg"), ("m.image", "image/png"), ("m.file", "application/pdf"), ("m.video", "video/mp4"),
         ("m.audio", "audio/ogg"))
    )  # fmt: skip
    info: Pdu = {"mimetype": mimetype, "size": rooms.dice.randrange(10**4, 10**7)}
    if kind in ("m.image", "m.video"):
        info |= {"h": rooms.dice.randrange(200, 4000), "w": rooms.dice.randrange(200, 4000),
                 "xyz.amorgan.blurhash": rooms.letters(20, 30, True), "thumbnail_url": rooms.uri(),
                 "thumbnail_info": {"h": 600, "mimetype": mimetype, "size": 51234, "w": 800}}  # fmt: skip
    if kind in ("m.video", "m.audio"):
        info["duration"] = rooms.dice.randrange(1_000, 100_000)
    name = f"{rooms.letters(4, 12)}.{mimetype.split('/')[1]}"
    content: Pdu = {"body": name, "filename": name, "info": info, "msgtype": kind}
    if rooms.dice.random() < 0.5:
        content["url"] = rooms.uri()
    else:
        content["file"] = {
            "hashes": {"sha256": unpadded(rooms.bits(32))},
            "iv": unpadded(rooms.bits(8) + bytes(8)),
            "key": {"alg": "A256CTR", "ext": True, "k": url_safe(rooms.bits(32)), "key_ops": ["encrypt", "decrypt"],
                    "kty": "oct"},
            "url": rooms.uri(),
            "v": "v2",
        }  # fmt: skip
    return rooms.pdu("m.room.message", content | rooms.relation() | rooms.mentions())


def room_state(rooms: Rooms) -> Pdu:
    """One of the state events that make a room."""
    levels = {"m.room.avatar": 50, "m.room.canonical_alias": 50, "m.room.encryption": 100, "m.room.history_visibility":
              100, "m.room.name": 50, "m.room.power_levels": 100, "m.room.server_acl": 100, "m.room.tombstone": 100,
              "m.room.topic": 50, "m.space.child": 50, "org.matrix.msc3401.call.member": 0}  # fmt: skip
    power: Pdu = {"ban": 50, "events": levels, "events_default": 0, "historical": 100, "invite": 0, "kick": 50,
                  "notifications": {"room": 50}, "redact": 50, "state_default": 50,
                  "users": dict.fromkeys(rooms.users[:2], 100), "users_default": 0}  # fmt: skip
    server, user = rooms.servers[0], rooms.users[0]
    alias = f"#{rooms.letters(4, 10)}:{server}"
    choices: list[tuple[str, Pdu, str]] = [
        ("m.room.create", {"room_version": str(rooms.version), "creator": user}, ""),
        ("m.room.create", {"room_version": "12", "type": "m.space", "additional_creators": [user]}, ""),
        ("m.room.create", {"predecessor": {"room_id": rooms.room_id}, "room_version": "12", "m.federate": False}, ""),
        ("m.room.power_levels", power, ""),
        ("m.room.join_rules", {"join_rule": rooms.dice.choice(("invite", "public", "knock"))}, ""),
        ("m.room.join_rules", {"allow": [{"room_id": rooms.room_id, "type": "m.room_membership"}],
                               "join_rule": "restricted"}, ""),
        ("m.room.history_visibility", {"history_visibility": rooms.dice.choice(
            ("shared", "invited", "joined", "world_readable"))}, ""),
        ("m.room.guest_access", {"guest_access": rooms.dice.choice(("can_join", "forbidden"))}, ""),
        ("m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_ms": 604800000,
                               "rotation_period_msgs": 100}, ""),
        ("m.room.name", {"name": rooms.text(20)}, ""),
        ("m.room.topic", {"m.topic": {"m.text": [{"body": "", "mimetype": "text/plain"}]}, "topic": rooms.text()}, ""),
        ("m.room.avatar", {"info": {"h": 800, "mimetype": "image/png", "size": 47, "w": 800}, "url": rooms.uri()}, ""),
        ("m.room.canonical_alias", {"alias": alias, "alt_aliases": [alias]}, ""),
        ("m.room.server_acl", {"allow": ["*"], "allow_ip_literals": False, "deny": []}, ""),
        ("m.room.pinned_events", {"pinned": [rooms.event_id()]}, ""),
        ("m.room.tombstone", {"body": "This room has been replaced", "replacement_room": rooms.room_id}, ""),
        ("m.room.third_party_invite", {"display_name": rooms.text(8), "key_validity_url": f"https://{server}/isvalid",
                                       "public_key": unpadded(rooms.bits(32)),
                                       "public_keys": [{"public_key": unpadded(rooms.bits(32))}]},
         rooms.letters(20, 20)),
        ("m.space.child", {"order": "a", "suggested": True, "via": rooms.servers}, rooms.room_id),
        ("m.space.parent", {"canonical": True, "via": rooms.servers}, rooms.room_id),
    ]  # fmt: skip
    return rooms.pdu(*rooms.dice.choice(choices))


def call_or_verification(rooms: Rooms) -> Pdu:
    """Signalling of calls, polls, locations and key verification."""
    session = rooms.letters(16, 16, True)
    choices: list[tuple[str, Pdu]] = [
        ("m.call.invite", {"call_id": session, "lifetime": 60000, "offer": {"sdp": "v=0\r\no=- 658", "type": "offer"},
                           "party_id": rooms.letters(8, 8), "version": "1"}),
        ("m.call.hangup", {"call_id": session, "party_id": rooms.letters(8, 8), "reason": "user_hangup",
                           "version": "1"}),
        ("m.call.candidates", {"call_id": session, "party_id": "x", "version": "1", "candidates": [
            {"candidate": "candidate:863018703 1 udp 2122260223 10.0.0.2 43670 typ host", "sdpMLineIndex": 0,
             "sdpMid": "audio"}]}),
        ("m.key.verification.ready", {"from_device": rooms.letters(10, 10).upper(), "methods": ["m.sas.v1",
            "m.qr_code.show.v1", "m.qr_code.scan.v1", "m.reciprocate.v1"],
            "m.relates_to": {"event_id": rooms.event_id(), "rel_type": "m.reference"}}),
        ("m.room.message", {"body": rooms.text(20), "geo_uri": "geo:51.5008,0.1247;u=35", "msgtype": "m.location",
                            "org.matrix.msc3488.location": {"uri": "geo:51.5,0.12"}}),
        ("m.poll.start", {"m.poll.start": {"answers": [{"id": "1", "m.text": rooms.text(9)}], "kind":
            "m.poll.disclosed", "max_selections": 1, "question": {"m.text": rooms.text(20)}}}),
        ("m.sticker", {"body": rooms.text(10), "info": {"h": 256, "mimetype": "image/png", "size": 73602, "w": 256},
                       "url": rooms.uri()}),
    ]  # fmt: skip
    return rooms.pdu(*rooms.dice.choice(choices))


KINDS: dict[str, tuple[Callable[[Rooms], Pdu], int]] = {
    "message": (message, 30),
    "rich message": (rich_message, 14),
    "edit": (edit, 4),
    "encrypted": (encrypted, 16),
    "member": (member, 12),
    "reaction": (reaction, 6),
    "redaction": (redaction, 2),
    "media": (media, 6),
    "room state": (room_state, 8),
    "call, poll, verification": (call_or_verification, 3),
}


def events(seed: int, words: str, count: int) -> Iterator[Pdu]:
    """`count` PDUs of all kinds, mixed as in ordinary rooms, half of room version 12 and half of version 10."""
    dice = random.Random(seed)
    rooms = [Rooms(seed + version, words, version) for version in (10, 12)]
    makers = [maker for maker, _ in KINDS.values()]
    weights = [weight for _, weight in KINDS.values()]
    for n in range(count):
        room = rooms[n % 2]
        if dice.random() < 0.1:
            room.new_room()
        yield dice.choices(makers, weights)[0](room)
