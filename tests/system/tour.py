"""Runs the ``console`` blocks of README.md, in order, in one shell, and compares what they print.

``python -m tests.system.tour URL`` fills the blocks in again from a running server at URL that has no data yet.
"""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
DEFAULT = "http://127.0.0.1:4437"
_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
_MARK = "-- next command --"


def masked(text: str) -> str:
    """Without what differs from one run to the next: the cursor counts intervals of 20 s."""
    return re.sub(r'"streamCursor":"\d+"', '"streamCursor":"N"', text)


def commands(block: str) -> list[str]:
    """The commands of one block: what follows each ``$``."""
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def play(readme: str, url: str) -> str:
    """``readme`` with each block's output replaced by what the commands print now."""
    blocks = [match.group() for match in _BLOCK.finditer(readme)]
    script = "".join(f"{each}\necho; echo '{_MARK}'\n" for block in blocks for each in commands(block))
    script = script.replace(DEFAULT, url)
    ran = subprocess.run(["bash", "-u"], input=script, capture_output=True, text=True, timeout=60, check=False)
    assert not ran.stderr, ran.stderr
    outputs = iter(ran.stdout.replace("\r\n", "\n").replace(url, DEFAULT).split(f"{_MARK}\n"))

    def played(match: re.Match[str]) -> str:
        shown = ""
        for each in commands(match.group()):
            printed = next(outputs).removesuffix("\n").rstrip("\n")
            shown += f"$ {each}\n" + (f"{printed}\n" if printed else "")
        return shown

    return _BLOCK.sub(played, readme)


if __name__ == "__main__":
    README.write_text(play(README.read_text(), sys.argv[1]))
