"""python -m benchmarks.readers PORT TARGET READERS MESSAGES [--late]: SSE readers on raw sockets, with epoll.

A reader here is as cheap as Python allows, so that what is measured is the server: bytes are counted, not parsed.
Each message holds one mark; with --late the time of sending (steady) and a semicolon follow it, and how late it came is
told. Prints `ready` when every reader has its response head, then `result {...}`.
"""

import json
import select
import socket
import sys
import time

LIMIT = 40.0
MARK = b"@"


def open_readers(port: int, target: str, count: int) -> dict[int, socket.socket]:
    request = f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode()
    readers = {}
    for _ in range(count):
        reader = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        reader.sendall(request)
        reader.setblocking(False)
        readers[reader.fileno()] = reader
    return readers


def main() -> int:
    port, target, count, messages = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    late: list[float] | None = [] if "--late" in sys.argv else None
    deadline = time.monotonic() + LIMIT
    readers = open_readers(port, target, count)
    poll = select.epoll()
    for number in readers:
        poll.register(number, select.EPOLLIN)
    heads = dict.fromkeys(readers, b"")
    delivered, wanted, ended, said = 0, count * messages, 0.0, False
    cpu = 0.0
    while delivered < wanted and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            data = readers[number].recv(1 << 18)
            if not data:
                print(f"a reader was cut off after {delivered} messages", file=sys.stderr)
                return 1
            if number in heads:
                heads[number] += data
                head, found, data = heads[number].partition(b"\r\n\r\n")
                if not found:
                    continue
                if not head.startswith(b"HTTP/1.1 200 "):
                    print(head.decode(errors="replace"), file=sys.stderr)
                    return 1
                del heads[number]
            delivered += data.count(MARK)
            if late is not None:
                now = time.monotonic()
                sent = [each.partition(b";") for each in data.split(MARK)[1:]]
                late += [now - float(when) for when, whole, _ in sent if whole]  # One may come in two pieces.
        ended = time.monotonic()
        if not heads and not said:
            said, cpu = True, time.process_time()
            print("ready", flush=True)
    result = {"delivered": delivered, "ended": ended, "cpu": time.process_time() - cpu}
    if late:
        late.sort()
        result |= {"p50_ms": late[len(late) // 2] * 1e3, "p99_ms": late[int(len(late) * 0.99)] * 1e3}
    print("result", json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
