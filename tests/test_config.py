"""The configuration: what is read, what is refused and with which words, and what init writes."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tinyserver.config import Bucket, Config, ConfigError, Listener, Portion, key_of, load_config, parse_config
from tinyserver.config.text import render_default_config, render_reference

HERE = Path("/somewhere")
DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"

DESIGNED = """
server_name = "example.org"
data_dir = "/var/lib/tinyserver"
public_url = "https://matrix.example.org"

[[listen]]
address = "127.0.0.1:8008"
serves = ["client", "federation", "media", "admin", "metrics"]
[[listen]]
address = "[::]:8448"
serves = ["federation", "media"]
tls_certificate = "/path/fullchain.pem"
tls_key = "/path/key.pem"

[registration]
mode = "token"
shared_secret = "..."
allow_guests = false
[passwords]
memory = "19 MiB"
iterations = 2
[rooms]
default_version = "12"
[rate_limits]
enabled = true
[federation]
enabled = true
trusted_key_servers = []
[outgoing]
verify_tls = true
extra_ca_files = []
allow_private_addresses = false
[smtp]
host = ""
port = 587
tls = "starttls"
username = ""
password = ""
from = "tinyserver <noreply@example.org>"
[voip]
turn_uris = []
turn_shared_secret = ""
turn_lifetime = "1h"
livekit_url = ""
[appservices]
files = []
[media]
max_upload = "50 MiB"
remote_cache = "2 GiB"
[url_previews]
enabled = false
[cache]
budget = "32 MiB"
"""


def parse(text: str) -> Config:
    return parse_config(text, HERE)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


def test_the_designed_file() -> None:
    config = parse(DESIGNED)
    assert config.server_name == "example.org"
    assert config.data_dir == Path("/var/lib/tinyserver")
    assert config.listen[1].serves == ("federation", "media")
    assert config.passwords.memory == 19 * 1024**2
    assert config.media.remote_cache == Portion(size=2 * 1024**3)
    assert config.voip.turn_lifetime == 3600
    assert config.smtp.sender == "tinyserver <noreply@example.org>"


def test_a_share() -> None:
    config = parse('server_name = "example.org"\n[media]\nremote_cache = "20 %"')
    assert config.media.remote_cache == Portion(share=0.2)


def test_defaults_are_those_of_the_designed_file() -> None:
    config = parse('server_name = "example.org"')
    designed = parse(DESIGNED)
    for each in fields(Config):
        if each.name not in ("data_dir", "public_url", "listen", "registration"):
            assert getattr(config, each.name) == getattr(designed, each.name)
    assert config.listen == (Listener(),)
    assert config.registration.mode == "token"
    assert config.data_dir == HERE / "data"


@pytest.mark.parametrize(
    ("text", "size"),
    [("1 B", 1), ("10KiB", 10240), ("1.5 MiB", 1572864), ("2 GB", 2_000_000_000), (" 3 gib ", 3 * 1024**3)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse(f'server_name = "x"\n[media]\nmax_upload = "{text}"').media.max_upload == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1.5 h", 5400), ("7d", 604800), ("250ms", 0.25), ("2m", 120)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse(f'server_name = "x"\n[voip]\nturn_lifetime = "{text}"').voip.turn_lifetime == seconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["server_name", "missing"]),
        ("server_name = ]", ["not TOML", "line 1"]),
        (
            'server_name = "x"\n[registration]\nmod = "open"',
            ['"registration.mod"', '"registration.mode"', "Who can register"],
        ),
        ('server_name = "x"\nregistraton = 1', ['"registraton"', '"registration"']),
        ('server_name = "x"\nzzzzzz = 1', ['"zzzzzz"', "docs/configuration.md"]),
        ('server_name = "x"\n[registration]\nmode = "maybe"', ["registration.mode", "'open'", "'maybe'"]),
        ('server_name = "x"\n[registration]\nmode = ["open"]', ["registration.mode"]),
        ('server_name = "x"\n[federation]\nenabled = "yes"', ["federation.enabled", "true or false"]),
        ('server_name = "x"\n[federation]\nenabled = 1', ["federation.enabled", "true or false"]),
        ('server_name = "x"\n[smtp]\nport = true', ["smtp.port", "whole number"]),
        ('server_name = "x"\n[smtp]\nport = -1', ["smtp.port", "negative"]),
        ('server_name = "x"\n[smtp]\nport = 1.5', ["smtp.port", "whole number"]),
        ('server_name = "x"\n[smtp]\nfrom = 3', ["smtp.from", "text"]),
        ('server_name = "x"\n[smtp]\nsender = "a"', ["smtp.sender"]),
        ('server_name = "x"\n[media]\nmax_upload = "50"', ["media.max_upload", '"50 MiB"']),
        ('server_name = "x"\n[media]\nremote_cache = "120%"', ["media.remote_cache", '"20%"']),
        ('server_name = "x"\n[media]\nmax_upload = 50', ["media.max_upload", '"50 MiB"']),
        ('server_name = "x"\n[media]\nmax_upload = "-1 MiB"', ["media.max_upload"]),
        ('server_name = "x"\n[voip]\nturn_lifetime = "1 year"', ["voip.turn_lifetime", '"1h"']),
        ('server_name = "x"\n[voip]\nturn_uris = "turn:x"', ["voip.turn_uris", "list"]),
        ('server_name = "x"\n[voip]\nturn_uris = [1]', ["voip.turn_uris[0]", "text"]),
        ('server_name = "x"\nmedia = 3', ['"media"', "table"]),
        ('server_name = "x"\nlisten = []', ["listen"]),
        ('server_name = "x"\n[listen]\naddress = "a:1"', ["listen", "list"]),
        ('server_name = "x"\n[[listen]]\naddress = "8008"', ["listen[0].address", "127.0.0.1:8008"]),
        ('server_name = "x"\n[[listen]]\naddress = "::1:8008"', ["brackets", "[::1]:8008"]),
        ('server_name = "x"\n[[listen]]\naddress = "a:70000"', ["listen[0].address"]),
        ('server_name = "x"\n[[listen]]\nserves = ["everything"]', ["listen[0].serves[0]", "'federation'"]),
        ('server_name = "x"\n[[listen]]\ntls_key = "k"', ["tls_certificate"]),
        ('server_name = "x"\n[[listen]]\ntrusted_proxies = ["proxy"]', ["trusted_proxies", "'proxy'"]),
        ('server_name = "x"\n[rate_limits]\nmessage = { burst = 3 }', ["rate_limits.message.per_second", "missing"]),
        ('server_name = "x"\n[rate_limits]\nmessage = { burst = 0, per_second = 1 }', ["rate_limits.message", "burst"]),
        ('server_name = "x"\n[passwords]\nmemory = "1 KiB"', ["passwords", "1 MiB"]),
        ('server_name = "not a name"', ["server_name", "'not a name'"]),
        ('server_name = ""', ["server_name"]),
        ('server_name = "x"\n[rooms]\ndefault_version = "99"', ["rooms.default_version", "12"]),
    ],
)
def test_refusals_name_the_key_and_the_fix(text: str, words: list[str]) -> None:
    message = refusal(text)
    assert all(word in message for word in words), message


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tinyserver init"):
        load_config(tmp_path / "none.toml")
    file = tmp_path / "tinyserver.toml"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file)
    file.write_text('server_name = "x"\ndata_dir = "d"\nwrong = 1')
    with pytest.raises(ConfigError, match=re.escape(str(file))):
        load_config(file)
    file.write_text('server_name = "x"\ndata_dir = "d"')
    assert load_config(file).data_dir == tmp_path / "d"


def uncommented(text: str) -> str:
    """The generated file with its defaults switched on."""
    return re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)


def keys(section: Any) -> set[str]:
    return {key_of(each) for each in fields(section)}


def test_init_writes_every_key_with_an_explanation() -> None:
    text = render_default_config("example.org", Path("/var/lib/tinyserver"), shared_secret="s")
    values = tomllib.loads(uncommented(text))
    assert set(values) == keys(Config)
    for each in fields(Config):
        if each.name == "listen":
            assert set(values["listen"][0]) == keys(Listener)
        elif isinstance(values[key_of(each)], dict):
            assert set(values[key_of(each)]) == keys(type(each.default)), each.name
    lines = text.splitlines()
    for above, line in pairwise(lines):
        if re.match(r"#?\w+ = ", line):
            assert above.startswith("# "), f"{line} is not explained"


def test_the_commented_lines_are_the_defaults() -> None:
    text = render_default_config(
        "example.org", Path("/d"), listen="127.0.0.1:1", public_url="https://x", shared_secret="s"
    )
    assert parse(text) == parse(uncommented(text))
    assert parse(text).listen[0].address == "127.0.0.1:1"
    assert parse(text).public_url == "https://x"
    assert parse(text).registration.shared_secret == "s"


def test_values_are_escaped() -> None:
    assert parse(render_default_config("example.org", Path('/a "quoted"\\dir'))).data_dir == Path('/a "quoted"\\dir')


def test_a_bucket_is_written_as_it_is_read() -> None:
    text = uncommented(render_default_config("example.org", Path("/d")))
    assert parse(text).rate_limits.login_failed == Bucket(0.1, 5)


def test_the_reference_is_up_to_date() -> None:
    assert DOCS.read_text("utf-8") == render_reference(), "run scripts/docs"
