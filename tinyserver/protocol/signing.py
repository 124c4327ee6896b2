"""Signing keys, and signing JSON objects with them.

spec: appendices#signing-json
"""

import re
from collections.abc import Mapping
from typing import Any

from nacl import bindings
from nacl.exceptions import CryptoError

from tinyserver.protocol import base64, canonical_json

_KEY_VERSION = re.compile(r"[A-Za-z0-9_]{1,240}")
_SEED_BYTES = 32
_SIGNATURE_BYTES = 64


class SignatureError(Exception):
    """A signature is missing, malformed or wrong."""


class SigningKey:
    """The private half of a server's Ed25519 key.

    :param version: the name of the key among the server's keys, of letters, digits and ``_``.
    :param seed: its 32 secret bytes.
    :raises ValueError: either is malformed.
    """

    __slots__ = ("_secret", "_seed", "key_id", "verify_key_base64", "version")

    def __init__(self, version: str, seed: bytes) -> None:
        if _KEY_VERSION.fullmatch(version) is None:
            raise ValueError("the version of a signing key must consist of letters, digits and _")
        if len(seed) != _SEED_BYTES:
            raise ValueError("the seed of a signing key must have 32 bytes")
        public, secret = bindings.crypto_sign_seed_keypair(seed)
        self._seed = seed
        self._secret = secret
        self.version = version
        self.key_id = f"ed25519:{version}"
        self.verify_key_base64 = base64.encode(public)

    def sign(self, message: bytes) -> str:
        """The signature of the message in unpadded Base64."""
        return base64.encode(bindings.crypto_sign(message, self._secret)[:_SIGNATURE_BYTES])

    def format(self) -> str:
        """The text of a key file: one line ``ed25519 version seed``."""
        return f"ed25519 {self.version} {base64.encode(self._seed)}\n"

    def __repr__(self) -> str:
        return f"<SigningKey {self.key_id}>"


def parse_signing_key_file(text: str) -> SigningKey:
    """The key in the text of a key file, as :meth:`SigningKey.format` writes it; other homeservers use the same form.

    :raises ValueError: the text is not one such line.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) != 1 or len(lines[0]) != 3 or lines[0][0] != "ed25519":
        raise ValueError('a signing key file must hold one line: "ed25519 VERSION SEED"')
    _, version, seed = lines[0]
    return SigningKey(version, base64.decode(seed))


def format_signing_key_file(key: SigningKey) -> str:
    """The text of a key file that holds this key."""
    return key.format()


def signed_bytes(obj: Mapping[str, Any]) -> bytes:
    """What a signature of the object covers: its canonical JSON without ``signatures`` and ``unsigned``.

    Numbers which canonical JSON forbids are written as encoders always did, because objects that hold events of old
    rooms have to be signed as well.

    :raises CanonicalJsonError: the object has no JSON form.
    """
    return canonical_json.encode_lenient({k: v for k, v in obj.items() if k != "signatures" and k != "unsigned"})


def sign_json(obj: Mapping[str, Any], server_name: str, key: SigningKey) -> dict[str, Any]:
    """A copy of the object with the server's signature added to those that it has.

    :raises CanonicalJsonError: the object has no JSON form.
    """
    return with_signature(obj, server_name, key.key_id, key.sign(signed_bytes(obj)))


def with_signature(obj: Mapping[str, Any], server_name: str, key_id: str, signature: str) -> dict[str, Any]:
    """A copy of the object with this signature added to those that it has."""
    signatures = obj.get("signatures")
    others = signatures if isinstance(signatures, dict) else {}
    of_server = others.get(server_name)
    own = of_server if isinstance(of_server, dict) else {}
    return {**obj, "signatures": {**others, server_name: {**own, key_id: signature}}}


def signature_of(obj: Mapping[str, Any], server_name: str, key_id: str) -> bytes:
    """The bytes of a signature that the object carries.

    :raises SignatureError: it carries none by this server and key, or not one in Base64.
    """
    signatures = obj.get("signatures")
    of_server = signatures.get(server_name) if isinstance(signatures, dict) else None
    signature = of_server.get(key_id) if isinstance(of_server, dict) else None
    if not isinstance(signature, str):
        raise SignatureError(f"no signature by {server_name} with {key_id}")
    try:
        return base64.decode(signature)
    except ValueError as error:
        raise SignatureError(f"the signature by {server_name} with {key_id} is malformed") from error


def verify_json(obj: Mapping[str, Any], server_name: str, key_id: str, verify_key_base64: str) -> None:
    """Check the signature of this server and key on an object.

    :param verify_key_base64: the public half of the key.
    :raises SignatureError: it is missing, malformed or wrong.
    """
    signature = signature_of(obj, server_name, key_id)
    try:
        message = signed_bytes(obj)
    except canonical_json.CanonicalJsonError as error:
        raise SignatureError("the object has no canonical JSON form") from error
    verify_bytes(message, signature, verify_key_base64)


def verify_bytes(message: bytes, signature: bytes, verify_key_base64: str) -> None:
    """Check an Ed25519 signature.

    :raises SignatureError: the signature or the key is malformed, or the signature is wrong.
    """
    try:
        verify_key = base64.decode(verify_key_base64)
    except ValueError as error:
        raise SignatureError("the verification key is malformed") from error
    if len(signature) != _SIGNATURE_BYTES or len(verify_key) != bindings.crypto_sign_PUBLICKEYBYTES:
        raise SignatureError("the signature or the verification key has the wrong length")
    try:
        bindings.crypto_sign_open(signature + message, verify_key)
    except CryptoError as error:
        raise SignatureError("the signature is wrong") from error
