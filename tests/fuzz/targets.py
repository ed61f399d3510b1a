"""Every target, with inputs that get far and the pieces that they are made of."""

from collections.abc import Mapping

from durable_streams_cluster.settings import SETTINGS
from durable_streams_cluster.storage import codecs, recovery
from tests.fuzz import configuration, events, files, json_text, requests, stored, wire
from tests.fuzz.engine import Target
from tests.storage.test_codecs import STORED

_HEADERS = (
    *(b"content-type:text/plain", b"content-type:application/json", b"content-type: Application/JSON; charset=utf-8"),
    *(b"stream-ttl:60", b"stream-expires-at:2030-01-01T00:00:00Z", b"stream-closed:true", b"stream-seq:a1"),
    *(b"producer-id:p", b"producer-epoch:1", b"producer-seq:0", b"stream-forked-from:/v1/stream/t"),
    *(b"stream-fork-offset:0000000000000001_0000000000000004", b"stream-fork-sub-offset:1", b"if-none-match:*"),
    *(b"if-match:0000000000000001_0000000000000004", b"if-match:*"),
)
_LINES = tuple(b"\n" + header for header in _HEADERS)
_NUMBERS = (b"9007199254740991", b"9007199254740992", b"315360000", b"-1", b"+1", b"0", b"00", b"1_0", b"\xb2", b"1e3")
_OFFSET = b"0000000000000001_0000000000000004"
_PATH = (
    *(b"%2F", b"%2f", b"..", b".", b"/", b"//", b"%2e", b"%2E%2e", b"%00", b"%7f", b"%C3%A9", b"%c3", b"%", b"%%41"),
    *(b"%25", b"__ds", b"__ds/", b"\xc3\xa9", b"\xff", b"/v1/stream/", requests.ROOT, b"?", b"#", b"%0d%0a", b"a" * 64),
)
_TIMES = (
    *(b"2030-01-01T00:00:00Z", b"1970-01-01T00:00:00", b"9999-12-31T23:59:59", b"+00:00", b"-23:59", b"+24:00"),
    *(b".123456789", b".1", b"Z", b"z", b"t", b"0000", b"2000-02-29", b"1900-02-29", b"\xd9\xa3", b" ", b"-00:01"),
)
_QUERY = (
    b"offset=",
    b"live=",
    b"cursor=",
    b"&",
    b"now",
    b"-1",
    b"long-poll",
    b"sse",
    b"%5F",
    b"+",
    b";",
    b"=",
    _OFFSET,
)

