"""What an attack does to the node: its memory, the kernel's memory for sockets, and what it says that it refused."""

import re
import threading
import urllib.request
from pathlib import Path

from tests.server import Server

EVERY_S = 0.1
MB = 1e6
REFUSED = re.compile(
    r'^durable_streams_(?:http_connections_refused_total\{listener="http",reason="([^"]+)"\}) (\S+)$', re.MULTILINE
)
ANSWERED = re.compile(
    r'^durable_streams_http_requests_total\{method="(\w+)",status="(4\d\d|5\d\d)"\} (\S+)$', re.MULTILINE
)


class Memory(threading.Thread):
    """Samples a process: anonymous resident memory (what it has allocated), and the pages of all TCP sockets here."""

    def __init__(self, pid: int, ceiling_mb: float) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.ceiling_mb = ceiling_mb
        self.now = self.peak = self.resident = 0.0
        self.kernel = self.kernel_peak = 0.0
        self.burst = threading.Event()
        """More than the ceiling: the attack must end before this machine does."""
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(EVERY_S):
            self.sample()

    def sample(self) -> None:
        status = Path(f"/proc/{self.pid}/status").read_text()
        fields = {
            name: int(value.split()[0])
            for name, _, value in (line.partition(":") for line in status.splitlines())
            if value.endswith("kB")
        }
        self.now = fields["RssAnon"] * 1024 / MB
        self.resident = fields["VmRSS"] * 1024 / MB
        self.kernel = (
            int(re.search(r"^TCP:.* mem (\d+)$", Path("/proc/net/sockstat").read_text(), re.MULTILINE)[1]) * 4096 / MB
        )
        self.peak = max(self.peak, self.now)
        self.kernel_peak = max(self.kernel_peak, self.kernel)
        if self.now > self.ceiling_mb:
            self.burst.set()

    def restart(self) -> None:
        self.sample()
        self.peak, self.kernel_peak = self.now, self.kernel

    def stop(self) -> None:
        self._done.set()
        self.join()


def refusals(server: Server) -> dict[str, float]:
    """Connections refused or cut, by reason, and requests answered with an error, by status."""
    with urllib.request.urlopen(f"{server.ops_url}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found = {reason: float(count) for reason, count in REFUSED.findall(text)}
    for method, status, count in ANSWERED.findall(text):
        found[f"{method} {status}"] = float(count)
    return found
