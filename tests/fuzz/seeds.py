"""Inputs that get far, and the pieces that random bytes would not hit; beside them the corpus found by campaigns."""

from durable_streams_cluster.settings import SETTINGS as ALL_SETTINGS
from durable_streams_cluster.storage import recovery
from durable_streams_proto.v1 import peer_pb2 as pb
from tests.fuzz import requests
from tests.storage.test_codecs import STORED as VALUES

HEADERS = (
    *(b"content-type:text/plain", b"content-type:application/json", b"content-type: Application/JSON; charset=utf-8"),
    *(b"stream-ttl:60", b"stream-expires-at:2030-01-01T00:00:00Z", b"stream-closed:true", b"stream-seq:a1"),
    *(b"producer-id:p", b"producer-epoch:1", b"producer-seq:0", b"stream-forked-from:/v1/stream/t"),
    *(b"stream-fork-offset:0000000000000001_0000000000000004", b"stream-fork-sub-offset:1", b"if-none-match:*"),
    *(b"if-match:0000000000000001_0000000000000004", b"if-match:*"),
)
LINES = tuple(b"\n" + header for header in HEADERS)
NUMBERS = (b"9007199254740991", b"9007199254740992", b"315360000", b"-1", b"+1", b"0", b"00", b"1_0", b"\xb2", b"1e3")
OFFSET = b"0000000000000001_0000000000000004"
PATH = (
    *(b"%2F", b"%2f", b"..", b".", b"/", b"//", b"%2e", b"%2E%2e", b"%00", b"%7f", b"%C3%A9", b"%c3", b"%", b"%%41"),
    *(b"%25", b"__ds", b"__ds/", b"\xc3\xa9", b"\xff", b"/v1/stream/", requests.ROOT, b"?", b"#", b"%0d%0a", b"a" * 64),
)
TIMES = (
    *(b"2030-01-01T00:00:00Z", b"1970-01-01T00:00:00", b"9999-12-31T23:59:59", b"+00:00", b"-23:59", b"+24:00"),
    *(b".123456789", b".1", b"Z", b"z", b"t", b"0000", b"2000-02-29", b"1900-02-29", b"\xd9\xa3", b" ", b"-00:01"),
)
QUERY = (
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
    OFFSET,
)

HOST = b" HTTP/1.1\r\nHost: h\r\n"
POST = b"POST /v1/stream/t" + HOST + b"Content-Type: text/plain\r\n"
REQUESTS = (
    b"GET /v1/stream/t?offset=-1" + HOST + b"\r\n",
    b"GET /v1/stream/j?offset=now&live=long-poll&cursor=1" + HOST + b"If-None-Match: *\r\n\r\n",
    b"GET /v1/stream/b?offset=-1&live=sse" + HOST + b"\r\n",
    b"HEAD /v1/stream/c" + HOST + b"\r\n",
    b"DELETE /v1/stream/f" + HOST + b"\r\n",
    b"OPTIONS /v1/stream/t" + HOST + b"Access-Control-Request-Headers: x, y\r\n\r\n",
    b"PATCH /v1/stream/t" + HOST + b"\r\n",
    b"GET /v1/stream/?prefix=&after=c&limit=2" + HOST + b"\r\n",
    POST + b"If-Match: " + OFFSET + b"\r\nContent-Length: 1\r\n\r\na",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET http://h/v1/stream/t HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    b"CONNECT h:1" + HOST + b"\r\n",
    POST + b"Content-Length: 3\r\n\r\nabc",
    POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n",
    POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    POST + b"Connection: Upgrade, x\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    POST + b"Producer-Id: p\r\nProducer-Epoch: 0\r\nProducer-Seq: 0\r\nStream-Seq: 1\r\nContent-Length: 1\r\n\r\na",
    POST + b"Stream-Closed: true\r\nContent-Length: 0\r\n\r\n",
    b"POST /v1/stream/j" + HOST + b"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n[1,[2]]",
    b"PUT /v1/stream/n" + HOST + b"Stream-TTL: 1\r\nContent-Length: 0\r\n\r\n",
    b"PUT /v1/stream/n%2fo" + HOST + b"Content-Type: a/b\r\nStream-Expires-At: 2030-01-01T00:00:00Z\r\n\r\n",
    b"PUT /v1/stream/g" + HOST + b"Stream-Forked-From: /v1/stream/j\r\nStream-Fork-Sub-Offset: 1\r\n\r\n",
    b"POST /v1/stream/t" + HOST + b"Content-Type: text/plain\r\nContent-Length: 600\r\n\r\n" + b"x" * 600,
    b"GET /v1/stream/t" + HOST + b"X: " + b"y" * 1100 + b"\r\n\r\n",
    b"GET /v1/stream/" + b"t" * 300 + HOST + b"\r\n",
)


def _batch(epoch: int, seq: int, more: bytes = b"") -> bytes:
    numbers = b"Producer-Id: p\r\nProducer-Epoch: %d\r\nProducer-Seq: %d\r\n" % (epoch, seq)
    return POST + numbers + more + b"Content-Length: 1\r\n\r\na"