_HOST = b" HTTP/1.1\r\nHost: h\r\n"
_POST = b"POST /v1/stream/t" + _HOST + b"Content-Type: text/plain\r\n"
_REQUESTS = (
    b"GET /v1/stream/t?offset=-1" + _HOST + b"\r\n",
    b"GET /v1/stream/j?offset=now&live=long-poll&cursor=1" + _HOST + b"If-None-Match: *\r\n\r\n",
    b"GET /v1/stream/b?offset=-1&live=sse" + _HOST + b"\r\n",
    b"HEAD /v1/stream/c" + _HOST + b"\r\n",
    b"DELETE /v1/stream/f" + _HOST + b"\r\n",
    b"OPTIONS /v1/stream/t" + _HOST + b"Access-Control-Request-Headers: x, y\r\n\r\n",
    b"PATCH /v1/stream/t" + _HOST + b"\r\n",
    b"GET /v1/stream/?prefix=&after=c&limit=2" + _HOST + b"\r\n",
    _POST + b"If-Match: " + _OFFSET + b"\r\nContent-Length: 1\r\n\r\na",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET http://h/v1/stream/t HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    b"CONNECT h:1" + _HOST + b"\r\n",
    _POST + b"Content-Length: 3\r\n\r\nabc",
    _POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n",
    _POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    _POST + b"Connection: Upgrade, x\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    _POST + b"Producer-Id: p\r\nProducer-Epoch: 0\r\nProducer-Seq: 0\r\nStream-Seq: 1\r\nContent-Length: 1\r\n\r\na",
    _POST + b"Stream-Closed: true\r\nContent-Length: 0\r\n\r\n",
    b"POST /v1/stream/j" + _HOST + b"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n[1,[2]]",
    b"PUT /v1/stream/n" + _HOST + b"Stream-TTL: 1\r\nContent-Length: 0\r\n\r\n",
    b"PUT /v1/stream/n%2fo" + _HOST + b"Content-Type: a/b\r\nStream-Expires-At: 2030-01-01T00:00:00Z\r\n\r\n",
    b"PUT /v1/stream/g" + _HOST + b"Stream-Forked-From: /v1/stream/j\r\nStream-Fork-Sub-Offset: 1\r\n\r\n",
    b"POST /v1/stream/t" + _HOST + b"Content-Type: text/plain\r\nContent-Length: 600\r\n\r\n" + b"x" * 600,
    b"GET /v1/stream/t" + _HOST + b"X: " + b"y" * 1100 + b"\r\n\r\n",
    b"GET /v1/stream/" + b"t" * 300 + _HOST + b"\r\n",
)
_WAYS = (
    *(b"\0\0", b"\0\1", b"\1\2", b"\x11\3", b"\2\4", b"\4\5", b"\x0c\6", b"\x13\7", b"\x20\1", b"\x40\0", b"\x42\1"),
)
_SESSIONS = (
    *(_WAYS[place % len(_WAYS)] + request for place, request in enumerate(_REQUESTS)),
    b"\0\1" + b"".join(_REQUESTS[:6]),
    b"\x11\0" + b"".join(_REQUESTS[9:17]),
    b"\0\0" + _REQUESTS[0] * 40,
    b"\0\2" + b"".join(_REQUESTS[place] for place in (13, 11, 13, 3, 1)),
)
_WIRE = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b": ",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"HTTP/2.0",
        b"PRI * HTTP/2.0\r\n",
    ),
    *(b"Host: h\r\n", b"Host: h, h\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Connection: close\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: keep-alive\r\n"),
    *(b"Connection: Upgrade\r\n", b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", b"Connection: x,upgrade ,y\r\n"),
    *(
        b"Expect: 100-continue\r\n",
        b"0\r\n\r\n",
        b"5\r\nabcde\r\n",
        b"ffffffffffffffff\r\n",
        b"GET ",
        b"HEAD ",
        b"PUT ",
    ),
    *(b"POST ", b"/v1/stream/t", b"/v1/stream/j", b"*", b"?offset=-1&live=sse", b"?offset=now&live=long-poll", b"\0"),
    *(
        b"%0d%0aX:y",
        b"\t",
        b"\x0b",
        b"\x7f",
        b"\x80",
        b"http://u@h:1/v1/stream/t",
        b"Content-Type: application/json\r\n",
    ),
    *(header.replace(b":", b": ", 1) + b"\r\n" for header in _HEADERS),
    *_REQUESTS[:2],
)
_OPS = (
    b"\0\0GET /livez HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\x80\1GET /readyz?verbose HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\0\2GET /metrics HTTP/1.1\r\nHost: h\r\n\r\nHEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\0\0POST /readyz HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
)

_JSON = (
    *(b"[]", b"1", b'"a"', b"[1,2,3]", b' [ 1 , "a,b" , [2,[3]] , {"a":[1,2]} ] ', b'{"a":1,"a":2}', b"[[]]"),
    *(rb'["\ud83d"]', rb'["\\ud83d\ud83d\ude00"]', b"[1e400,-0,0.10]", b"[null,true,false]", b'"\xc3\xa9"', b'["]"]'),
    *(b"[" * 100 + b"]" * 100, b"[" * 2000 + b"]" * 2000, b'{"a":' * 90 + b"1" + b"}" * 90, b"[1,]", b"nul", b'["\\'),
    *(rb'["\",\"",1]', rb'["a\\",2,"\\\",",3]'),
)

