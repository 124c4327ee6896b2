"""The end of a certificate, as a library reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tinyserver.protocol.certificates import end_of_certificate

EC, RSA = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)


def certificate(ends: datetime, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = EC) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(datetime(1990, 1, 1))
    return builder.not_valid_after(ends).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("key", [EC, RSA])
@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2999])
def test_the_end(year: int, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    ends = datetime(year, 2, 3, 4, 5, 6)
    other = certificate(datetime(2030, 1, 1))
    found = end_of_certificate("# a comment\n" + certificate(ends, key) + other)
    assert found == int(ends.replace(tzinfo=UTC).timestamp() * 1000)


GOOD = certificate(datetime(2030, 1, 1))


@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.text(max_size=5))
def test_what_is_none(start: int, stop: int, between: str) -> None:
    changed = GOOD[:start] + between + GOOD[stop:]
    try:
        end_of_certificate(changed)
    except ValueError:
        return
    assert "BEGIN CERTIFICATE" in changed
