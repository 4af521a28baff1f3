"""The scanner against RFC 8259, and against decoders that agree with it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.json import numbers as json_numbers
from forwarder.core.json import text as json_text
from forwarder.core.json.text import Malformed

MUST_ACCEPT = [
    b"{}",
    b"[]",
    b" [ ] ",
    b'{"a":1}',
    b'{ "a" : [ 1 , 2.5 , -0 , 1e400 , 1E+2 , 0.1e-9 ] , "b" : { } }',
    b'"\\u0000\\"\\\\\\/\\b\\f\\n\\r\\t"',
    b'"\\ud800"',
    b'"\\udc00 lone"',
    b'"\\ud83d\\ude00"',
    b'"\x7f"',
    '"\u20ac\U0001f600"'.encode(),
    b'{"a":1,"a":2}',
    b'{"":""}',
    b"9" * 5000,
    b"-1",
    b"true",
    b"[true,false,null]",
    b"[" * 600 + b"]" * 600,
    b'{"a":' * 600 + b"1" + b"}" * 600,
    b'{"a":1,"b":{"c":[1,{"d":2}],"e":"f"},"g":"\\n","h":3}',
    b"{" + b",".join(b'"k%d":"v"' % i for i in range(200)) + b"}",
]
MUST_REFUSE = [
    (b"", 0),
    (b" ", 1),
    (b"{", 1),
    (b"[", 1),
    (b"[1", 2),
    (b"[1,", 3),
    (b"[1,]", 3),
    (b"[,1]", 1),
    (b"[1 2]", 3),
    (b"[1}", 2),
    (b'{"a"}', 4),
    (b'{"a" 1}', 5),
    (b'{"a":}', 5),
    (b'{"a":1,}', 7),
    (b'{"a":1,,"b":2}', 7),
    (b"{a:1}", 1),
    (b"{'a':1}", 1),
    (b"{1:1}", 1),
    (b'{"a":1}x', 7),
    (b"[]]", 2),
    (b"01", 1),
    (b"1.", 1),
    (b".5", 0),
    (b"+1", 0),
    (b"-", 0),
    (b"1e", 1),
    (b"NaN", 0),
    (b"-Infinity", 0),
    (b"tru", 0),
    (b"True", 0),
    (b'"a', 2),
    (b'"\\x"', 1),
    (b'"\\u12g4"', 1),
    (b'"a\nb"', 2),
    (b'"a\x00b"', 2),
    (b"\x0c1", 0),
    (b"\xef\xbb\xbf{}", 0),
    (b"// comment\n1", 0),
    (b'{"a":"b"}{"c":"d"}', 9),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)


@pytest.mark.parametrize("text", MUST_ACCEPT, ids=lambda text: repr(text[:30]))
def test_every_valid_text_is_one_whole_value(text: bytes) -> None:
    found = json_text.whole(text)
    assert text[found.start : found.end] == text.strip(json_text.WHITESPACE)


@pytest.mark.parametrize(("text", "offset"), MUST_REFUSE, ids=repr)
def test_every_invalid_text_is_refused_at_the_byte_where_it_breaks(text: bytes, offset: int) -> None:
    with pytest.raises(Malformed) as caught:
        json_text.whole(text)
    assert caught.value.offset == offset


@given(json_values, st.sampled_from([None, 1]), st.booleans())
def test_whatever_a_serializer_writes_is_valid(value: Any, indent: int | None, ascii_only: bool) -> None:  # noqa: FBT001
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert json_text.whole(text).end == len(text)


@given(st.text(alphabet='{}[]",:\\u019eE+-.truefalsn d8 \n', max_size=40))
def test_the_scanner_agrees_with_the_decoder_on_every_text_without_surrogates(text: str) -> None:
    data = json_text.harmless(text.encode())
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except msgspec.DecodeError:
        with pytest.raises(Malformed):
            json_text.whole(data)
    else:
        assert json_text.whole(data).end <= len(data)


@given(st.binary(max_size=60))
def test_random_bytes_are_valid_or_malformed_and_nothing_else(data: bytes) -> None:
    offset = _breaks_at(data)
    assert offset is None or 0 <= offset <= len(data)


@pytest.mark.parametrize(("text", "depth"), [(b"1", 0), (b"{}", 1), (b"[[],[[]]]", 3), (b'{"a":{"b":[]},"c":1}', 3)])
def test_depth_counts_nested_containers(text: bytes, depth: int) -> None:
    assert json_text.value(text).depth == depth


def test_a_body_of_brackets_is_given_up_at_a_depth_and_not_at_its_end() -> None:
    with pytest.raises(Malformed) as caught:
        json_text.whole(b"[" * 1_000_000)
    assert caught.value.offset == json_text.MAX_SCAN_DEPTH


def test_elements_are_their_bytes_without_the_whitespace_around_them() -> None:
    text = b' [ {"a": 1} ,\n[2] , "x,]" ] '
    assert [text[each.start : each.end] for each in json_text.elements(text)] == [b'{"a": 1}', b"[2]", b'"x,]"']


@pytest.mark.parametrize("text", [b"[1,]", b"[1", b"[1]x", b"[1 2]", b"[,]"])
def test_elements_check_the_array_to_its_end(text: bytes) -> None:
    with pytest.raises(Malformed):
        list(json_text.elements(text))


@pytest.mark.parametrize("text", [b'{"a":1,}', b'{"a":1', b'{"a":1}x', b'{"a" 1}', b"{,}"])
def test_members_check_the_object_to_its_end(text: bytes) -> None:
    with pytest.raises(Malformed):
        list(json_text.members(text))


def test_members_decode_escaped_names_and_keep_duplicates_in_order() -> None:
    text = b'{ "\\u0061" : 1 , "b":{"a":2}, "a" :[3], "\\ud800":4}'
    found = [(each.name, text[each.value.start : each.value.end]) for each in json_text.members(text)]
    assert found == [("a", b"1"), ("b", b'{"a":2}'), ("a", b"[3]"), ("\ud800", b"4")]


@pytest.mark.parametrize("text", [b"[]", b"[ ]"])
def test_an_empty_array_has_no_elements(text: bytes) -> None:
    assert list(json_text.elements(text)) == []


@pytest.mark.parametrize("text", [b"{}", b" { } "])
def test_an_empty_object_has_no_members(text: bytes) -> None:
    assert list(json_text.members(text)) == []


@pytest.mark.parametrize(
    ("text", "offset"), [(b"abc", None), ("ü€".encode(), None), (b"ab\xff", 2), (b"\xed\xa0\x80", 0), (b"\xc3", 0)]
)
def test_invalid_utf8_is_found_at_its_offset(text: bytes, offset: int | None) -> None:
    assert json_text.invalid_utf8(text) == offset


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        (b"[NaN]", b"[null]"),
        (b"[Infinity,-Infinity]", b"[null,null]"),
        (b'{"NaN":"-Infinity","a":NaN}', b'{"NaN":"-Infinity","a":null}'),
        (b'["\\"NaN",NaN,"\\\\",-Infinity]', b'["\\"NaN",null,"\\\\",null]'),
        (b'["a\\\\\\"NaN\\"",NaN]', b'["a\\\\\\"NaN\\"",null]'),
    ],
)
def test_numbers_that_json_has_not_become_null_outside_strings_only(text: bytes, repaired: bytes) -> None:
    found = json_numbers.repair(text)
    assert found is not None
    assert found.text == repaired


@pytest.mark.parametrize("text", [b"[1]", b'["NaN"]', b'["Infinity","\\"NaN"]', b"[Nan]", b'["NaN', b'["\\\\\\"NaN"]'])
def test_nothing_to_repair_is_none(text: bytes) -> None:
    assert json_numbers.repair(text) is None


def test_an_offset_behind_a_repair_is_told_in_the_original() -> None:
    text = b"[NaN,-Infinity,x]"
    found = json_numbers.repair(text)
    assert found is not None
    assert found.original(found.text.index(b"x")) == text.index(b"x")


@given(st.lists(st.sampled_from([b"NaN", b"-Infinity", b"Infinity", b"1", b'"NaN"', b'"\\"Infinity"', b"null"])))
def test_repair_equals_what_a_tolerant_decoder_reads(tokens: list[bytes]) -> None:
    text = b"[" + b", ".join(tokens) + b"]"
    found = json_numbers.repair(text)
    expected = json.loads(text, parse_constant=lambda _: None)
    assert json.loads(found.text if found else text) == expected


@given(st.text(alphabet='\\ud83dDE0 "', max_size=30))
def test_hiding_surrogates_keeps_length_and_validity(inner: str) -> None:
    text = inner.encode()
    masked = json_text.harmless(text)
    assert len(masked) == len(text)
    assert _breaks_at(b'["' + text + b'"]') == _breaks_at(b'["' + masked + b'"]')


def _breaks_at(text: bytes) -> int | None:
    try:
        json_text.whole(text)
    except Malformed as error:
        return error.offset
    return None


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_the_quick_depth_is_the_exact_one(document: object) -> None:
    text = json.dumps(document).encode()
    assert json_text.depth(text) == json_text.value(text).depth


def test_a_broken_escape_behind_a_sound_one_is_refused() -> None:
    with pytest.raises(Malformed, match="invalid escape"):
        json_text.value(rb'"\u001f\u 01f"')
