"""The table in ``tests/peers/__init__.py`` names what exists, and all of it."""

import ast
import re
from pathlib import Path

import tests.peers

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMED = re.compile(r"(?:(tests/\S+/)|\s)(test_\w+\.py)::(test_\w+)(?:\[(\w+)\])?")


def names_in(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


def table() -> list[tuple[str, str, str, str]]:
    return NAMED.findall(tests.peers.__doc__ or "")


def test_what_the_table_names_exists() -> None:
    for folder, file, name, script in table():
        path = ROOT / folder / file if folder else HERE / file
        assert name in names_in(path), f"{path.name}::{name}"
        assert not script or list((path.parent / "testdata").glob(f"{script}.*")), script


def test_every_test_of_this_folder_is_in_the_table() -> None:
    named = {(file, name) for folder, file, name, _ in table() if not folder}
    here = {(path.name, name) for path in HERE.glob("test_*.py") for name in names_in(path)}
    assert here - named == {(Path(__file__).name, name) for name in names_in(Path(__file__))}
