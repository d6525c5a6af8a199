"""The reader of server-sent events: any chunking of any bytes gives the same events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bicameral.engines.remote.sse import Reader, TooBig

CAP = 24
TOKENS = b"data: |data:|data|\n|\r\n|\r|\n\n|: hi|event: x|\xef\xbb\xbf|id: 1| |data: a\n\n"


def read(chunks: list[bytes], cap: int = CAP) -> tuple[list[bytes], bool]:
    """The events, and whether the cap was hit."""
    reader, events = Reader(cap), []
    try:
        for chunk in chunks:
            events.extend(reader.feed(chunk))
        events.extend(reader.end())
    except TooBig:
        return events, True
    return events, False


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(at)]


pieces = st.lists(
    st.one_of(
        st.sampled_from(TOKENS.split(b"|")),
        st.binary(max_size=30),
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=500)
@given(pieces, st.lists(st.integers(0, 400)))
@example(b"data: a\ndata: b\n\n", [8])
@example(b"data: a\r\ndata: b\r\n\r\n", [8])
@example(b"data: a\r\n\r\ndata: b\n\n", [10, 11])
@example(b"\xef\xbb\xbfdata: b\n\n", [1])
def test_any_chunking_of_any_bytes_gives_the_same(data: bytes, cuts: list[int]) -> None:
    assert read(split(data, cuts)) == read([data])


@given(pieces)
def test_one_byte_packets_give_the_same(data: bytes) -> None:
    assert read([data[i : i + 1] for i in range(len(data))]) == read([data])


def by_the_standard(text: str) -> list[bytes]:
    """Section 9.2.6 of the HTML standard, written as it reads."""
    events, data = [], ""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines:
        if line == "":
            if data:
                events.append(data.removesuffix("\n").encode())
            data = ""
        elif line.startswith(":"):
            continue
        else:
            field, _, value = line.partition(":")
            if field == "data":
                data += value.removeprefix(" ") + "\n"
    if data:  # ours gives an event that the end left open
        events.append(data.removesuffix("\n").encode())
    return events


texts = st.lists(
    st.sampled_from(
        [
            "data: a",
            "data:b",
            "data",
            "data:  c",
            ":x",
            "event: e",
            "\n",
            "\r\n",
            "\r",
            "汉",
            "\ufeff",
        ]
    )
).map("".join)


@given(texts)
def test_it_reads_as_the_standard_says(text: str) -> None:
    assert read([text.encode()], cap=10_000) == (by_the_standard(text), False)


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b": comment\n\nevent: x\ndata: a\nid: 3\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"", []),
        (b"\n\n\n\n", []),
    ],
)
def test_examples(data: bytes, events: list[bytes]) -> None:
    assert read([data], 1000) == (events, False)


def test_an_event_comes_as_soon_as_it_is_whole() -> None:
    reader = Reader()
    assert list(reader.feed(b"data: a\n")) == []
    assert list(reader.feed(b"\n")) == [b"a"]
    assert list(reader.feed(b"data: b\n\n")) == [b"b"]


def feed(reader: Reader, piece: bytes, times: int) -> None:
    for _ in range(times):
        list(reader.feed(piece))


def test_an_endless_line_is_cut_at_the_cap_and_holds_no_more_memory_than_that() -> None:
    reader = Reader(1000)
    with pytest.raises(TooBig):
        feed(reader, b"x" * 100, times=100)
    assert len(reader._line) <= 1000


def test_an_endless_event_is_cut_at_the_cap() -> None:
    reader = Reader(1000)
    with pytest.raises(TooBig):
        feed(reader, b"data: " + b"x" * 100 + b"\n", times=100)
