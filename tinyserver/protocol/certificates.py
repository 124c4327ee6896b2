"""When a TLS certificate ends: the one thing of it that nobody else tells without a library of megabytes."""

from __future__ import annotations

import binascii
import re
from calendar import timegm

RENEWAL_DAYS = 7
"""A certificate that ends in fewer days should have been renewed."""
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


def end_of_certificate(pem: str) -> int:
    """When the first certificate of a PEM file ends, in ms since 1970.

    Raises:
        ValueError: there is none, or it is malformed.

    spec: RFC 5280, section 4.1
    """
    _, begin, rest = pem.partition(_BEGIN)
    text, end, _ = rest.partition(_END)
    if not begin or not end:
        raise ValueError("there is no certificate")
    try:
        der = binascii.a2b_base64(text)
    except binascii.Error as error:
        raise ValueError("the certificate is no Base64") from error
    signed, _ = _content(_content(der, _SEQUENCE)[0], _SEQUENCE)
    if signed[:1] == bytes([_VERSION]):
        _, signed = _content(signed, _VERSION)
    for tag in (0x02, _SEQUENCE, _SEQUENCE):  # serial number, algorithm of the signature, issuer
        _, signed = _content(signed, tag)
    validity, _ = _content(signed, _SEQUENCE)
    _, validity = _content(validity, validity[0] if validity else 0)
    return _time(validity)


def _time(der: bytes) -> int:
    if der[:1] == bytes([_GENERALIZED_TIME]):
        text = _content(der, _GENERALIZED_TIME)[0]
    else:
        text = _content(der, _UTC_TIME)[0]
        text = (b"19" if text[:2] >= b"50" else b"20") + text
    if re.fullmatch(rb"[0-9]{14}Z", text) is None:
        raise ValueError("the certificate has no end")
    year, *others = int(text[:4]), *(int(text[place : place + 2]) for place in range(4, 14, 2))
    if not year or not 1 <= others[0] <= 12:
        raise ValueError("the certificate ends at no time")
    return timegm((year, *others)) * 1000


def _content(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, which has this tag, and what follows it. Raises ValueError."""
    if len(der) < 2 or der[0] != tag:
        raise ValueError("the certificate is malformed")
    length, start = der[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("the certificate is cut off")
    return der[start : start + length], der[start + length :]