CLOSED = b"GET /v1/stream/c?offset=now&live=long-poll" + HOST + b"\r\n"
SOFT = b"/v1/stream/j" + HOST + b"\r\n"
"""A stream with a fork."""
STORIES = (
    _batch(0, 0) + _batch(0, 1) + _batch(0, 0) + _batch(0, 5) + _batch(1, 1) + _batch(1, 0) + _batch(0, 2),
    _batch(0, 0) + _batch(0, 1, b"Stream-Closed: true\r\n") * 2 + _batch(0, 2) + _batch(0, 1),
    POST.replace(b"/t", b"/c") + b"Content-Length: 1\r\n\r\na" + CLOSED * 6,
    b"DELETE " + SOFT + b"GET " + SOFT + b"PUT " + SOFT + b"DELETE /v1/stream/f" + HOST + b"\r\nGET " + SOFT,
    b"GET /v1/stream/b?offset=-1&live=sse HTTP/1.0\r\n\r\n",
    b"GET /v1/stream/t HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2,
    POST + b"Stream-Seq: b\r\nContent-Length: 1\r\n\r\na" + POST + b"Stream-Seq: a\r\nContent-Length: 1\r\n\r\na",
    b"".join(b"PUT /v1/stream/t" + HOST + kind + b"\r\n" for kind in (b"", b"Content-Type: text/plain\r\n")),
    b"PUT /v1/stream/g" + HOST + b"Stream-Forked-From: /v1/stream/t\r\nStream-Fork-Offset: " + OFFSET + b"\r\n\r\n",
    b"PUT /v1/stream/g"
    + HOST
    + b"Stream-Forked-From: /v1/stream/none\r\n\r\nGET /v1/stream/g?offset=-1"
    + HOST
    + b"\r\n",
    b"GET /v1/stream/t?offset=0000000000000007_0000000000000004"
    + HOST
    + b"\r\nGET /v1/stream/t?offset="
    + OFFSET
    + HOST
    + b"\r\n",
    b"PUT /v1/stream/n" + HOST + b"Stream-TTL: 1\r\n\r\nGET /v1/stream/n?offset=-1&live=sse" + HOST + b"\r\n",
    b"OPTIONS *" + HOST + b"\r\nGET /x" + HOST + b"\r\nOPTIONS /x" + HOST + b"\r\n",
)
WAYS = (
    *(b"\0\0", b"\0\1", b"\1\2", b"\x11\3", b"\2\4", b"\4\5", b"\x0c\6", b"\x13\7", b"\x20\1", b"\x40\0", b"\x42\1"),
)
SESSIONS = (
    *(WAYS[place % len(WAYS)] + request for place, request in enumerate(REQUESTS)),
    *(b"\0\1" + story for story in STORIES),
    b"\0\1" + b"".join(REQUESTS[:6]),
    b"\x11\0" + b"".join(REQUESTS[9:17]),
    b"\0\0" + REQUESTS[0] * 40,
    b"\0\2" + b"".join(REQUESTS[place] for place in (13, 11, 13, 3, 1)),
)
WIRE = (
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
    *(header.replace(b":", b": ", 1) + b"\r\n" for header in HEADERS),
    *REQUESTS[:2],
)
OPS = (
    b"\0\0GET /livez HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\x80\1GET /readyz?verbose HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\0\2GET /metrics HTTP/1.1\r\nHost: h\r\n\r\nHEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\0\0POST /readyz HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
)

JSON = (
    *(b"[]", b"1", b'"a"', b"[1,2,3]", b' [ 1 , "a,b" , [2,[3]] , {"a":[1,2]} ] ', b'{"a":1,"a":2}', b"[[]]"),
    *(rb'["\ud83d"]', rb'["\\ud83d\ud83d\ude00"]', b"[1e400,-0,0.10]", b"[null,true,false]", b'"\xc3\xa9"', b'["]"]'),
    *(b"[" * 100 + b"]" * 100, b"[" * 2000 + b"]" * 2000, b'{"a":' * 90 + b"1" + b"}" * 90, b"[1,]", b"nul", b'["\\'),
    *(rb'["\",\"",1]', rb'["a\\",2,"\\\",",3]'),
)

VALUE_ORDER = ("meta", "producer", "applied", "command 0 Create", "membership")
STORED = (
    *(bytes([which]) + VALUES[name][1][1:] for which, name in enumerate(VALUE_ORDER)),
    *(b"\3" + stored[1:] for name, (_, stored, _) in VALUES.items() if name.startswith("command")),
)
MSGPACK = (
    *(b"\x90", b"\x91", b"\x9f", b"\xc0", b"\xc2", b"\xc3", b"\xa0", b"\xa1a", b"\xc4\x01a", b"\xcf" + b"\xff" * 8),
    *(b"\xd3" + b"\x80" + b"\0" * 7, b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 300),
    *(b"\xcb" + b"\0" * 8, b"\x80", b"\xc7\x01\x01a", b"\xa2\xff\xfe", b"\x01", b"\xd9\xff", b"\xce\xff\xff\xff\xff"),
)
NOISE = (bytes(range(256)), b"\xff" * 120, b"\0" * 40, bytes(range(0, 256, 7)) * 4, b"\x41\x05abcde" * 20)

