"""The code keeps its own rules (tests/tidy.py), and each rule sees what breaks it."""

from pathlib import Path

import pytest

from tests.tidy import (
    CLIENT,
    CLUSTER,
    MAX_FILE_LINES,
    MAX_FUNCTION_LINES,
    PROTO,
    RULES,
    Rule,
    Source,
    files_are_short,
    folders_of_tests_mirror_the_source,
    functions_are_short,
    imports_follow_the_layers,
    no_paths_of_one_machine,
    no_registry_is_named,
    no_set_is_iterated,
    nothing_is_left_to_do,
    one_door_to_each_outside_thing,
    only_cli_prints,
    only_cli_reads_the_process,
    packages_say_what_they_are_for,
    proto_imports_nothing_of_ours,
    pure_modules_hold_no_state,
    pure_modules_touch_nothing_outside,
    sources,
    the_client_stands_alone,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps(rule: Rule) -> None:
    found = [f"{source.path}:{line}: {what}" for source in sources() for line, what in rule(source)]
    if found:
        pytest.fail("\n".join([rule.__doc__ or "", *found]), pytrace=False)


RAFT, SERVE, SDK = (
    f"cluster/{CLUSTER}/raft/core.py",
    f"cluster/{CLUSTER}/runtime/driver.py",
    f"client/{CLIENT}/client.py",
)
LONG = "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES
PLANTED: list[tuple[Rule, str, str]] = [
    (imports_follow_the_layers, RAFT, f"from {CLUSTER}.streams import meta"),
    (imports_follow_the_layers, RAFT, "from ..storage.kv import Kv"),
    (imports_follow_the_layers, RAFT, f"def f():\n    import {CLUSTER}.node"),
    (imports_follow_the_layers, SERVE, f"from {CLUSTER}.gateway import app"),
    (imports_follow_the_layers, SERVE, f"import {CLIENT}"),
    (imports_follow_the_layers, f"cluster/{CLUSTER}/gateway/app.py", f"from {CLIENT} import Client"),
    (imports_follow_the_layers, f"cluster/{CLUSTER}/observe/events.py", f"from {CLUSTER}.raft import Ready"),
    (imports_follow_the_layers, f"cluster/{CLUSTER}/__init__.py", f"from {CLUSTER}.node import Node"),
    (imports_follow_the_layers, f"cluster/{CLUSTER}/helpers.py", ""),
    (the_client_stands_alone, SDK, f"from {CLUSTER} import ids"),
    (proto_imports_nothing_of_ours, f"proto/{PROTO}/v1/x_pb2.py", f"import {CLIENT}"),
    (pure_modules_touch_nothing_outside, RAFT, "import asyncio"),
    (pure_modules_touch_nothing_outside, RAFT, "from random import Random"),
    (pure_modules_touch_nothing_outside, RAFT, "import os.path"),
    (pure_modules_touch_nothing_outside, RAFT, "hash('a')"),
    (pure_modules_touch_nothing_outside, RAFT, "import datetime\ndatetime.datetime.now(datetime.UTC)"),
    (pure_modules_touch_nothing_outside, f"cluster/{CLUSTER}/storage/memory.py", "from .rocks import RocksKv"),
    (pure_modules_touch_nothing_outside, f"client/{CLIENT}/_retry.py", "import time"),
    (pure_modules_hold_no_state, RAFT, "SEEN = []"),
    (pure_modules_hold_no_state, RAFT, "SEEN: dict[str, int] = {}"),
    (pure_modules_hold_no_state, RAFT, "import itertools\nNEXT = itertools.count()"),
    (pure_modules_hold_no_state, RAFT, "def f():\n    global x\n    x = 1"),
    (no_set_is_iterated, RAFT, "for x in {1, 2}: pass"),
    (no_set_is_iterated, RAFT, "x = [y for y in set(z)]"),
    (no_set_is_iterated, RAFT, "x = list(a | frozenset(b))"),
    (no_set_is_iterated, RAFT, "x = (*{1},)"),
    (no_set_is_iterated, RAFT, "def f(voters: frozenset[str]):\n    for x in voters: pass"),
    (no_set_is_iterated, RAFT, "class A:\n    def f(self):\n        self.a = set()\n        return tuple(self.a)"),
    (one_door_to_each_outside_thing, SERVE, "import time"),
    (one_door_to_each_outside_thing, SERVE, "from rocksdict import Rdict"),
    (one_door_to_each_outside_thing, f"cluster/{CLUSTER}/gateway/app.py", "import uvicorn.protocols"),
    (one_door_to_each_outside_thing, SERVE, "from grpc import aio"),
    (one_door_to_each_outside_thing, f"proto/{PROTO}/v1/x_pb2.py", "import grpc"),
    (only_cli_reads_the_process, SERVE, "import os\nos.environ['A']"),
    (only_cli_reads_the_process, SERVE, "from sys import argv"),
    (only_cli_prints, SERVE, "print(1)"),
    (files_are_short, SERVE, "x = 1\n" * (MAX_FILE_LINES + 1)),
    (files_are_short, "tests/test_x.py", "x = 1\n" * (MAX_FILE_LINES + 1)),
    (functions_are_short, SERVE, LONG),
    (functions_are_short, SERVE, "class A:\n    async " + LONG.replace("\n", "\n    ")),
    (nothing_is_left_to_do, "README.md", "TO" + "DO: more"),
    (no_paths_of_one_machine, "README.md", "cd /" + "work/main"),
    (no_paths_of_one_machine, "helm/a.yaml", "path: '/" + "home/me'"),
    (no_registry_is_named, "package-lock.json", '"res' + 'olved": "https://example/x.tgz"'),
    (no_registry_is_named, "Makefile", "pip --index" + "-url x"),
    (no_registry_is_named, "README.md", "https://pypi." + "org/project/x"),
    (packages_say_what_they_are_for, f"cluster/{CLUSTER}/raft/__init__.py", "x = 1"),
    (packages_say_what_they_are_for, RAFT, ""),
    (folders_of_tests_mirror_the_source, "tests/misc/test_x.py", ""),
]


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_a_rule_sees(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text, {path}))) != []


