"""Stored events come back exactly, whatever JSON they hold, and damaged blobs are refused."""

import json
import threading
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic_events import KINDS, MEASURING_WORDS, Rooms, events, message
from tinyserver.protocol.canonical_json import encode as canonical
from tinyserver.protocol.event_hashes import add_content_hash
from tinyserver.storage import event_codec
from tinyserver.storage.event_codec import EventCodecError

base64_like = st.one_of(
    st.text("abcXYZ019+/", min_size=35, max_size=100),
    st.text("abcXYZ019-_", min_size=35, max_size=100),
    st.text("abcXYZ019-_+/=", min_size=35, max_size=100),
    st.text("AQgw", min_size=43, max_size=43),
    st.text("AQgw", min_size=86, max_size=88),
    st.builds(lambda letter, size: letter * size, st.sampled_from("aA/_"), st.integers(40, 3_000)),
)
strings = st.one_of(
    st.text(max_size=20),
    base64_like,
    st.builds("{}{}".format, st.sampled_from(["$", "!", "@", "\x01", "\\", '"']), base64_like),
    st.text('\x00\x01\x02\x03\x04\x05"\\', max_size=5),
    st.text(st.characters(categories=["Cs", "Lu"]), max_size=4),
)
numbers = st.one_of(st.integers(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, strings),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(strings, inner, max_size=4)),
    max_leaves=12,
)
objects = st.dictionaries(
    st.one_of(strings, st.sampled_from(["hashes", "content", "unsigned"])), values, max_size=6
).map(
    lambda value: json.loads(json.dumps(value))  # joins surrogate pairs, as parsing does
)


def same(a: Any, b: Any) -> bool:
    """Equal, also in what Python calls equal and JSON does not: 1, 1.0 and true; 0.0 and -0.0."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


@settings(max_examples=300, deadline=None)
@given(value=objects)
def test_any_object_comes_back(value: dict[str, Any]) -> None:
    blob = event_codec.encode(value)
    assert same(event_codec.decode(blob), value)
    assert same(json.loads(event_codec.decode_json(blob)), value)


@settings(max_examples=100, deadline=None)
@given(value=objects)
def test_any_object_with_its_content_hash_comes_back(value: dict[str, Any]) -> None:
    try:
        value = add_content_hash(value)
    except ValueError:
        return  # lone surrogates have no hash
    blob = event_codec.encode(value)
    assert same(event_codec.decode(blob), value)
    assert same(json.loads(event_codec.decode_json(blob)), value)


def test_events_of_all_kinds_come_back_as_canonical_json() -> None:
    for n, pdu in enumerate(events(5, MEASURING_WORDS, 400)):
        stored = add_content_hash(pdu) if n % 2 else pdu
        blob = event_codec.encode(stored)
        assert canonical(event_codec.decode(blob)) == event_codec.decode_json(blob) == canonical(stored)


@pytest.mark.parametrize(("version", "limit"), [(12, 320), (10, 345)])
def test_an_ordinary_message_is_small(version: int, limit: int) -> None:
    rooms = [Rooms(100 + seed, MEASURING_WORDS, version) for seed in range(50)]
    sizes = [len(event_codec.encode(add_content_hash(message(room)))) for room in rooms]
    assert sum(sizes) / len(sizes) < limit


def test_a_wrong_hash_is_kept() -> None:
    pdu = add_content_hash(message(Rooms(1, MEASURING_WORDS, 12)))
    redacted = pdu | {"content": {}}
    assert event_codec.decode(event_codec.encode(redacted)) == redacted
    for hashes in ({}, {"sha256": 5}, {"sha256": pdu["hashes"]["sha256"], "md5": "x"}, "no object", None):
        odd = pdu | {"hashes": hashes}
        assert event_codec.decode(event_codec.encode(odd)) == odd


def test_a_hash_computed_over_what_has_changed_since_is_kept() -> None:
    """unsigned and signatures are not hashed: adding them changes nothing about leaving the hash out."""
    pdu = add_content_hash(message(Rooms(1, MEASURING_WORDS, 12)))
    more = pdu | {"unsigned": {"age": 1}, "signatures": {}}
    assert event_codec.decode(event_codec.encode(more)) == more
    assert event_codec.decode_json(event_codec.encode(more)) == canonical(more)


@pytest.mark.parametrize(
    "value",
    [
        {"deep": json.loads("[" * 300 + "]" * 300)},
        {"a": 2**64, "b": -(2**63) - 1, "c": 2**64 - 1},
        {"a": "\ud800", "\udfff": 1},
        {"a": 1.0, "b": -0.0, "c": 1e300, "d": None},
        {"body": "\U0001f600" * 15_000},
        {"body": "a" * 65_000},
        {"body": "\ud800" + "é" * 30_000},
        {"body": "Ab+/" * 16_000},
    ],
)
def test_unusual_objects_come_back(value: dict[str, Any]) -> None:
    blob = event_codec.encode(value)
    assert same(event_codec.decode(blob), value)
    assert same(json.loads(event_codec.decode_json(blob)), value)
    assert len(blob) < 50_000


@pytest.mark.parametrize(
    "value",
    [
        {"a": float("nan")},
        {"a": [float("inf")], "b": None},
        {1: 2},
        {"a": "\ud800" + "\udc00"},
        {"a": {1}},
        {"a": "x" * 300_000},
        {"a": [[], "\ud800", float("nan")]},
        [],
        None,
        "text",
    ],
)
def test_what_is_no_json_object_or_too_large_is_refused(value: Any) -> None:
    with pytest.raises(EventCodecError):
        event_codec.encode(value)


def test_a_value_nested_beyond_all_bounds_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EventCodecError):
        event_codec.encode({"a": deep})


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    at=st.integers(0, 2_000),
    flip=st.integers(1, 255),
    cut=st.integers(0, 2_000) | st.none(),
)
def test_a_damaged_blob_raises_nothing_else(kind: str, at: int, flip: int, cut: int | None) -> None:
    blob = bytearray(event_codec.encode(KINDS[kind][0](Rooms(3, MEASURING_WORDS, 12))))
    blob[at % len(blob)] ^= flip
    try:
        assert isinstance(event_codec.decode(bytes(blob[:cut])), dict)
        assert isinstance(orjson.loads(event_codec.decode_json(bytes(blob[:cut]))), dict)
    except EventCodecError:
        pass


@settings(max_examples=200, deadline=None)
@given(junk=st.binary(max_size=200), first=st.sampled_from([0x01, 0x11, 0x21, 0x31]))
def test_junk_raises_nothing_else(junk: bytes, first: int) -> None:
    for blob in (junk, bytes((first,)) + junk):
        try:
            assert isinstance(event_codec.decode(blob), dict)
        except EventCodecError:
            continue


@pytest.mark.parametrize("blob", [b"", b"\x00", b"\x0e123", b"\x81123", b"\x41123"])
def test_unknown_formats_are_refused(blob: bytes) -> None:
    with pytest.raises(EventCodecError):
        event_codec.decode(blob)
    with pytest.raises(EventCodecError):
        event_codec.decode_json(blob)


def test_a_decompression_bomb_is_refused() -> None:
    """A few kB that would become 50 MB of JSON."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -14)
    bomb = b"\x01" + deflater.compress(b'{"a":"' + b" " * 50_000_000 + b'"}') + deflater.flush()
    with pytest.raises(EventCodecError, match="too large"):
        event_codec.decode(bomb)