TOML = b"""---
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
CONFIGS = (
    TOML,
    b"--node n2\nDURABLE_STREAMS_HTTP=[::1]:80\nDURABLE_STREAMS_X=1\n" + TOML,
    b"--http 0.0.0.0:80\n--allow-unauthenticated true\n--advertise h\n--public-url https://h:1/p\n",
    b"--initial-cluster n1=a:1,n2=b:2\n--join a:1\nDURABLE_STREAMS_PORT=tcp://1.2.3.4:5\n",
    b"---\nmax-append-bytes = 0x" + b"f" * 4000,
    b"---\nmax-append-bytes = " + b"9" * 4400,
    b"---\njoin = " + b"[" * 600 + b"]" * 600,
    b"---\nlog.format" + b".a" * 1200 + b" = 1",
    b"--public-url http://h/a b\xc3\xa9\n",
    b"DURABLE_STREAMS_PREFIXES=a/ ttl=60s retain-bytes=1KiB, * max-bytes=5,%C3%A9 retain-age=1d\n",
)
TOML_TOKENS = (
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
    *(setting.key.encode() for setting in ALL_SETTINGS),
    *(setting.env.encode() + b"=" for setting in ALL_SETTINGS),
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
SETTINGS = (
    *(b"127.0.0.1:80", b"[::1]:80", b"[fe80::1%eth0]:1", b"a.b-c.:1", b"localhost:65535", b"500ms", b"1.5h", b"24h"),
    *(b"16MiB", b"999999999999999999TiB", b"1 GB", b"[::ffff:0.0.0.0]:1", b"0", b"127.1:1", b"0x7f.1:1", b"1."),
    *(b"a/ ttl=60s retain-bytes=1KiB, * max-bytes=5", b"%C3%A9 retain-age=7d,a ttl=1m", b"7d"),
    *(b"a%2F%2Fb%00/../%2e ttl=60s", b"__ds/%2A%ff%c3 ttl=1m"),
    *(b"DURABLE_STREAMS_A_SERVICE_PORT_HTTP", b"DURABLE_STREAMS_PORT_1_TCP_ADDR", b"DURABLE_STREAMS_PORT", b"tcp://h"),
)

WAL = (
    b"\0\0\0\0" + b"\x80\x05" + b"\1" + b"\x05abcde" + b"\0" + b"\0\0\0\0\x80\x00\x08\x00\x00",
    b"\x11\x22\x33\x44\xc0\0\0\0\0\0\0\x7f\xf9\2\0\1\xc0\0\0\0\0\0\0\0\5" * 3,
    b"\1\2\3\4\x05\x00\x01abcde\1\2\3\4\x00\x00\x83",
)
TURNS = (
    b"\x80\5\x80\6\x80\x10",
    recovery._pack(7).ljust(4096, b"\0") + recovery._pack(8),
    b"".join(recovery.turn_key(turn) for turn in range(1, 65)),
    b"\1\x80\7",
)
FORMATS = (
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
IDENTITIES = (
    b'{"node": "n1", "incarnation": 7, "cluster": "", "record": [], "begun": false, "comment": "x"}\n1',
    b'{"node":"n1","incarnation":7,"cluster":"c-1","record":[["n1",7,"host:1",true,false],["n2",8]],"begun":true}\n1',
    b'{"node":"n1","incarnation":9223372036854775807,"cluster":"c-1","begun":true}\n1',
    b'{"node":"n1","incarnation":7,"cluster":"c-1","members":["n1"]}',
    b'{"node":"n1","incarnation":0}',
    b'{"node":"n1","incarnation":7,"more":' + b"[" * 1100 + b"]" * 1100 + b"}",
    b'{"node":"n1","incarnation":' + b"9" * 3000 + b"}",
)
_MEMBER = pb.Member(node="n2", incarnation=8, address="[::1]:4439", voter=True, rises=True)
_SAID = pb.Introduction(
    node="n1", incarnation=7, cluster="c-1", record=[_MEMBER], begun=True, initial=[pb.Member(node="n3", address="h:1")]
)
INTRODUCTIONS = (
    b"\0" + _SAID.SerializeToString(),
    *(
        b"\1" + request.SerializeToString()
        for request in (
            pb.ChangeRequest(cluster="c-1", join=_MEMBER),
            pb.ChangeRequest(add=_MEMBER, handed_on=True),
            pb.ChangeRequest(promote="n1"),
            pb.ChangeRequest(remove="n1"),
            pb.ChangeRequest(readdress=pb.Readdress(node="n1", address="h:1")),
            pb.ChangeRequest(transfer="n1"),
            pb.ChangeRequest(transfer=""),
        )
    ),
)
