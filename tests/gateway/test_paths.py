"""Which stream a URL names: properties; the rules one by one are in ``testdata/paths.http.txt``."""

from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.gateway.paths import source_path, stream_path

SEGMENT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/" + "".join(map(chr, [*range(32), 127]))), min_size=1
).filter(lambda text: text not in {".", ".."})
PATH = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join).filter(lambda path: path.split("/")[0] != "__ds")


@given(PATH)
def test_a_path_is_what_was_encoded_in_whatever_way(path: str) -> None:
    assert stream_path(quote(path).encode(), 10_000) == path
    assert stream_path(quote(path, safe="").encode(), 10_000) == path, "as encodeURIComponent does"
    everything = "".join(f"%{byte:02x}" for byte in path.encode())
    assert stream_path(everything.encode(), 10_000) == path


@given(st.binary(max_size=40))
def test_any_bytes_name_one_clean_path_or_none(raw: bytes) -> None:
    try:
        path = stream_path(raw, 30)
    except BadRequest:
        return
    assert 0 < len(path.encode()) <= 30
    segments = path.split("/")
    assert not {"", ".", ".."} & set(segments)
    assert segments[0] != "__ds"
    assert path.isprintable() or all(ord(char) >= 32 for char in path)
    assert stream_path(quote(path, safe="").encode(), 30) == path, "the path names itself"


@given(PATH, st.sampled_from([".", "..", ""]), st.integers(0, 3))
def test_no_segment_climbs_or_is_empty(path: str, bad: str, place: int) -> None:
    segments = path.split("/")
    segments.insert(min(place, len(segments)), bad)
    for safe in ("/", ""):
        encoded = quote("/".join(segments), safe=safe).replace(".", "%2E" if safe else ".")
        with pytest.raises(BadRequest):
            stream_path(encoded.encode(), 10_000)


@given(PATH)
def test_the_source_of_a_fork_is_named_by_the_path_of_its_url(path: str) -> None:
    assume(len(path.encode()) <= 1_024)
    url_path = b"/v1/stream/" + quote(path).encode()
    assert source_path(url_path, b"", 1_024) == path
    assert source_path(b"/api" + url_path, b"/api", 1_024) == path


@pytest.mark.parametrize("value", [b"", b"s", b"/v1/stream", b"/v1/stream/", b"/v2/stream/s", b"//v1/stream/s", b"*"])
def test_the_source_must_be_a_stream_of_this_server(value: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        source_path(value, b"", 100)
    assert refused.value.field == "Stream-Forked-From"