def test_bytes_missing_or_left_over_are_refused() -> None:
    blob = event_codec.encode(message(Rooms(1, MEASURING_WORDS, 12)))
    for wrong in (blob + b"x", blob[:-1]):
        with pytest.raises(EventCodecError):
            event_codec.decode(wrong)


def test_threads_do_not_disturb_one_another() -> None:
    pdus = list(events(9, MEASURING_WORDS, 200))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for pdu in pdus:
                assert event_codec.decode(event_codec.encode(pdu)) == pdu
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_blobs_written_by_the_first_version_are_still_read() -> None:
    """The format on disk: this must never need a change."""
    blob = bytes.fromhex(BLOB_OF_VERSION_1)
    assert event_codec.decode(blob) == {
        "auth_events": ["$" + "Ab-_" * 10 + "AbA", "$" + "A" * 43],
        "content": {"body": "Hello, world!", "msgtype": "m.text"},
        "depth": 17,
        "hashes": {"sha256": "64+4F5nCpaAaSjKD5/rSFWeCFMRbj4qu4etNNMkT5dg"},
        "origin_server_ts": 1_700_000_000_000,
        "sender": "@alice:example.org",
        "signatures": {"example.org": {"ed25519:1": "Ab+/" * 21 + "Ag"}},
        "type": "m.room.message",
    }


BLOB_OF_VERSION_1 = (
    "1123b59d9f9393afa3509e5f9493a248601003fb0886b9010220477222b049946a955a91985b90938a359291e54829520101"
    "bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01b000000000000000000000000000000000000000"
    "0000000000000000000000000001bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01"
    "bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf01bfbf02"
)
