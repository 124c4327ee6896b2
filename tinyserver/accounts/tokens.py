"""Secrets that are handed out: made from the system's randomness, kept only as SHA-256."""

from __future__ import annotations

import hashlib
import secrets

_DEVICE_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NAME_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # without 0, o, 1 and l


def new_access_token() -> str:
    """An access token: `tsa_` and 32 random bytes, so that one found in a file can be recognised."""
    return "tsa_" + secrets.token_urlsafe(32)


def new_refresh_token(family: str = "") -> str:
    """A refresh token: `tsr_` and 32 random bytes; where it has a family, that and a dot come before these."""
    return "tsr_" + (f"{family}." if family else "") + secrets.token_urlsafe(32)


def new_family() -> str:
    """What all refresh tokens of one login have in common, so that an old one is known for what it is."""
    return secrets.token_urlsafe(18)


def family_of(refresh_token: str) -> str | None:
    """The family of a refresh token, or None for one that has none."""
    family, dot, _ = refresh_token.removeprefix("tsr_").partition(".")
    return family if dot and family else None


def new_login_token() -> str:
    """A token for one login: `tsl_` and 32 random bytes."""
    return "tsl_" + secrets.token_urlsafe(32)


def new_openid_token() -> str:
    """A token that tells a service who its owner is: `tso_` and 32 random bytes."""
    return "tso_" + secrets.token_urlsafe(32)


def new_registration_token() -> str:
    """A registration token of 16 characters that can be read out on the phone."""
    return "".join(secrets.choice(_NAME_ALPHABET) for _ in range(16))


def new_device_id() -> str:
    """A device ID of ten letters."""
    return "".join(secrets.choice(_DEVICE_ALPHABET) for _ in range(10))


def new_localpart(prefix: str) -> str:
    """A name for an account whose owner chose none."""
    return prefix + "".join(secrets.choice(_NAME_ALPHABET) for _ in range(10))


def digest(token: str) -> bytes:
    """The SHA-256 of a token: all that is stored of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
