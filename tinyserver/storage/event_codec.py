"""How an event is kept on disk: a PDU as a few hundred bytes, without losing anything.

What makes events long is text that every event has and Base64 that no compressor can shrink. So:

1.  The content hash is left out where it is the right one (it follows from the rest). A redacted event keeps its own.
2.  In the JSON, runs of Base64 (event IDs, signatures, ciphertext, ...) become one control character each, which JSON
    never contains, and the decoded bytes go behind the compressed text.
3.  The rest is deflated with a preset dictionary, shipped as `event_codec_<number>.dict` and made by
    `scripts/train-event-dictionary`.

    blob: format byte | deflated text | decoded Base64

The format byte is the dictionary's number and flags. A dictionary never changes once released: a better one gets a new
number, and the old one stays for what was written with it.

Any JSON object can be encoded; what none of these steps fits is just longer. `decode` of a blob gives an equal object,
and needs memory for at most `MAX_JSON_BYTES` of JSON, whatever the blob. Everything here may be used from any thread.
"""

from __future__ import annotations

import binascii
import json
import re
import zlib
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import orjson

__all__ = ["MAX_JSON_BYTES", "EventCodecError", "decode", "decode_json", "encode", "pack"]

MAX_JSON_BYTES = 256 * 1024
"""An event has at most 65,536 bytes, three times that if a lone surrogate has all of it escaped as ASCII."""

_DICTIONARY = 1  # what new blobs are written with
_DICTIONARY_MASK = 0x0F
_HASH_LEFT_OUT = 0x10
_WIDE = 0x20  # JSON that orjson cannot represent: integers beyond 64 bits, lone surrogates, deep nesting
_KNOWN_BITS = _DICTIONARY_MASK | _HASH_LEFT_OUT | _WIDE

_WINDOW_BITS = 14
_MEMORY_LEVEL = 6

_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/_-]{40,}")
_MARKER = re.compile(rb"([\x01-\x05])")
# 32 bytes (hashes, keys), 32 bytes URL-safe (event and room IDs), 64 bytes (signatures), two bytes of length and as
# many bytes as that (ciphertext), the same URL-safe.
_STANDARD_32, _URL_32, _STANDARD_64, _STANDARD_ANY, _URL_ANY = (bytes((n,)) for n in range(1, 6))
# The last character of Base64 without padding has bits that must be 0: what it may be for 32 and for 64 bytes.
_ENDS_32, _ENDS_64 = b"AEIMQUYcgkosw048", b"AQgw"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_TO_URL = bytes.maketrans(b"+/", b"-_")
_MUCH_BASE64 = 1024
"""From this size on it is checked whether packing pays: long runs may be anything, for example `aaaa...`."""

_NOT_HASHED = frozenset({"hashes", "signatures", "unsigned"})


class EventCodecError(ValueError):
    """The value is not a JSON object or too large, or the blob is not one that `encode` made."""


def encode(pdu: Mapping[str, Any]) -> bytes:
    """The blob for a PDU, in the format of any room version. Raises EventCodecError."""
    if not isinstance(pdu, dict):
        raise EventCodecError("an event must be an object")
    flags = 0
    try:
        if _has_right_hash(pdu):
            flags |= _HASH_LEFT_OUT
            text = _dumps({key: value for key, value in pdu.items() if key != "hashes"})
        else:
            text = _dumps(pdu)
        if b"null" in text and orjson.loads(text) != (pdu if not flags else _without_hashes(pdu)):
            raise EventCodecError("an event must not contain NaN or infinity")
    except (TypeError, orjson.JSONDecodeError):
        flags, text = _WIDE, _dumps_wide(pdu)
    if len(text) > MAX_JSON_BYTES:
        raise EventCodecError(f"an event of {len(text)} bytes is too large")
    packed, raw = pack(text)
    blob = bytes((flags | _DICTIONARY,)) + _deflated(packed) + raw
    if len(raw) >= _MUCH_BASE64:
        blob = min(blob, bytes((flags | _DICTIONARY,)) + _deflated(text), key=len)
    return blob


def decode(blob: bytes, *, with_hash: bool = True) -> dict[str, Any]:
    """The PDU that was encoded, its keys in no particular order. Raises EventCodecError.

    Args:
        with_hash: False saves the time for a content hash that had been left out because it follows from the rest;
            the PDU is without it then.
    """
    flags, text = _text(blob)
    try:
        pdu = json.loads(text) if flags & _WIDE else orjson.loads(text)
        if not isinstance(pdu, dict):
            raise EventCodecError("a stored event is not an object")
        if with_hash and flags & _HASH_LEFT_OUT:
            pdu["hashes"] = {"sha256": _content_hash(pdu)}
    except (TypeError, ValueError, RecursionError) as error:
        raise EventCodecError(f"a stored event is corrupt: {error}") from error
    return pdu


def decode_json(blob: bytes) -> bytes:
    """The PDU that was encoded as JSON, canonical if it has a canonical form. Raises EventCodecError."""
    flags, text = _text(blob)
    return _dumps(decode(blob)) if flags & _HASH_LEFT_OUT else text


