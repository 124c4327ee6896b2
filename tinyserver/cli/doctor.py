"""``tinyserver doctor``: looks whether what the server needs is as it must be, and says what to do if not."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tinyserver.calls.turn import TurnServers
from tinyserver.calls.turn_check import CredentialsRefused, TurnError, allocate
from tinyserver.cli.config_file import config_file
from tinyserver.clock import Clock
from tinyserver.config import Config, load_config
from tinyserver.data_directory import DataDirectory, DataDirectoryError
from tinyserver.mail.mailer import Mailer, MailFailed
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.tls import TlsClient
from tinyserver.protocol.certificates import RENEWAL_DAYS, end_of_certificate
from tinyserver.storage.integrity import damage

_LOW_SPACE = 500 * 1024 * 1024
_TIMEOUT = 10.0
_2025 = 1_735_689_600
Finding = tuple[bool, str]
"""Whether something is as it must be, and what it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the server's configuration file")


def run(options: argparse.Namespace) -> int:
    """Print what was found; 1 if something is wrong. Raises ConfigError."""
    config = load_config(config_file(options.config))
    wrong = 0
    for good, text in _findings(config):
        print(f"{'ok   ' if good else 'WRONG'} {text}")
        wrong += not good
    return 1 if wrong else 0


def _findings(config: Config) -> Iterator[Finding]:
    yield True, f"the configuration of {config.server_name} can be read"
    yield from _data(config)
    yield _clock()
    yield from _certificates(config)
    yield from _public_url(config)
    yield from _turn(config)
    yield from _mail(config)


def _data(config: Config) -> Iterator[Finding]:
    data = DataDirectory(config.data_dir)
    try:
        data.read_signing_key()
        yield True, f"the signing key in {config.data_dir} can be used"
    except DataDirectoryError as error:
        yield False, str(error)
        return
    free = shutil.disk_usage(config.data_dir).free
    text = f"{free // 1024**2} MiB are free on the disk of {config.data_dir}"
    yield (True, text) if free >= _LOW_SPACE else (False, f"only {text}: make room before it is full")
    if not data.database.exists():
        return
    found = damage(data.database)
    if found is None:
        yield True, "the database is whole"
    else:
        yield False, f"the database is damaged ({found}): stop the server and restore a backup"


def _clock() -> Finding:
    year = time.gmtime().tm_year
    if time.time() < _2025:
        return False, f"the clock believes in the year {year}: let the machine set its clock (NTP)"
    return True, f"the clock believes in the year {year}"


def _certificates(config: Config) -> Iterator[Finding]:
    for listener in config.listen:
        if not listener.tls_certificate:
            continue
        try:
            ends = end_of_certificate(Path(listener.tls_certificate).read_text("ascii"))
        except (OSError, ValueError) as error:
            yield False, f"the certificate {listener.tls_certificate} cannot be read: {error}"
            continue
        days = (ends / 1000 - time.time()) / 86_400
        text = f"the certificate {listener.tls_certificate} is good for {max(days, 0):.0f} days"
        yield (True, text) if days >= RENEWAL_DAYS else (False, f"{text}: renew it, then send the server SIGHUP")


def _public_url(config: Config) -> Iterator[Finding]:
    if not config.public_url:
        yield False, "public_url is empty: clients must be told by hand where this server is"
        return
    url = config.public_url.rstrip("/") + "/_matrix/client/versions"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            answer.read()
        yield True, f"clients reach the server at {config.public_url}"
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        yield False, f"{url} does not answer ({reason}): is the server running, and the proxy before it set up?"


def _mail(config: Config) -> Iterator[Finding]:
    smtp = config.smtp
    if not smtp.host:
        return
    outgoing = config.outgoing
    tls = TlsClient(
        verify=outgoing.verify_tls,
        extra_ca_files=outgoing.extra_ca_files,
        wall_ms=lambda: int(time.time() * 1000),
        best_known_ms=lambda: 0,
    )

    async def check() -> None:
        resolver = Resolver(outgoing.dns_servers, time.monotonic)
        try:
            await Mailer(smtp, config.server_name, resolver, tls).check()
        finally:
            await resolver.close()

    try:
        asyncio.run(check())
        yield True, f"the mail server {smtp.host} can be reached"
    except MailFailed as error:
        yield False, f"the mail server {smtp.host}:{smtp.port} takes no mails ({error}): look at [smtp]"


def _turn(config: Config) -> Iterator[Finding]:
    voip = config.voip
    if not voip.turn_uris:
        return
    turn = TurnServers(voip.turn_uris, voip.turn_shared_secret, voip.turn_lifetime, Clock())
    credentials = turn.credentials(f"@doctor:{config.server_name}")
    if credentials is None:
        yield False, "voip.turn_shared_secret is empty: the TURN servers will refuse everybody"
        return
    for uri in voip.turn_uris:
        try:
            relay = asyncio.run(allocate(uri, credentials.username, credentials.password))
            yield True, f"{uri} gives a relay address ({relay or 'IPv6'})"
        except CredentialsRefused as error:
            yield False, f"{uri}: {error}. Its secret (coturn: static-auth-secret) must be voip.turn_shared_secret"
        except TurnError as error:
            yield False, f"{uri}: {error}"
