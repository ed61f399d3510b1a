"""Nodes in network namespaces of their own, on one bridge, and rules that drop what goes between two of them.

Clients reach every node whatever is dropped: only what nodes send each other is. It takes root, ``ip`` (iproute2) and
``nft`` (nftables). There is no delay: the kernel at hand may have no netem.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Final

LOSS: Final = "chaos"
"""The table that holds the rules of a namespace."""
PROGRAMS: Final = ("ip", "nft")


def missing() -> str:
    """Why nodes cannot have networks of their own here; empty when they can."""
    if os.geteuid() != 0:
        return "it takes root"
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"{' and '.join(lacking)} missing (Debian: iproute2, nftables)"
    tried = subprocess.run(
        ["unshare", "--net", "nft", "add", "table", "inet", LOSS], capture_output=True, text=True, check=False
    )
    return f"no nft in a network namespace: {tried.stderr.strip()[:100]}" if tried.returncode else ""


_networks = itertools.count()


class Network:
    """One bridge and a namespace a node; names carry this process's id, so that two runs do not meet."""

    def __init__(self, count: int) -> None:
        # The kernel takes namespaces away when it likes: the next network of this process has other names.
        self._tag = f"c{os.getpid() % 100_000}-{next(_networks) % 1000}"
        subnet = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self.hosts: Sequence[str] = [f"{subnet}.{10 + each}" for each in range(count)]
        self._gateway = f"{subnet}.1"
        self._made: list[list[str]] = []

    def make(self) -> None:
        """Bridge, namespaces and what connects them."""
        bridge = f"{self._tag}b"
        _run("ip", "link", "add", bridge, "type", "bridge")
        self._made.append(["ip", "link", "del", bridge])
        _run("ip", "addr", "add", f"{self._gateway}/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        for number, host in enumerate(self.hosts):
            name, outer = self.namespace(number), f"{self._tag}v{number}"
            _run("ip", "netns", "add", name)
            self._made.append(["ip", "netns", "del", name])
            _run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
            self._made.append(["ip", "link", "del", outer])
            _run("ip", "link", "set", outer, "master", bridge, "up")
            _run("ip", "-n", name, "addr", "add", f"{host}/24", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "link", "set", "eth0", "up")

    def namespace(self, number: int) -> str:
        return f"{self._tag}n{number}"

    def prefix(self, number: int) -> list[str]:
        """Words that run a command in a node's namespace; the command gets the process id."""
        return ["ip", "netns", "exec", self.namespace(number)]

    def drop(self, at: int, senders: Iterable[int], percent: int = 100) -> None:
        """From now on ``at`` does not get what these nodes send, or a part of it."""
        chance = "" if percent == 100 else f"numgen random mod 100 < {percent} "
        rules = [f"add rule inet {LOSS} input ip saddr {self.hosts[sender]} {chance}drop" for sender in senders]
        lines = [
            f"add table inet {LOSS}",
            f"add chain inet {LOSS} input {{ type filter hook input priority 0; policy accept; }}",
            *rules,
        ]
        _run(*self.prefix(at), "nft", "-f", "-", stdin="\n".join(lines))

    def cut(self, one: int, other: int) -> None:
        """Neither hears the other."""
        self.drop(one, [other])
        self.drop(other, [one])

    def isolate(self, number: int) -> None:
        """It hears none of the others, and none hears it."""
        for other in range(len(self.hosts)):
            if other != number:
                self.cut(number, other)

    def heal(self) -> None:
        """Everybody hears everybody."""
        for number in range(len(self.hosts)):
            _run(*self.prefix(number), "nft", "flush", "ruleset")

    def remove(self) -> None:
        """Leave nothing behind."""
        for command in reversed(self._made):
            subprocess.run(command, capture_output=True, check=False)
        self._made.clear()


def _run(*command: str, stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{' '.join(command)}: {done.stderr}"