def test_every_rule_was_seen_to_fail_and_says_what_to_do() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(RULES)
    assert all(rule.__doc__ for rule in RULES)


LAWFUL = [
    (RAFT, f"from {CLUSTER}.ids import Term\nfrom . import log\nfrom {CLUSTER}.raft.log import RaftLog"),
    (RAFT, "from collections.abc import Mapping\nA: Mapping[str, int] = {}\n__all__ = ['A']\nB = (1, *sorted({2}))"),
    (RAFT, "def f(a: frozenset[str]) -> int:\n    return len(a) + sum(1 for x in sorted(a | {''}) if x in a)"),
    (RAFT, "class A:\n    a: list[int] = []\n    def f(self):\n        a = []\n        return [b for b in a]"),
    (f"cluster/{CLUSTER}/clock.py", "import time"),
    (f"cluster/{CLUSTER}/cli.py", f"import os, sys\nfrom {CLUSTER} import node\nprint(sys.argv, os.environ)"),
    (f"cluster/{CLUSTER}/gateway/remote.py", f"from {CLIENT} import Client\nimport asyncio"),
    (f"cluster/{CLUSTER}/storage/rocks_open.py", "import rocksdict"),
    (f"cluster/{CLUSTER}/runtime/grpc_listener.py", f"import grpc\nfrom {PROTO}.v1 import x_pb2"),
    (f"client/{CLIENT}/client.py", "import grpc.aio"),
    (f"client/{CLIENT}/testing.py", "import os\nos.environ"),
    (f"proto/{PROTO}/v1/x_pb2_grpc.py", f"import grpc\nfrom {PROTO}.v1 import x_pb2\n" + "x = 1\n" * 9999),
    (SERVE, 'def f():\n    """' + "Long.\n" * 99 + '"""\n' + "    x = 1\n" * (MAX_FUNCTION_LINES - 1)),
    ("tests/client/test_x.py", "print(1)"),
    ("tests/npm/test_x.py", "import time"),
    ("README.md", "GET https://example.com/v1/home/ and ./wo" + "rk/x, mktemp XXXXXX"),
]


@pytest.mark.parametrize(("path", "text"), LAWFUL)
def test_what_is_lawful_passes(path: str, text: str) -> None:
    source = Source(path, text, {path, f"{Path(path).parent}/__init__.py"})
    assert [found for rule in RULES for found in rule(source)] == []