_VALUE_ORDER = ("meta", "producer", "applied", "command 0 Create")
_STORED = (
    *(bytes([which]) + STORED[name][1][1:] for which, name in enumerate(_VALUE_ORDER)),
    *(b"\3" + stored[1:] for name, (_, stored, _) in STORED.items() if name.startswith("command")),
)
_MSGPACK = (
    *(b"\x90", b"\x91", b"\x9f", b"\xc0", b"\xc2", b"\xc3", b"\xa0", b"\xa1a", b"\xc4\x01a", b"\xcf" + b"\xff" * 8),
    *(b"\xd3" + b"\x80" + b"\0" * 7, b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 300),
    *(b"\xcb" + b"\0" * 8, b"\x80", b"\xc7\x01\x01a", b"\xa2\xff\xfe", b"\x01", b"\xd9\xff", b"\xce\xff\xff\xff\xff"),
)
_NOISE = (bytes(range(256)), b"\xff" * 120, b"\0" * 40, bytes(range(0, 256, 7)) * 4, b"\x41\x05abcde" * 20)

_TOML = b"""---
# a file
data-dir = "./data"
in-memory = true
http = "127.0.0.1:0"
initial-cluster = ["n1=127.0.0.1:4439"]
max-append-bytes = 1_000
sse-lifetime = '30s'
[log]
format = "json"
[prefixes."logs/"]
retain-age = "7d"
max-bytes = 1000
"""
_CONFIGS = (
    _TOML,
    b"--node n2\nDURABLE_STREAMS_HTTP=[::1]:80\nDURABLE_STREAMS_X=1\n" + _TOML,
    b"--http 0.0.0.0:80\n--allow-unauthenticated true\n--advertise h\n--public-url https://h:1/p\n",
    b"--initial-cluster n1=a:1,n2=b:2\n--join a:1\nDURABLE_STREAMS_PORT=tcp://1.2.3.4:5\n",
    b"---\nmax-append-bytes = 0x" + b"f" * 4000,
    b"---\nmax-append-bytes = " + b"9" * 4400,
    b"---\njoin = " + b"[" * 600 + b"]" * 600,
    b"---\nlog.format" + b".a" * 1200 + b" = 1",
    b"--public-url http://h/a b\xc3\xa9\n",
    b"DURABLE_STREAMS_PREFIXES=a/ ttl=60s retain-bytes=1KiB, * max-bytes=5,%C3%A9 retain-age=1d\n",
)
_TOML_TOKENS = (
    *(
        b"---\n",
        b"--",
        b"=",
        b" = ",
        b"\n",
        b'"',
        b"'''",
        b'"""',
        b"[",
        b"]",
        b"[[",
        b"{",
        b"}",
        b",",
        b".",
        b"#",
        b"true",
    ),
    *(
        b"\\u0000",
        b"\\ud800",
        b"\\U0010ffff",
        b"1979-05-27T07:32:00Z",
        b"0x",
        b"nan",
        b"inf",
        b"1_0",
        b"\xff",
        b"\xc2\xa0",
    ),
    *(setting.key.encode() for setting in SETTINGS),
    *(setting.env.encode() + b"=" for setting in SETTINGS),
    *(
        b"http://",
        b"https://[::1]:80/",
        b"127.0.0.1:80",
        b"[::]:1",
        b"0.0.0.0:1",
        b"localhost:1",
        b"30s",
        b"16MiB",
        b"\x7f",
    ),
)
_SETTINGS = (
    *(b"127.0.0.1:80", b"[::1]:80", b"[fe80::1%eth0]:1", b"a.b-c.:1", b"localhost:65535", b"500ms", b"1.5h", b"24h"),
    *(b"16MiB", b"999999999999999999TiB", b"1 GB", b"[::ffff:0.0.0.0]:1", b"0", b"127.1:1", b"0x7f.1:1", b"1."),
    *(b"a/ ttl=60s retain-bytes=1KiB, * max-bytes=5", b"%C3%A9 retain-age=7d,a ttl=1m", b"7d"),
    *(b"DURABLE_STREAMS_A_SERVICE_PORT_HTTP", b"DURABLE_STREAMS_PORT_1_TCP_ADDR", b"DURABLE_STREAMS_PORT", b"tcp://h"),
)

