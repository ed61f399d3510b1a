"""Which stream a URL names: properties; the rules one by one are in ``testdata/paths.http.txt``."""

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from durable_streams_cluster.asked import BadRequest
from durable_streams_cluster.gateway.paths import divide, source_path, stream_path

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
    assert source_path(url_path, [b""], 1_024) == path
    assert source_path(b"/api" + url_path, [b"/api"], 1_024) == path


@pytest.mark.parametrize("value", [b"", b"s", b"/v1/stream", b"/v1/stream/", b"/v2/stream/s", b"//v1/stream/s", b"*"])
def test_the_source_must_be_a_stream_of_this_server(value: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        source_path(value, [b"", b"/api"], 100)
    assert refused.value.field == "Stream-Forked-From"


# --- Where the application is mounted.

EVERYTHING, AS_IS = "", "/"


@given(st.lists(SEGMENT, max_size=3), PATH, st.integers(0, 3), st.sampled_from([EVERYTHING, AS_IS]))
def test_a_mount_is_found_however_much_of_it_is_left_and_however_it_is_encoded(
    segments: list[str], path: str, cut: int, safe: str
) -> None:
    assume("v1" not in segments)
    root = "".join(f"/{segment}" for segment in segments)
    left = "".join("/" + quote(segment, safe=safe) for segment in segments[cut:])
    target = b"/v1/stream/" + quote(path, safe=safe).encode()
    mount, rest = divide(left.encode() + target, root.encode())
    assert rest == target
    assert unquote_to_bytes(mount) == root.encode()
    assert mount.endswith(left.encode()), "clients are told what they asked for"
    assert source_path(left.encode() + target, [b"/else", root.encode()], 10_000) == path


@pytest.mark.parametrize(
    ("raw", "root", "mount", "rest"),
    [
        (b"/v1/stream/s", b"", b"", b"/v1/stream/s"),
        (b"/api/v1/stream/s", b"/api/", b"/api", b"/v1/stream/s"),
        (b"/api/v1/stream", b"/api", b"/api", b"/v1/stream"),
        (b"/api", b"/api", b"/api", b""),
        (b"/api/", b"/api", b"/api", b"/"),
        (b"/apiv1/stream/s", b"/api", b"/api", b"/apiv1/stream/s"),
        (b"/api/other", b"/api", b"/api", b"/api/other"),
        # A mount that is called like what is below it.
        (b"/v1/stream/v1/stream/s", b"/v1/stream", b"/v1/stream", b"/v1/stream/s"),
        (b"/v1/stream/s", b"/v1/stream", b"/v1/stream", b"/v1/stream/s"),
        # Behind a proxy that takes /api away, in a framework that is told of it and mounts at /streams.
        (b"/streams/v1/stream/s", b"/api/streams", b"/api/streams", b"/v1/stream/s"),
        (b"/str%65ams/v1/stream/s", b"/a b/streams", b"/a%20b/str%65ams", b"/v1/stream/s"),
        # uvicorn --root-path with an escape: not as ASGI says, and as it is in the path.
        (b"/a%20b/v1/stream/s", b"/a%20b", b"/a%20b", b"/v1/stream/s"),
        (b"/100%25/v1/stream/s", b"/100%", b"/100%25", b"/v1/stream/s"),
        (b"/%zz/v1/stream/s", b"/%", b"/%25", b"/%zz/v1/stream/s"),
        (b"/%", b"/api", b"/api", b"/%"),
    ],
)
def test_a_mount(raw: bytes, root: bytes, mount: bytes, rest: bytes) -> None:
    assert divide(raw, root) == (mount, rest)
