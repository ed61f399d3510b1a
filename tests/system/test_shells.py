"""Completion in shells that are not on every machine: zsh and fish themselves. (Bash: ``tests/client``.)"""

import shutil
import subprocess
from pathlib import Path

import pytest

from durable_streams_client import cli
from durable_streams_client._shells import script
from durable_streams_client.cli_completion import known


def written(folder: Path, shell: str) -> str:
    """The script; this fails where the shell is missing: skipping would hide that nobody ever tried it."""
    assert shutil.which(shell), f"needs {shell}: apt-get install -y {shell}"
    file = folder / f"completion.{shell}"
    file.write_text(script(shell, known(cli._COMMANDS)), encoding="utf-8")
    return str(file)


def test_zsh_can_read_it(tmp_path: Path) -> None:
    subprocess.run(["zsh", "-f", "-n", written(tmp_path, "zsh")], check=True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("durable-streams ", sorted(cli._COMMANDS)),
        ("durable-streams-cluster admin st", ["status"]),
        ("durable-streams append x --output ", ["json", "table"]),
        ("durable-streams append append --b", ["--batch-json"]),
        ("durable-streams append x --target ", []),
        ("durable-streams gateway --wor", ["--workers"]),
    ],
)
def test_fish_offers(tmp_path: Path, line: str, words: list[str]) -> None:
    command = ["fish", "--no-config", "-c", f"source {written(tmp_path, 'fish')}; complete -C '{line}'"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert sorted(row.partition("\t")[0] for row in done.stdout.splitlines()) == words