def pack(text: bytes) -> tuple[bytes, bytes]:
    """JSON with its runs of Base64 replaced by markers, and what those runs decode to, in order."""
    raw = bytearray()

    def packed(match: re.Match[bytes]) -> bytes:
        run = match[0]
        standard = run.translate(_TO_STANDARD)
        url_safe = standard != run
        if b"+" in run or b"/" in run:
            if url_safe:
                return run
        elif text[match.start() - 1] in b"$!":
            url_safe = True  # an ID without a character that tells: marked like all IDs, it compresses better
        if len(run) == 43 and run[-1] in _ENDS_32:
            raw.extend(binascii.a2b_base64(standard + b"="))
            return _URL_32 if url_safe else _STANDARD_32
        if len(run) == 86 and run[-1] in _ENDS_64 and not url_safe:
            raw.extend(binascii.a2b_base64(standard + b"=="))
            return _STANDARD_64
        data, rest = _decoded(standard, run)
        if len(data) > 0xFFFF:
            return run
        raw.extend(len(data).to_bytes(2, "big") + data)
        return (_URL_ANY if url_safe else _STANDARD_ANY) + rest

    return _BASE64_RUN.sub(packed, text), bytes(raw)


def _decoded(standard: bytes, run: bytes) -> tuple[bytes, bytes]:
    """The bytes that a run stands for, and the end of the run if it is not the Base64 of whole bytes."""
    whole = len(run) - len(run) % 4
    if whole != len(run) and len(run) % 4 != 1:
        data = binascii.a2b_base64(standard + b"=" * (whole + 4 - len(run)))
        if binascii.b2a_base64(data, newline=False)[: len(run)] == standard:
            return data, b""
    return binascii.a2b_base64(standard[:whole]), run[whole:]


def _unpacked(packed: bytes, raw: bytes) -> bytes:
    """What `pack` was given. Raises EventCodecError."""
    parts = _MARKER.split(packed)
    at = 0
    for n in range(1, len(parts), 2):
        marker = parts[n]
        if marker == _URL_32:
            parts[n] = binascii.b2a_base64(raw[at : at + 32], newline=False)[:43].translate(_TO_URL)
            at += 32
        elif marker == _STANDARD_32:
            parts[n] = binascii.b2a_base64(raw[at : at + 32], newline=False)[:43]
            at += 32
        elif marker == _STANDARD_64:
            parts[n] = binascii.b2a_base64(raw[at : at + 64], newline=False)[:86]
            at += 64
        else:
            end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
            run = binascii.b2a_base64(raw[at + 2 : end], newline=False).rstrip(b"=")
            parts[n] = run.translate(_TO_URL) if marker == _URL_ANY else run
            at = end
    if at != len(raw):
        raise EventCodecError("a stored event is cut short or has bytes left over")
    return b"".join(parts)


def _text(blob: bytes) -> tuple[int, bytes]:
    """The flags and the JSON text of a blob. Raises EventCodecError."""
    if not blob or blob[0] & ~_KNOWN_BITS:
        raise EventCodecError("a stored event has an unknown format")
    number = blob[0] & _DICTIONARY_MASK
    try:
        inflater = zlib.decompressobj(-_WINDOW_BITS, zdict=_dictionary(number))
        packed = inflater.decompress(blob[1:], MAX_JSON_BYTES)
    except zlib.error as error:
        raise EventCodecError(f"a stored event is corrupt: {error}") from error
    except FileNotFoundError:
        raise EventCodecError(f"a stored event needs dictionary {number}, which this version does not have") from None
    if not inflater.eof:
        raise EventCodecError("a stored event is cut short or too large")
    text = _unpacked(packed, inflater.unused_data)
    if len(text) > MAX_JSON_BYTES:
        raise EventCodecError("a stored event is too large")
    return blob[0], text


@cache
def _dictionary(number: int) -> bytes:
    """A shipped dictionary; raises FileNotFoundError. There are at most 16, of a few kB."""
    return Path(__file__).with_name(f"event_codec_{number}.dict").read_bytes()


class _Compressor(Protocol):
    """What zlib.compressobj returns; the class has no public name."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...
    def copy(self) -> _Compressor: ...


@cache
def _primed() -> _Compressor:
    """A compressor that has read the dictionary; only ever copied, which is quicker than reading it again."""
    return zlib.compressobj(9, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL, zdict=_dictionary(_DICTIONARY))


def _deflated(text: bytes) -> bytes:
    deflater = _primed().copy()
    return deflater.compress(text) + deflater.flush()


def _dumps(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _dumps_wide(pdu: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(pdu, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            encoded = json.dumps(pdu, separators=(",", ":"), sort_keys=True).encode("ascii")
        if json.loads(encoded) != pdu:  # keys that are no strings, surrogate pairs not joined to one character
            raise EventCodecError("an event must be as a JSON parser returns it")
    except (TypeError, ValueError, RecursionError) as error:
        raise EventCodecError(f"an event must be JSON: {error}") from error
    return encoded


def _without_hashes(pdu: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in pdu.items() if key != "hashes"}


def _content_hash(pdu: dict[str, Any]) -> str:
    """The content hash of an event without floats.

    On its own here, as it is part of the format on disk: what the rest of the program does with other events' hashes
    must not change what is read back.

    spec: server-server-api#calculating-the-content-hash-for-an-event
    """
    hashed = _dumps({key: value for key, value in pdu.items() if key not in _NOT_HASHED})
    return b64encode(sha256(hashed).digest())[:43].decode("ascii")


def _has_right_hash(pdu: dict[str, Any]) -> bool:
    hashes = pdu.get("hashes")
    return isinstance(hashes, dict) and len(hashes) == 1 and hashes.get("sha256") == _content_hash(pdu)
