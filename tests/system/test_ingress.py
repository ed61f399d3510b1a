"""A stand-alone gateway behind nginx, as README configures it: many live reads in one page, over HTTP/2."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.gateway_process import GatewayServer
from tests.server import LOOPBACK, ROOT, free_ports, running, running_server, until
from tests.system.browsing import Reports, pages, play

NAME = "streams.example.com"
SUBJECT = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]


def program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    assert found, f"needs {name}: apt-get install -y {package}"
    return found


def configuration(folder: Path, port: int, gateway: int) -> str:
    """README's, word by word but for the ports and the certificate, in a process of its own."""
    block = re.search(r"```nginx\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    certificate = f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;"
    text, comment = block[1], "# ssl_certificate, ssl_certificate_key, server_name ..."
    for before, after in (
        ("127.0.0.1:4537", f"{LOOPBACK}:{gateway}"),
        ("listen 443 ", f"listen {LOOPBACK}:{port} "),
        (comment, certificate),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{name}_temp_path {folder}/{name};\n" for name in temporary)
    own = f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\nevents {{}}\n"
    return (
        f"{own}http {{\nlog_format spoken $server_protocol; access_log {folder}/access.log spoken;\n{paths}{text}}}\n"
    )


@contextlib.contextmanager
def nginx(folder: Path, gateway: int) -> Iterator[str]:
    """In front of a gateway; gives the address."""
    folder.mkdir()
    (port,) = free_ports(1)
    make = [program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *SUBJECT]
    subprocess.run(
        [*make, "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")], check=True, capture_output=True
    )
    config = folder / "nginx.conf"
    config.write_text(configuration(folder, port, gateway))
    command = [program("nginx", "nginx-light"), "-p", str(folder), "-c", str(config)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def listens() -> bool:
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
            return True
        return False

    try:
        until(listens, "nginx does not listen")
        yield f"https://{LOOPBACK}:{port}"
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(20)
        if child.stderr is not None:
            child.stderr.close()


def test_twenty_live_reads_in_one_page(tmp_path: Path) -> None:
    reports = Reports()
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(running_server("--in-memory", folder=tmp_path / "node"))
        gateway = GatewayServer(tmp_path / "gateway", [f"{LOOPBACK}:{node.ports['grpc']}"])
        stack.enter_context(running(gateway))
        url = stack.enter_context(nginx(tmp_path / "nginx", gateway.ports["http"]))
        origin = stack.enter_context(pages(reports))
        seen, count = play(f"{origin}/ingress.html?server={url}", reports, tmp_path, "--ignore-certificate-errors")
    assert [f"{name}: {error}" for name, error in seen.items() if error is not None] == []
    assert len(seen) == count
    assert set((tmp_path / "nginx" / "access.log").read_text().split()) == {"HTTP/2.0"}
