import json
from typing import Any

import canonicaljson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol import vectors
from tests.protocol.strategies import FINITE_FLOATS, JUNK, SAFE_INTEGERS, json_values
from tinyserver.protocol import canonical_json
from tinyserver.protocol.canonical_json import CanonicalJsonError, JsonSyntaxError

VECTORS = vectors.load("canonical_json")
REJECTED = VECTORS["must_be_rejected_from_room_version_6"]["inputs"]
LENIENT_CASE = VECTORS["cases"][-1]


@pytest.mark.parametrize("case", VECTORS["cases"][:-1], ids=lambda case: case["canonical"])
def test_vectors(case: dict[str, str]) -> None:
    value = canonical_json.loads_strict(case["input"])
    assert canonical_json.encode(value) == case["canonical"].encode()
    assert canonical_json.encode_lenient(value) == case["canonical"].encode()


def test_the_last_vector_shows_numbers_that_must_be_refused() -> None:
    assert LENIENT_CASE["canonical"] == '{"a":0,"b":10000000000}'
    with pytest.raises(CanonicalJsonError):
        canonical_json.loads_strict(LENIENT_CASE["input"])


@pytest.mark.parametrize("text", REJECTED)
def test_forbidden_numbers_are_refused(text: str) -> None:
    for data in (text, text.encode()):
        with pytest.raises(CanonicalJsonError):
            canonical_json.loads_strict(data)


@pytest.mark.parametrize("text", [text for text in REJECTED if text != '{"a":-0}'])
def test_forbidden_numbers_are_not_encoded(text: str) -> None:
    value = json.loads(text)
    with pytest.raises(CanonicalJsonError):
        canonical_json.encode(value)
    with pytest.raises(CanonicalJsonError):
        canonical_json.check_strict(value)


@pytest.mark.parametrize("text", VECTORS["must_be_accepted"]["inputs"])
def test_allowed_numbers(text: str) -> None:
    assert canonical_json.encode(canonical_json.loads_strict(text)) == text.encode()


@given(json_values())
def test_encoding_is_that_of_the_reference_package(value: Any) -> None:
    expected = canonicaljson.encode_canonical_json(value)
    assert canonical_json.encode(value) == expected
    assert canonical_json.encode_checked(value) == expected
    assert canonical_json.encode_lenient(value) == expected
    canonical_json.check_strict(value)


@given(json_values(st.integers() | FINITE_FLOATS))
def test_lenient_encoding_is_that_of_the_reference_package(value: Any) -> None:
    assert canonical_json.encode_lenient(value) == canonicaljson.encode_canonical_json(value)


def test_every_character_is_escaped_as_in_the_reference_package() -> None:
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
    assert canonical_json.encode(text) == canonicaljson.encode_canonical_json(text)


def test_keys_are_sorted_by_code_point() -> None:
    keys = ["\U00010000", "\uffff", "a", "A", "é", ""]
    assert list(json.loads(canonical_json.encode(dict.fromkeys(keys)))) == sorted(keys)


@given(json_values())
def test_round_trip(value: Any) -> None:
    encoded = canonical_json.encode(value)
    assert canonical_json.loads(encoded) == value
    assert canonical_json.loads_strict(encoded) == value


@given(json_values(st.integers(min_value=-(10**40), max_value=10**40)))
def test_parsing_keeps_integers_exact(value: Any) -> None:
    assert canonical_json.loads(json.dumps(value)) == value


@given(JUNK)
def test_encoders_raise_nothing_but_their_error(value: Any) -> None:
    for encode in (canonical_json.encode, canonical_json.encode_lenient):
        try:
            encoded = encode(value)
        except CanonicalJsonError:
            continue
        assert json.loads(encoded) == value


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        [0.5],
        {"a": [{"b": 1.5}]},
        ({"a": (1.5,)},),
        float("nan"),
        [float("inf")],
        2**53,
        -(2**53),
        2**64,
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        b"bytes",
        {1, 2},
        Ellipsis,
    ],
    ids=repr,
)
def test_what_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(CanonicalJsonError):
        canonical_json.encode(value)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), "\ud800", b"bytes", Ellipsis], ids=repr)
