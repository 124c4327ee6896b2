"""The keys of devices: uploading them, asking for those of others, claiming one-time keys.

spec: client-server-api#key-distribution
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from tinyserver.accounts.requester import Requester
from tinyserver.encryption.key_objects import (
    check_device_keys,
    check_one_time_keys,
    encode_key,
    is_same_key,
    public_key_of,
    shown_keys,
    with_signatures_of,
)
from tinyserver.encryption.published import device_list
from tinyserver.encryption.remote import RemoteDevices, RemoteKeys, ask_servers, by_server
from tinyserver.protocol.errors import Forbidden, InvalidParam
from tinyserver.storage import accounts, cross_signing, device_keys, device_lists, devices, names, one_time_keys
from tinyserver.storage.cross_signing import Usage
from tinyserver.storage.database import Database
from tinyserver.storage.one_time_keys import KeyState, PublicKey
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

MAX_ONE_TIME_KEYS = 1000
"""How many unclaimed one-time keys are kept for a device."""
ALGORITHM = "signed_curve25519"
USERS_AT_ONCE = 100
"""Of how many users the keys are read in one go."""
CLAIMS_AT_ONCE = 1000
"""How many keys are claimed in one go: others can write in between."""


@dataclass(frozen=True, slots=True)
class KeyUpload:
    """What a device uploads; None: not in this upload."""

    device_keys: Mapping[str, Any] | None = None
    one_time_keys: Mapping[str, Any] | None = None
    fallback_keys: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CheckedUpload:
    """An upload whose form is right."""

    device_keys: dict[str, Any] | None
    one_time_keys: Sequence[PublicKey]
    fallback_keys: Sequence[PublicKey]


def check_upload(upload: KeyUpload, user_id: str, device_id: str) -> CheckedUpload:
    """Check everything that can be checked without the store. Raises InvalidParam, BadJson, InvalidSignature."""
    return CheckedUpload(
        None if upload.device_keys is None else check_device_keys(upload.device_keys, user_id, device_id),
        check_one_time_keys(upload.one_time_keys or {}, user_id, device_id, fallback=False),
        check_one_time_keys(upload.fallback_keys or {}, user_id, device_id, fallback=True),
    )


def store_upload(tx: WriteTransaction, user: int, device: int, device_id: str, upload: CheckedUpload) -> None:
    """Store the keys of a device, inside a step. What is there already is no news.

    Raises:
        Forbidden: the device is called like a cross-signing key of its user.
        InvalidParam: a one-time key is there already with another value, or there are too many.
    """
    if upload.device_keys is not None:
        _store_device_keys(tx, user, device, device_id, upload.device_keys)
    if upload.one_time_keys:
        _store_one_time_keys(tx, device, upload.one_time_keys)
    for key in upload.fallback_keys:
        one_time_keys.put_fallback(tx, device, key)
    if upload.one_time_keys or upload.fallback_keys:
        tx.changed(Topic.USER, user)


def _store_device_keys(tx: WriteTransaction, user: int, device: int, device_id: str, keys: dict[str, Any]) -> None:
    if cross_signing.is_key_id(tx, user, device_id):
        raise Forbidden("One of your cross-signing keys has the same name as this device.")
    before = device_keys.get(tx, device)
    if before is not None:
        known = orjson.loads(before)
        if is_same_key(known, keys):
            keys = with_signatures_of(keys, known)
        elif known["keys"] != keys["keys"]:
            one_time_keys.remove(tx, device)  # signed by a key that nobody will believe any more
    encoded = encode_key(keys)
    if encoded != before:
        device_keys.put(tx, device, encoded)
        device_lists.note_change(tx, user, [device_id])


def _store_one_time_keys(tx: WriteTransaction, device: int, keys: Sequence[PublicKey]) -> None:
    known = one_time_keys.of_device(tx, device)
    new = []
    for key in keys:
        stored = known.get((key.algorithm, key.key_id))
        if stored is None:
            if not one_time_keys.was_claimed(tx, device, key.algorithm, key.key_id):
                new.append(key)
        elif stored != key.key:
            raise InvalidParam(f"There is another one-time key called '{key.algorithm}:{key.key_id}' already.")
    if len(known) + len(new) > MAX_ONE_TIME_KEYS:
        raise InvalidParam(f"No more than {MAX_ONE_TIME_KEYS} one-time keys are kept for a device.")
    if new:
        one_time_keys.add(tx, device, new)


def counts_of(state: KeyState) -> dict[str, int]:
    """How many one-time keys are left, by algorithm; that of Olm is always mentioned."""
    return {ALGORITHM: 0, **state.counts}


@dataclass(slots=True)
class QueriedKeys:
    """The answer to a query: JSON objects by user (and device) ID, and errors by server name."""

    device_keys: dict[str, dict[str, Any]]
    master_keys: dict[str, Any]
    self_signing_keys: dict[str, Any]
    user_signing_keys: dict[str, Any]
    failures: dict[str, Any]


class DeviceKeys:
    """Keeps and hands out the keys of devices.

    Args:
        remote: the keys of users of other servers.
        server_name: this server.
    """

    def __init__(self, db: Database, remote: RemoteDevices, server_name: str) -> None:
        self._db = db
        self._remote = remote
        self._server_name = server_name

    async def upload(self, requester: Requester, upload: KeyUpload) -> dict[str, int]:
        """Publish keys of the requester's device.

        Returns:
            How many one-time keys are left, by algorithm.

        Raises:
            InvalidParam, BadJson, InvalidSignature, Forbidden.
        """
        user, device, device_id = requester.user_nid, requester.device_nid, requester.device_id
        if device is None or device_id is None:
            raise InvalidParam("Keys belong to a device; this access token has none.")
        checked = check_upload(upload, requester.user_id, device_id)
        if checked.device_keys is None and not checked.one_time_keys and not checked.fallback_keys:
            return counts_of(self._db.glance(lambda tx: one_time_keys.state(tx, device)))

        def step(tx: WriteTransaction) -> dict[str, int]:
            if devices.get(tx, device) is None:
                raise Forbidden("This device was deleted.")
            store_upload(tx, user, device, device_id, checked)
            return counts_of(one_time_keys.state(tx, device))

        return await self._db.write(step)

    async def query(self, requester: Requester, wanted: Mapping[str, Sequence[str]], timeout: float) -> QueriedKeys:
        """The keys of users.

        Args:
            wanted: device IDs by user ID; none: all devices.
            timeout: seconds for which other servers are waited for.

        Raises:
            InvalidParam: a user ID is none.
        """
        servers = by_server(wanted)
        local = servers.pop(self._server_name, {})
        answer = await self.of_local_users(local, requester)

        async def ask(server: str, users: Mapping[str, Sequence[str]], timeout: float) -> RemoteKeys:
            keys = await self._remote.query(server, users, timeout)
            if keys.error is not None:
                answer.failures[server] = keys.error.body()
            return keys

        remote, failures = await ask_servers(servers, ask, timeout)
        answer.failures.update(failures)
        if remote:
            signatures = self._db.glance(lambda tx: _signatures_by(tx, requester.user_nid))
            for keys in remote:
                _add_remote(answer, keys, signatures, requester.user_id)
        return answer

    async def of_local_users(self, wanted: Mapping[str, Sequence[str]], requester: Requester | None) -> QueriedKeys:
        """The keys of users of this server, as the requester may see them (None: another server)."""
        answer = QueriedKeys({}, {}, {}, {}, {})
        user_ids = list(wanted)
        few = len(user_ids) <= 2
        for start in range(0, len(user_ids), USERS_AT_ONCE):
            part = {user_id: wanted[user_id] for user_id in user_ids[start : start + USERS_AT_ONCE]}

            def step(tx: ReadTransaction, part: dict[str, Sequence[str]] = part) -> None:
                _read_local(tx, part, requester, answer)

            if few:
                self._db.glance(step)
            else:
                await self._db.read(step)
        return answer

    async def list_of_local_user(self, user_id: str) -> dict[str, Any] | None:
        """All devices of a user with keys, as other servers get them; None: there is no such user here."""
        return await self._db.read(lambda tx: device_list(tx, user_id))

    async def claim(
        self, wanted: Mapping[str, Mapping[str, str]], timeout: float
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Take one key for each of some devices; no one-time key is ever given out twice.

        Args:
            wanted: algorithms by user and device ID.
            timeout: seconds for which other servers are waited for.

        Returns:
            Keys by user ID, device ID and key name; and errors by server name.
        """
        servers = by_server(wanted)
        local = servers.pop(self._server_name, {})
        claimed = await self.claim_of_local_users(local)
        remote, failures = await ask_servers(servers, self._remote.claim, timeout)
        for answer in remote:
            for user_id, of_devices in answer.items():
                claimed.setdefault(user_id, {}).update(of_devices)
        return claimed, failures

    async def claim_of_local_users(self, wanted: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
        """Take one key for each of some devices of this server; devices that have none are left out."""
        claimed: dict[str, dict[str, Any]] = {}
        all_claims = (
            (user_id, device_id, algorithm)
            for user_id, algorithms in wanted.items()
            for device_id, algorithm in algorithms.items()
        )
        while claims := list(islice(all_claims, CLAIMS_AT_ONCE)):

            def step(tx: WriteTransaction, claims: list[tuple[str, str, str]] = claims) -> list[PublicKey | None]:
                return [_claim(tx, *each) for each in claims]

            for (user_id, device_id, _), key in zip(claims, await self._db.write(step), strict=True):
                if key is not None:
                    name = f"{key.algorithm}:{key.key_id}"
                    claimed.setdefault(user_id, {})[device_id] = {name: orjson.Fragment(key.key)}
        return claimed


def _claim(tx: WriteTransaction, user_id: str, device_id: str, algorithm: str) -> PublicKey | None:
    user = names.find(tx, user_id)
    device = None if user is None else devices.find(tx, user, device_id)
    if user is None or device is None:
        return None
    position = tx.next_position()
    key = one_time_keys.claim(tx, device.nid, algorithm, position)
    if key is not None:
        tx.changed(Topic.USER, user, position)
        if position % one_time_keys.REMEMBERED_CLAIMS == 0:
            one_time_keys.forget_old_claims(tx, device.nid, algorithm)
    return key


def _read_local(
    tx: ReadTransaction, wanted: Mapping[str, Sequence[str]], requester: Requester | None, answer: QueriedKeys
) -> None:
    users: dict[int, str] = {}
    for user_id in wanted:
        user = names.find(tx, user_id)
        if user is not None and accounts.get(tx, user) is not None:
            users[user] = user_id
            answer.device_keys[user_id] = {}
    for row in device_keys.of_users(tx, users):
        user_id = users[row.user]
        chosen = wanted[user_id]
        if not chosen or row.device_id in chosen:
            answer.device_keys[user_id][row.device_id] = orjson.Fragment(shown_keys(row.keys, row.display_name))
    own = None if requester is None else requester.user_nid
    signatures = {} if own is None else _signatures_by(tx, own)
    for user, usage, keys in cross_signing.of_users(tx, users):
        user_id = users[user]
        if usage is Usage.SELF_SIGNING:
            answer.self_signing_keys[user_id] = orjson.Fragment(keys)
        elif usage is Usage.MASTER:
            answer.master_keys[user_id] = orjson.Fragment(keys)
            if requester is not None and user_id in signatures:
                signed = _with_signature(orjson.loads(keys), signatures[user_id], requester.user_id)
                answer.master_keys[user_id] = signed
        elif user == own:
            answer.user_signing_keys[user_id] = orjson.Fragment(keys)


def _signatures_by(tx: ReadTransaction, signer: int) -> dict[str, cross_signing.UserSignature]:
    """What a user signed on the master keys of others, by their user IDs."""
    signatures = cross_signing.signatures_of(tx, signer)
    texts = names.texts(tx, signatures)
    return {texts[user]: signature for user, signature in signatures.items()}


def _with_signature(
    master_key: dict[str, Any], signature: cross_signing.UserSignature, signer_id: str
) -> dict[str, Any]:
    if public_key_of(master_key) != signature.signed_key:
        return master_key
    signatures = {"signatures": {signer_id: {signature.key_id: signature.signature}}}
    return with_signatures_of(master_key, signatures)


def _add_remote(
    answer: QueriedKeys, keys: RemoteKeys, signatures: Mapping[str, cross_signing.UserSignature], requester_id: str
) -> None:
    answer.device_keys.update(keys.device_keys)
    answer.self_signing_keys.update(keys.self_signing_keys)
    for user_id, master_key in keys.master_keys.items():
        is_signed = user_id in signatures
        signed = _with_signature(master_key, signatures[user_id], requester_id) if is_signed else master_key
        answer.master_keys[user_id] = signed