_WAL = (
    b"\0\0\0\0" + b"\x80\x05" + b"\1" + b"\x05abcde" + b"\0" + b"\0\0\0\0\x80\x00\x08\x00\x00",
    b"\x11\x22\x33\x44\xc0\0\0\0\0\0\0\x7f\xf9\2\0\1\xc0\0\0\0\0\0\0\0\5" * 3,
    b"\1\2\3\4\x05\x00\x01abcde\1\2\3\4\x00\x00\x83",
)
_TURNS = (
    b"\x80\5\x80\6\x80\x10",
    recovery._pack(7).ljust(4096, b"\0") + recovery._pack(8),
    b"".join(recovery.turn_key(turn) for turn in range(1, 65)),
    b"\1\x80\7",
)
_FORMATS = (
    b'{"format": 1}',
    b'{"format": 1, "comment": "x"}\n',
    b'{"format": 2}',
    b'{"format": true}',
    b'{"format": 1.0}',
    b'{"format": "1"}',
    b"[1]",
    b"\xff\xfe{\0}\0",
    b'{"format": ' + b"[" * 1100 + b"]" * 1100 + b"}",
    b'{"format": "' + b"9" * 3000 + b'"}',
    b'{"format": ' + b"9" * 4400 + b"}",
)

_ALL = (
    Target("append", requests.check_append, (
        b"a/b" + _LINES[0] + b"\n\nhello",
        b"a" + b"".join(_LINES[1:9]) + b"\n\n[1,2]",
        b"a%2Fb" + b"".join(_LINES[5:10]) + b"\n\n",
        b"a" + _LINES[2] + b"\n\n[]",
        b"a" + _LINES[0] + _LINES[0] + b"\n\nx",
    ), (*_LINES, *_NUMBERS, *_PATH, b"\n\n", *json_text.PIECES[:12]), weight=12),
    Target("create", requests.check_create, (
        b"a/b" + _LINES[0] + _LINES[3] + b"\n\nhello",
        b"a" + _LINES[1] + _LINES[4] + _LINES[5] + b"\n\n[1]",
        b"a" + b"".join(_LINES[10:13]) + b"\n\n{}",
        b".a" + b"\nstream-forked-from:/mounted/v1/stream/x%20y\nstream-fork-offset:-1\n\n",
        b"a" + _LINES[3] + _LINES[4] + b"\n\n",
    ), (*_LINES, *_NUMBERS, *_PATH, *_TIMES, b"\n\n"), weight=12),
    Target("read", requests.check_read, (
        b"offset=" + _OFFSET + b"&live=sse&cursor=5" + _LINES[13] + b"\n\n",
        b"offset=now&live=long-poll",
        b"offset=-1",
        b"",
        b"live=sse",
        b"offset=0000000000000001%5F0000000000000004&offset=1",
    ), (*_QUERY, *_LINES, *_NUMBERS)),
    Target("list", requests.check_list, (
        b"prefix=a/&after=a/b&limit=10", b"", b"prefix=a%C3%A9", b"after=a", b"limit=1000", b"prefix=a%00", b"a=1",
    ), (b"prefix=", b"after=", b"limit=", b"&", b"%", b"%00", b"%7f", b"%C3%A9", b"%F0%9F%98%80", b"+", b"a", b"0")),
    Target("headers", requests.check_headers, (
        b"\x00123", b"\x012030-01-01T00:00:00.5+01:00", b"\x012024-02-29t23:59:59Z", b"\x019999-12-31T23:59:59-00:01",
        b"\x011970-01-01T00:00:00+00:01", b"\x02text/plain; charset=utf-8",
        b"\x03" + _OFFSET, b"\x03now", b"\x04TRUE", b"\x05\"" + _OFFSET + b"\"", b"\x06seq", b"\x071",
    ), (*_NUMBERS, *_TIMES, _OFFSET, b"true", b"/", b";", b"=")),
    Target("paths", requests.check_paths, (
        b"a", b"a/b%2Fc", b"%C3%A9/x%20y", b"/v1/stream/a", b"/mounted/v1/stream/a%2fb", b"__dsx", b"a/../b", b"a" * 64,
    ), _PATH, max_len=256),
    Target("caching", requests.check_caching, (*_NOISE, b"\0\5\x029999" + bytes(30)), (b"*", b'"0-0:', b", ", b"W/")),
    Target("wire", wire.check_wire, _SESSIONS, _WIRE, max_len=2500, weight=14, quick=1200),
    Target("ops", wire.check_ops, _OPS, (*_WIRE[:32], b"/livez", b"/readyz", b"?verbose"), weight=2, quick=200),
    Target("json", json_text.check_json, _JSON, json_text.PIECES, max_len=600, weight=20),
    Target("json_pieces", json_text.check_pieces, (
        *(bytes(range(start, start + 20)) for start in (0, 20, 40)), bytes((0, 26, 4, 26, 4, 0, 1, 1)),
        bytes((0, 6, 16, 4, 16, 6, 4, 21, 1)),
        bytes((2, 42, 26, 4, 42, 26, 3)), bytes((0, 6, 13, 14, 6, 4, 6, 11, 6, 1)),
    ), max_len=60, weight=20),
    Target("json_repeated", json_text.check_repeated, (
        bytes((1, 0, 2, 21, 4, 2, 21, 1)), bytes((2, 0, 6, 1, 16, 2, 6, 1)), bytes((1, 0, 4, 6, 13, 6, 4, 2, 21, 1)),
        bytes((0, 1, 0, 0)), bytes((2, 0, 6, 1, 17, 2, 6, 1)), bytes((1, 0, 5, 2, 6, 6, 5, 21, 0)),
    ), max_len=24, weight=1, quick=60),
    Target("sse", events.check_sse, (
        *_NOISE, b"\1\0\1\1\2a\r" + bytes(6) + b"\2\2\nb\1c", b"\0\1\2\2\5a\r\n b\4\r\nc\n" + bytes(6) + b"\1\1\r" +
        bytes(6) + b"\1\1\n", b"\0\3\0\1\5[1,2]", b"\2\5\0\1\5abcde",
    ), (b"\r\n", b"\r", b"\n", b" ", b"data:", b"event: control", b"\n\n", b":", b"id:", b"\0", b"\xef\xbb\xbf")),
    Target("values", stored.check_values, _STORED, _MSGPACK, weight=16),
    Target("damage", stored.check_damage, _NOISE, (b"\x80", b"\xff", b"\x40\0"), weight=10),
    Target("sealed", stored.check_sealed, (
        *_NOISE, bytes(12) + STORED["entry"][1], bytes(12) + STORED["hard state"][1], bytes(24) + b"\x92\3\xa2n1",
    ), (*_MSGPACK, b"\1\2\0\1", b"\1\1")),
    Target("keys", stored.check_keys, (
        *_NOISE, b"E" + bytes(12), b"S" + bytes(14) + b"R" + bytes(8), b"W" + bytes(22), bytes(8), b"a/\xc3\xa9",
    ), (b"E", b"S", b"R", b"W", b"\xff")),
    Target("wal", files.check_wal, _WAL, (b"\0\0\0\0", b"\5", b"\x0b", b"\x83", b"\x7f\xf9"), weight=5, quick=500),
    Target("durable_turn", files.check_durable_turn, _TURNS[:2], (recovery._MAGIC,), max_len=4200, weight=2, quick=500),
    Target("turn_keys", files.check_turn_keys, (*_TURNS[2:], *_NOISE), (b"\0" * 7, b"\0" * 8), quick=500, weight=4),
    Target("format", files.check_format, _FORMATS, (
        b'"format"', b"1", b"{", b"}", b"[", b":", b",", b"null", b"\\u0066", b"e0", b"0", b'"', b"\xef\xbb\xbf",
    ), max_len=6000, weight=2, quick=500),
    Target("config", configuration.check_config, _CONFIGS, _TOML_TOKENS, max_len=3000, weight=5, quick=700),
    Target("settings", configuration.check_settings, _SETTINGS, (
        b":", b"[", b"]", b"%", b"::", b"0x", b".", b"-", b"ms", b"GiB", b"_PORT", b"_SERVICE_HOST", b"\xc2\xb2",
    ), max_len=128),
)  # fmt: skip
TARGETS: Mapping[str, Target] = {target.name: target for target in _ALL}
assert codecs.FORMAT == 1, "the seeds of stored values are of format 1"