def test_what_even_the_lenient_encoder_refuses(value: Any) -> None:
    with pytest.raises(CanonicalJsonError):
        canonical_json.encode_lenient([value])


def test_an_integer_that_python_does_not_print_is_refused() -> None:
    with pytest.raises(CanonicalJsonError):
        canonical_json.encode_lenient(10**5000)


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize("levels", [255, 1000, 100_000])
def test_endless_nesting_is_refused(levels: int) -> None:
    with pytest.raises(CanonicalJsonError):
        canonical_json.encode(nested(levels))
    with pytest.raises(CanonicalJsonError):
        canonical_json.check_strict(nested(levels))
    with pytest.raises(JsonSyntaxError):
        canonical_json.loads("[" * 100_000 + "]" * 100_000)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    for encode in (canonical_json.encode, canonical_json.encode_lenient):
        with pytest.raises(CanonicalJsonError):
            encode(value)


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 50])
def test_survey_counts_levels(levels: int) -> None:
    assert canonical_json.survey(nested(levels)) == (levels, False)
    canonical_json.check_strict(nested(levels), max_depth=levels)
    if levels:
        with pytest.raises(CanonicalJsonError):
            canonical_json.check_strict(nested(levels), max_depth=levels - 1)


@given(json_values(SAFE_INTEGERS | FINITE_FLOATS))
def test_survey_finds_floats(value: Any) -> None:
    def has_float(inner: Any) -> bool:
        if isinstance(inner, dict):
            return any(map(has_float, inner.values()))
        return any(map(has_float, inner)) if isinstance(inner, list) else isinstance(inner, float)

    assert canonical_json.survey(value).has_float == has_float(value)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[1,]", b"nul", b"1 2", b"NaN", b"01", b"[1e400]", b'"\xff"', b'{"\xff":1}', b'"\\ud800"', '"\ud800"'],
    ids=repr,
)
def test_what_is_not_json(data: bytes) -> None:
    for loads in (canonical_json.loads, canonical_json.loads_strict):
        with pytest.raises(JsonSyntaxError) as error:
            loads(data)
        str(error.value).encode()


def test_negative_zero_is_found_wherever_it_stands() -> None:
    for text in ("-0", "[-0]", '{"a": -0 }', "[1,-0,2]", "[1,\n-0\n]"):
        with pytest.raises(CanonicalJsonError):
            canonical_json.loads_strict(text)
    for text in ('["[-0]"]', '{"a:-0,":1}', "[-1,0]", '"2024-01-05, -0, "'):
        assert canonical_json.loads_strict(text) == json.loads(text)


@given(st.binary(max_size=30) | st.text(alphabet='[]{}",:-0123456789.eE\\u tfn', max_size=30).map(str.encode))
def test_parsers_raise_nothing_but_their_errors(data: bytes) -> None:
    try:
        parsed = canonical_json.loads(data)
    except JsonSyntaxError:
        with pytest.raises(JsonSyntaxError):
            canonical_json.loads_strict(data)
        return
    try:
        assert canonical_json.loads_strict(data) == parsed
    except CanonicalJsonError:
        return


@given(json_values(SAFE_INTEGERS | FINITE_FLOATS | st.just(0xCB), st.text() | st.just("˥" * 3) | st.just("a" * 0xCB)))
def test_floats_are_found_among_values_that_look_like_floats_in_message_pack(value: Any) -> None:
    if canonical_json.survey(value).has_float:
        with pytest.raises(CanonicalJsonError):
            canonical_json.encode(value)
    else:
        assert canonical_json.encode(value) == canonicaljson.encode_canonical_json(value)


@given(json_values(), st.integers(min_value=0, max_value=6))
def test_nesting_is_limited(value: Any, levels: int) -> None:
    encoded = canonical_json.encode(value)
    assert canonical_json.is_nested_deeper(value, encoded, levels) == (canonical_json.survey(value).depth > levels)
