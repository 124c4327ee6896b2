"""The keys of a client's device and user, as far as a server sees them: made, signed and uploaded over HTTP."""

from __future__ import annotations

import base64 as encoding
import copy
from typing import Any

import canonicaljson
from nacl.encoding import RawEncoder
from nacl.signing import SigningKey

from .client import Client, Json

ALGORITHMS = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]


def base64(data: bytes) -> str:
    return encoding.b64encode(data).decode().rstrip("=")


def public(key: SigningKey) -> str:
    """The public half in unpadded Base64."""
    return base64(bytes(key.verify_key))


def signed(value: Json, user_id: str, key_id: str, key: SigningKey) -> Json:
    """A copy of the object with one more signature."""
    value = copy.deepcopy(value)
    content = {name: part for name, part in value.items() if name not in ("signatures", "unsigned")}
    signature = key.sign(canonicaljson.encode_canonical_json(content), encoder=RawEncoder).signature
    value.setdefault("signatures", {}).setdefault(user_id, {})[f"ed25519:{key_id}"] = base64(signature)
    return value


class CryptoDevice:
    """The keys of one device."""

    def __init__(self, client: Client, device_id: str | None = None) -> None:
        self.client = client
        self.user_id = client.user_id
        self.device_id = device_id or client.device_id
        self.key = SigningKey.generate()

    def device_keys(self, **more: Json) -> Json:
        curve = public(SigningKey.generate())
        keys = {f"ed25519:{self.device_id}": public(self.key), f"curve25519:{self.device_id}": curve}
        value = {"user_id": self.user_id, "device_id": self.device_id, "algorithms": ALGORITHMS, "keys": keys, **more}
        return self.sign(value)

    def sign(self, value: Json) -> Json:
        return signed(value, self.user_id, self.device_id, self.key)

    def one_time_keys(self, first: int, count: int) -> dict[str, Json]:
        """Signed keys with IDs from a number on; the key itself is the number, so that tests see which one they got."""
        return {f"signed_curve25519:K{n:04}": self.sign({"key": f"key{n}"}) for n in range(first, first + count)}

    def fallback_key(self, number: int) -> dict[str, Json]:
        return {f"signed_curve25519:F{number}": self.sign({"key": f"fallback{number}", "fallback": True})}

    async def upload(self, **body: Any) -> Json:
        """`POST /keys/upload`; the counts of one-time keys."""
        return (await self.client.request("POST", "/keys/upload", body))["one_time_key_counts"]

    async def start(self, one_time_keys: int = 0) -> Json:
        """Upload identity keys and some one-time keys; the identity keys."""
        keys = self.device_keys()
        await self.upload(device_keys=keys, one_time_keys=self.one_time_keys(0, one_time_keys))
        return keys


class CrossSigner:
    """The three cross-signing keys of a user."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.master, self.self_signing, self.user_signing = (SigningKey.generate() for _ in range(3))

    def object(self, usage: str, key: SigningKey, *, by_master: bool = True) -> Json:
        value = {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{public(key)}": public(key)}}
        return signed(value, self.user_id, public(self.master), self.master) if by_master else value

    def body(self) -> dict[str, Json]:
        """What is uploaded to `/keys/device_signing/upload`."""
        return {
            "master_key": self.object("master", self.master, by_master=False),
            "self_signing_key": self.object("self_signing", self.self_signing),
            "user_signing_key": self.object("user_signing", self.user_signing),
        }

    def sign_device(self, device_keys: Json) -> Json:
        bare = {**device_keys, "signatures": {}}
        return signed(bare, self.user_id, public(self.self_signing), self.self_signing)

    def sign_user(self, master_key: Json) -> Json:
        bare = {**master_key, "signatures": {}}
        return signed(bare, self.user_id, public(self.user_signing), self.user_signing)


async def query(client: Client, *users: str | Client) -> Json:
    """`POST /keys/query` for all devices of some users."""
    ids = [user if isinstance(user, str) else user.user_id for user in users]
    return await client.request("POST", "/keys/query", {"device_keys": {user_id: [] for user_id in ids}})


async def claim(client: Client, owner: Client, device_id: str | None = None) -> tuple[str, Json] | None:
    """Claim one key of a device: its name and the key, or None."""
    device_id = device_id or owner.device_id
    wanted = {owner.user_id: {device_id: "signed_curve25519"}}
    answer = await client.request("POST", "/keys/claim", {"one_time_keys": wanted})
    assert answer["failures"] == {}
    found = answer["one_time_keys"].get(owner.user_id, {}).get(device_id)
    if found is None:
        return None
    ((name, key),) = found.items()
    return name, key


async def send_to_device(
    client: Client, event_type: str, messages: Json, txn: str | None = None, **expectation: Any
) -> Json:
    """`PUT /sendToDevice`."""
    path = f"/sendToDevice/{event_type}/{txn or client.transaction()}"
    return await client.request("PUT", path, {"messages": messages}, **expectation)


def to_device(answer: Json) -> list[Json]:
    """The to-device messages of a sync answer."""
    events: list[Json] = answer.get("to_device", {}).get("events", [])
    return events


def list_changes(answer: Json) -> tuple[set[str], set[str]]:
    """The users who changed and who left, of a sync answer or of `/keys/changes`."""
    lists = answer.get("device_lists", answer)
    return set(lists.get("changed", ())), set(lists.get("left", ()))
