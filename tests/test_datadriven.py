"""The script runner itself: what it reads, what it refuses, what it writes."""

from pathlib import Path

import pytest

from tests.datadriven import Command, Handler, ScriptError, run_script, scripts

SCRIPT = """\
# Kept as it is.

echo one
----
one

echo two key=value
some input

# not a comment
----
----
two value
some input

# not a comment
----
----
"""


def echo(command: Command) -> str:
    return " ".join([*command.words(), *([command.text("key")] if command.has("key") else [])]) + "\n" + command.input


def constant(output: str) -> Handler:
    def handler(command: Command) -> str:
        command.words()
        return output

    return handler


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "a.txt"


def test_a_line_is_a_name_words_and_arguments() -> None:
    command = Command('append s close offset=-1 path=/v1/a?b=c note="a \\"b\\" \\u00e9" seqs=(0, 1,2) none=() empty=')
    assert command.name == "append"
    assert command.flag("close")
    assert not command.flag("closed")
    assert command.word() == "s"
    assert command.word("default") == "default"
    assert command.number("offset") == -1
    assert command.number("limit", 7) == 7
    assert command.text("path") == "/v1/a?b=c"
    assert command.text("note") == 'a "b" é'
    assert command.many("seqs") == ("0", "1", "2")
    assert command.many("none") == ()
    assert command.many("absent", ["x"]) == ("x",)
    assert command.text("empty") == ""
    command.check_used()


def test_words_may_be_quoted_or_look_like_addresses() -> None:
    assert Command('get /v1/s?offset=-1 "two words" W/"x"').words() == ("/v1/s?offset=-1", "two words", 'W/"x"')


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("a=1 b", "begins with the name"),
        ("do a=1 a=2", "a is given twice"),
        ('do a="open', "cannot read"),
        ("do a=(1", "cannot read"),
        (r'do a="\q"', "not a string as in JSON"),
    ],
)
def test_malformed_lines(line: str, complaint: str) -> None:
    with pytest.raises(ScriptError, match=complaint) as caught:
        Command(line, "a.txt:7")
    assert str(caught.value).startswith("a.txt:7: " + line)


def test_what_a_handler_asks_for_must_be_there() -> None:
    command = Command("do a=x b=(1,2)")
    for ask in (command.word, lambda: command.text("b"), lambda: command.number("a"), lambda: command.text("c")):
        with pytest.raises(ScriptError):
            ask()


def test_a_script_that_is_right_passes_and_is_not_touched(script: Path) -> None:
    script.write_text(SCRIPT)
    run_script(script, echo)
    run_script(script, echo, rewrite=True)
    assert script.read_text() == SCRIPT


def test_a_difference_names_the_line_and_shows_both_sides(script: Path) -> None:
    script.write_text(SCRIPT)
    with pytest.raises(ScriptError) as caught:
        run_script(script, constant("one\nand more"))
    assert str(caught.value).splitlines() == [
        "a.txt:3: echo one",
        "--- expected",
        "+++ printed",
        "@@ -1 +1,2 @@",
        " one",
        "+and more",
        "(pytest --rewrite accepts what was printed)",
    ]
    assert script.read_text() == SCRIPT


@pytest.mark.parametrize(
    "output", ["", "x", "x\ny", "a\n\nb", "\nleading", "----\nx", "tail  \r\n  x", "# not a comment", "\u2028\x0c"]
)
def test_what_rewrite_accepts_passes_afterwards(script: Path, output: str) -> None:
    script.write_text("# first\ndo\n----\nold\n\ndo\ninput\n----\n----\nold\n\n----\n----\n# last\n")
    run_script(script, constant(output), rewrite=True)
    accepted = script.read_bytes()
    run_script(script, constant(output))
    run_script(script, constant(output), rewrite=True)
    assert script.read_bytes() == accepted
    assert accepted.startswith(b"# first\ndo\n----\n")
    assert accepted.endswith(b"\n# last\n")
    assert b"old" not in accepted


def test_an_argument_nobody_asked_for_fails(script: Path) -> None:
    script.write_text("do tpyo=1\n----\n")
    with pytest.raises(ScriptError, match="nobody asked for: tpyo="):
        run_script(script, constant(""))


def test_an_error_in_a_handler_says_where(script: Path) -> None:
    def handler(command: Command) -> str:
        raise ZeroDivisionError

    script.write_text("\ndo\n----\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_script(script, handler)
    assert caught.value.__notes__ == ["a.txt:2: do"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no command in it"),
        ("# only a comment\n", "no command in it"),
        ("do\noutput\n", "no ---- follows"),
        ("do\n----\n----\nx\n\n----\n", "not closed by two"),
    ],
)
def test_malformed_scripts(script: Path, text: str, complaint: str) -> None:
    script.write_text(text)
    with pytest.raises(ScriptError, match=complaint):
        run_script(script, constant(""))


def test_output_that_would_end_its_own_fence_is_refused(script: Path) -> None:
    script.write_text("do\n----\n")
    for output in ("a\n\n----\n----\nb", "a\n\n----"):
        with pytest.raises(ScriptError, match="its own fence"):
            run_script(script, constant(output), rewrite=True)


def test_a_folder_without_scripts_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "testdata").mkdir()
    with pytest.raises(ScriptError, match=r"no \*\.txt"):
        scripts(str(tmp_path / "test_x.py"))
    (tmp_path / "testdata" / "b.txt").touch()
    (tmp_path / "testdata" / "a.txt").touch()
    assert [path.stem for path in scripts(str(tmp_path / "test_x.py"))] == ["a", "b"]
