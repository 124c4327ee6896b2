"""Unpadded Base64 in both alphabets.

spec: appendices#unpadded-base64
"""

from binascii import Error, a2b_base64, b2a_base64

_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")


def encode(data: bytes) -> str:
    """The bytes in the standard alphabet, without padding."""
    return b2a_base64(data, newline=False).rstrip(b"=").decode("ascii")


def encode_urlsafe(data: bytes) -> str:
    """The bytes in the URL-safe alphabet, without padding."""
    return b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URLSAFE).decode("ascii")


def decode(text: str) -> bytes:
    """The bytes which a Base64 text stands for, in either alphabet, padded or not.

    Surplus bits of the last character are ignored: such texts occur in the specification itself.

    :raises ValueError: not Base64.
    """
    if not isinstance(text, str):
        raise ValueError("Base64 must be a string")
    digits = text.rstrip("=")
    padding = -len(digits) % 4
    if len(text) - len(digits) not in (0, padding):
        raise ValueError("not Base64: wrong padding")
    try:
        return a2b_base64(digits.replace("-", "+").replace("_", "/") + "=" * padding, strict_mode=True)
    except Error as error:
        raise ValueError(f"not Base64: {error}") from error
