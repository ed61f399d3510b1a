"""What a shell is told of the command: all that there is, and nothing else."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams_client import cli
from durable_streams_client._completion import Command, Option, Value, commands_of, merged
from durable_streams_client._shells import INSTALL, script
from durable_streams_client.cli_completion import known

ALL = known(cli._COMMANDS)


# --- What parsers know.


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="durable-streams do", add_help=False)
    found.add_argument("what", metavar="PATH")
    found.add_argument("file", nargs="*")
    found.add_argument("--fast", action="store_true", help="at 100%% speed")
    found.add_argument("-o", "--output", choices=("table", "json"))
    found.add_argument("--phase", metavar="PHASE", action="append", choices=(1, 2))
    found.add_argument("--folder", metavar="DIR")
    found.add_argument("--worker", help=argparse.SUPPRESS)
    return found


def test_what_a_parser_takes() -> None:
    assert list(commands_of(parser())) == [
        Command(
            ("do",),
            {},
            (
                Option(("--fast",), "at 100% speed"),
                Option(("-o", "--output"), "", Value("OUTPUT", ("table", "json"))),
                Option(("--phase",), "", Value("PHASE", ("1", "2")), repeats=True),
                Option(("--folder",), "", Value("DIR", is_folder=True)),
            ),
            (Value("PATH"), Value("FILE", is_file=True)),
            goes_on=True,
        )
    ]


def test_sub_commands_are_commands() -> None:
    found = argparse.ArgumentParser(prog="durable-streams", add_help=False)
    actions = found.add_subparsers(metavar="ACTION").add_parser("do", help="does it", add_help=False).add_subparsers()
    actions.add_parser("it", add_help=False).add_argument("--now", action="store_true")
    assert {each.words: each.actions for each in commands_of(found)} == {
        (): {"do": "does it"},
        ("do",): {"it": ""},
        ("do", "it"): {},
    }
    assert merged([Command((), {"do": "does it"})]) == [Command((), {"do": "does it"}), Command(("do",), {})]
    assert next(each for each in commands_of(found) if each.words == ("do", "it")).options == (Option(("--now",)),)


def test_what_several_parsers_know_of_one_is_put_together() -> None:
    help_, yes = Option(("-h", "--help"), "first"), Option(("--yes",))
    assert merged(
        [
            Command(("b",), {"x": "first"}, (help_,)),
            Command(("b", "x"), {}, (yes,)),
            Command(("a",), {}),
            Command(("b",), {"y": "", "x": "second"}, (Option(("-h", "--help"), "second"), yes), (Value("DIR"),), True),
            Command(("b",), {}),
        ]
    ) == [
        Command(("a",), {}),
        Command(("b",), {"x": "first", "y": ""}, (help_, yes), (Value("DIR"),), True),
        Command(("b", "x"), {}, (yes,)),
        Command(("b", "y"), {}),
    ]


def test_every_command_is_known() -> None:
    names = {each.words[0] for each in ALL[1:] if each.options}
    assert names == {*cli._COMMANDS, "write"}, "a command of the cluster needs a build() that makes its parser"
    assert set(ALL[0].actions) == set(cli._COMMANDS)
    assert {each.words for each in ALL if len(each.words) > 1} >= {
        ("cluster", "up"),
        ("config", "check"),
        ("admin", "status"),
        ("admin", "recover"),
    }


@pytest.mark.parametrize("command", ALL, ids=lambda command: "-".join(command.words))
def test_every_option_that_help_shows_is_known(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command.words, "--help"]) == 0
    shown = re.findall(r"^  (-[^ ].*?)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    flags = {flag for row in shown for flag in re.findall(r"(?:^|[ ,])(--?[a-z][a-z-]*)", row)}
    assert flags == {flag for option in command.options for flag in option.flags}


def test_without_the_cluster_its_commands_have_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("cli", "cli_up", "cli_gateway", "cli_recover"):
        monkeypatch.setitem(sys.modules, f"durable_streams_cluster.{name}", None)
    found = {each.words: each for each in known(cli._COMMANDS)}
    assert "serve" in found[()].actions
    assert list(found[("cluster",)].actions) == ["up"]
    assert list(found[("config",)].actions) == ["check"]
    assert "recover" in found[("admin",)].actions
    assert found[("admin", "status")].options
    for words in (("serve",), ("cluster", "up"), ("admin", "recover")):
        assert found[words] == Command(words, {})
    press = offered({"bash": written(tmp_path, "bash", list(found.values()))}, "serve", "")
    assert press == [], "not the names of commands"
    assert "        ('serve')\n            ;;\n" in script("zsh", list(found.values()))


# --- What shells make of it.


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    return {shell: written(folder, shell, ALL) for shell in INSTALL}


def written(folder: Path, shell: str, commands: list[Command]) -> Path:
    file = folder / f"completion.{shell}"
    file.write_text(script(shell, commands), encoding="utf-8")
    return file


PRESS = """
source "$1"; shift
compopt() { printf '%s\\n' "files: $2"; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_durable_streams
for word in "${COMPREPLY[@]}"; do printf '%s\\n' "$word"; done
"""


def offered(scripts: dict[str, Path], *words: str) -> list[str]:
    """What bash offers when the last word, which may be empty, is to be completed."""
    done = subprocess.run(
        ["bash", "--norc", "-c", PRESS, "bash", str(scripts["bash"]), "durable-streams", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("app", ["append"]),
        ("se", ["serve"]),
        ("c", ["config", "cluster", "create", "close", "completion"]),
        ("--v", ["--version"]),
        ("nonsense --", ["--help", "--version"]),
        ("nonsense append --l", []),
        ("cluster ", ["up"]),
        ("cluster up --no", ["--nodes"]),
        ("config ", ["check"]),
        ("config check --in", ["--in-memory", "--initial-cluster"]),
        ("admin s", ["status"]),
        ("admin ", ["status", "members", "add", "promote", "remove", "transfer", "recover"]),
        ("admin add --l", ["--learner"]),
        ("admin recover --uns", ["--unsafe"]),
        ("admin recover ", ["files: dirnames"]),
        ("serve --ht", ["--http"]),
        ("serve --sse", ["--sse-lifetime"]),
        ("serve --config ", ["files: default"]),
        ("serve --data-dir ", ["files: dirnames"]),
        ("serve --http ", []),
        ("append x --b", ["--batch-json"]),
        ("write x --b", ["--batch-json"]),
        ("append ", []),
        ("append append --l", ["--lines"]),
        ("append x -o ", ["table", "json"]),
        ("append x --output j", ["json"]),
        ("append x --output =", ["table", "json"]),
        ("append x --output = t", ["table"]),
        ("append x --target ", []),
        ("append x --target --", []),
        ("import x ", ["files: default"]),
        ("import x --cl", ["--close"]),
        ("export x --format ", ["raw", "jsonl", "delimited"]),
        ("export x -f ", ["files: default"]),
        ("bench --ph", ["--phase"]),
        ("bench --phase read --phase d", ["deliver"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("completion --", ["--help"]),
        ("admin status ", ["-h", "--help", "--target", "-o", "--output", "--timeout"]),
    ],
)
def test_bash_offers(scripts: dict[str, Path], line: str, words: list[str]) -> None:
    assert sorted(offered(scripts, *line.split(" "))) == sorted(words)


@pytest.mark.parametrize("command", ALL, ids=lambda command: "-".join(command.words))
def test_bash_offers_all_that_is_known(scripts: dict[str, Path], command: Command) -> None:
    flags = sorted(flag for option in command.options for flag in option.flags)
    assert sorted(offered(scripts, *command.words, "-")) == flags
    if command.actions:
        assert sorted(offered(scripts, *command.words, "")) == sorted(command.actions)


def test_bash_calls_it_for_both_names(scripts: dict[str, Path]) -> None:
    shown = subprocess.run(
        ["bash", "--norc", "-c", 'source "$1"; complete -p', "bash", str(scripts["bash"])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(shown.stdout.splitlines()) == [
        "complete -F _durable_streams durable-streams",
        "complete -F _durable_streams durable-streams-cluster",
    ]


def test_what_zsh_is_told() -> None:
    text = script("zsh", list(commands_of(parser())))
    assert text.startswith("#compdef durable-streams durable-streams-cluster\n# ")
    for line in (
        "(' do') command=",
        "('do')\n",
        "'(--fast)--fast[at 100% speed]' \\\n",
        "'(-o --output)-o+[]:OUTPUT:(table json)' \\\n",
        "'(-o --output)--output=[]:OUTPUT:(table json)' \\\n",
        "'*--phase=[]:PHASE:(1 2)' \\\n",
        "'(--folder)--folder=[]:DIR:_files -/' \\\n",
        "'1:PATH: ' \\\n",
        "'*:FILE:_files'\n",
    ):
        assert line in text
    hard = Command(("it",), {"do": "it's"}, (Option(("--at",), "[a:b] it's \\", Value("HOST:PORT")),))
    assert r"'(--at)--at=[\[a\:b\] it'\''s \\]:HOST\:PORT: '" in script("zsh", [hard])
    assert r"'do:it'\''s'" in script("zsh", [hard])


def test_what_fish_is_told() -> None:
    text = script("fish", list(commands_of(parser())))
    here = "complete -c durable-streams -n '__durable_streams_in do'"
    for line in (
        "complete -c durable-streams -f",
        f"{here} -l fast -d 'at 100% speed'",
        f"{here} -s o -l output -r -f -a 'table json' -d ''",
        f"{here} -l folder -r -f -a '(__fish_complete_directories)' -d ''",
        f"{here} -F",
        "complete -c durable-streams-cluster -w durable-streams",
    ):
        assert line in text.splitlines()
    hard = Command(("it",), {"do": "it's \\"}, (Option(("--at",), "", Value("PORT")),))
    assert "complete -c durable-streams -n '__durable_streams_at it' -a do -d 'it\\'s \\\\'" in script("fish", [hard])
    assert "complete -c durable-streams -n '__durable_streams_at it' -l at -r -f -d ''" in script("fish", [hard])


# --- The command.


@pytest.mark.parametrize("shell", INSTALL)
def test_it_prints_the_script_and_how_to_install_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (script(shell, ALL), "")
    assert cli.main(["completion", "--help"]) == 0
    shown = capsys.readouterr().out
    for line in INSTALL[shell].splitlines():
        assert f"# {line}\n" in out
        assert f"  {line}\n" in shown


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["completion"], "required: SHELL"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'"),
        (["completions"], "did you mean 'completion'?"),
    ],
)
def test_bad_usage(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
