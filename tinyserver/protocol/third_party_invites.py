"""The signature which turns a third-party invite (to an e-mail address, say) into the invitation of a user.

spec: client-server-api#third-party-invites, rooms/v12#authorisation-rules (rule 5.4.1)
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from tinyserver.protocol.canonical_json import CanonicalJsonError
from tinyserver.protocol.signing import SignatureError, signature_of, signed_bytes, verify_bytes

MAX_ATTEMPTS: Final = 256
"""Pairs of signature and public key that are tried. Honest events have a handful; an event of 64 KiB stuffed with both
could demand half a million checks, that is, half a minute."""


def check_third_party_invite(signed: Mapping[str, Any], invite: Mapping[str, Any]) -> bool:
    """Whether any signature in ``signed`` was made with any public key of the invite.

    :param signed: ``content.third_party_invite.signed`` of the ``m.room.member`` event.
    :param invite: the content of the ``m.room.third_party_invite`` event whose state key is ``signed.token``.
    """
    return next(_signing_keys(signed, invite), None) is not None


def signing_keys(signed: Mapping[str, Any], invite: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The public keys of the invite with which signatures in ``signed`` were made, each with the URL that says whether
    the key is still valid (None: it always is).

    Parameters as for :func:`check_third_party_invite`.
    """
    urls = dict(_validity_urls(invite))
    return [(key, urls.get(key)) for key in dict.fromkeys(_signing_keys(signed, invite))]


def _signing_keys(signed: Mapping[str, Any], invite: Mapping[str, Any]) -> Iterator[str]:
    try:
        message = signed_bytes(signed)
    except CanonicalJsonError:
        return
    keys = tuple(dict.fromkeys(_public_keys(invite)))
    attempts = ((signature, key) for signature in _signatures(signed) for key in keys)
    for signature, key in islice(attempts, MAX_ATTEMPTS):
        if _is_made_with(key, signature, message):
            yield key


def _is_made_with(key: str, signature: bytes, message: bytes) -> bool:
    try:
        verify_bytes(message, signature, key)
    except SignatureError:
        return False
    return True


def _public_keys(invite: Mapping[str, Any]) -> Iterator[str]:
    key = invite.get("public_key")
    if isinstance(key, str):
        yield key
    more = invite.get("public_keys")
    for entry in more if isinstance(more, list) else ():
        key = entry.get("public_key") if isinstance(entry, dict) else None
        if isinstance(key, str):
            yield key


def _validity_urls(invite: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    more = invite.get("public_keys")
    for entry in (*(more if isinstance(more, list) else ()), invite):
        if isinstance(entry, Mapping):
            key, url = entry.get("public_key"), entry.get("key_validity_url")
            if isinstance(key, str) and isinstance(url, str) and url:
                yield key, url


def _signatures(signed: Mapping[str, Any]) -> Iterator[bytes]:
    """All Ed25519 signatures that are in Base64, whoever made them."""
    signatures = signed.get("signatures")
    for server_name, by_key in signatures.items() if isinstance(signatures, dict) else ():
        for key_id in by_key if isinstance(by_key, dict) else ():
            if key_id.startswith("ed25519:"):
                with suppress(SignatureError):
                    yield signature_of(signed, server_name, key_id)
