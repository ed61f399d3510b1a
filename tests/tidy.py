"""The code's own rules. A rule is a function that yields what breaks it; its docstring says what to do about it.

``test_tidy.py`` runs each over every tracked file, and plants violations so that no rule falls asleep. To change what
may import what, change ``LAYERS``; what is pure, ``PURE``; who may know an outside library, ``DOORS``.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLUSTER, CLIENT, PROTO = "durable_streams_cluster", "durable_streams_client", "durable_streams_proto"
SOURCE_ROOTS = {"cluster": CLUSTER, "client": CLIENT, "proto": PROTO}

# Who may import whom: an area of the cluster, and the areas it may use besides itself. The longest name that fits wins.
BASE = ("ids", "limits", "errors")
LAYERS: dict[str, tuple[str, ...]] = {
    "": ("embedded",),
    "ids": (),
    "clock": (),
    "limits": ("ids",),
    "errors": ("ids",),
    "settings": BASE,
    "policies": (*BASE, "settings"),
    "given": (*BASE, "settings", "policies"),
    "config": (*BASE, "settings", "policies", "given"),
    "gateway_config": (*BASE, "settings", "given", "config"),
    "raft": ("ids", "limits"),
    "streams": ("ids", "limits"),
    "asked": (*BASE, "streams"),
    "answer": ("streams",),
    "api": (*BASE, "streams", "answer"),
    "crowd": (*BASE, "api"),
    "watching": ("answer",),
    "observe": (*BASE, "clock", "config"),
    "storage": (*BASE, "clock", "raft", "streams", PROTO),
    "replica": (*BASE, "raft", "streams", "storage", "observe.events"),
    "runtime": (
        *(*BASE, "settings", "clock", "config", "policies"),
        *("raft", "streams", "asked", "answer", "api", "crowd", "watching", "storage", "replica", "observe", PROTO),
    ),
    "gateway": (*BASE, "clock", "config", "asked", "answer", "api", "crowd", "streams", "observe"),
    "gateway.remote": (*BASE, "asked", "answer", "api", "watching", "streams", CLIENT),
    "local": (*BASE, "settings"),
    "node": ("*",),
    "opening": ("*",),
    "serving": ("*",),
    "process": ("*",),
    "stand_alone": ("*",),
    "embedded": ("*",),
    "cli": ("*",),
    "cli_gateway": ("*",),
    "cli_up": ("*",),
    "cli_recover": ("*",),
    "cli_child": ("*",),
    "__main__": (CLIENT,),
}

# Pure: the same arguments give the same answer, on every replica and in the simulator.
PURE = re.compile(
    rf"""{CLUSTER}\.(
        ids | limits | errors | asked | settings | policies | given | config | gateway_config
        | (raft|streams|replica)(\..+)?
        | storage\.(keys|kv|memory|codecs|dropping|export|raft_log|stream_reader|stream_store|sweep)
        | runtime\.(wire|grpc_status|streams_wire|outbox|greeting) | local\.plan
        | gateway\.(codec|headers|status|caching|sse|paths|pages|remote\.(values|recent))
        )
        | {CLIENT}\.(errors|types|_(?!_).+)""",
    re.VERBOSE,
)
# What pure modules may import of ours though it is not in that list: declarations only.
DECLARATIONS = re.compile(rf"{CLUSTER}\.(api|observe\.events)|{PROTO}.*_pb2")
OUTSIDE = re.compile(
    "asyncio|concurrent|grpc|http|logging|multiprocessing|os|random|secrets|select|selectors|shutil|signal|socket"
    "|subprocess|tempfile|threading|time|uuid"
)
IMPURE_CALL = re.compile(r"open|input|hash|breakpoint|(.*\.)?(datetime|date)\.(now|utcnow|today)")

# One door to each outside thing.
DOORS = {
    "time": r".*\.clock",
    "rocksdict": rf"{CLUSTER}\.storage\.rocks\w*",
    "uvicorn": rf"{CLUSTER}\.gateway\.(serve|connection|exchange|shared)",
    "httpx": rf"{CLIENT}\.http_transport",
    "grpc": rf"{CLUSTER}\.runtime\.grpc_\w+|{CLIENT}\..+|{PROTO}\..+_pb2_grpc",
    "grpc_health": rf"{CLUSTER}\.runtime\.grpc_standard",
    "grpc_reflection": rf"{CLUSTER}\.runtime\.grpc_standard",
}
CLI = re.compile(r".*\.(cli(\..*|_\w+)?|process)")
STARTER = re.compile(rf"{CLIENT}\.testing")
"""Starts processes, which get the environment that this one has."""
PROCESS_WORLD = {"sys.argv", "os.environ", "os.getenv", "os.environb"}

MAX_FILE_LINES, MAX_FUNCTION_LINES = 450, 70
TEST_FOLDERS = {
    *(
        "sim",
        "history",
        "planted",
        "conformance",
        "clients",
        "system",
        "packaging",
        "compat",
        "fuzz",
        "peers",
        "helm",
        "npm",
    )
}
# Spelled so that this file keeps its own rules.
MARKS = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|root|home)/")
REGISTRY = re.compile(
    r"pypi\.(?:org|python)|pythonhosted\.(?:org)|npmjs\.(?:org|com)|yarnpkg\.(?:com)|(?:deb|security)\.debian\.(?:org)"
    r"|crates\.(?:io)|proxy\.golang\.(?:org)|\"(?:resolved)\": *\"https?:|(?:index)-url|--(?:registry)\b"
)


class Source:
    """One tracked text file, parsed when it is Python."""

    def __init__(self, path: str, text: str, siblings: Iterable[str] = ()) -> None:
        self.path, self.text, self.siblings = path, text, siblings

    @property
    def generated(self) -> bool:
        return "_pb2" in self.path

    @cached_property
    def module(self) -> str:
        """The name it is imported by; empty when it is no part of a package that ships."""
        parts = self.path.removesuffix(".py").split("/")
        if not self.path.endswith(".py") or SOURCE_ROOTS.get(parts[0]) != parts[1]:
            return ""
        return ".".join(parts[1:-1] if parts[-1] == "__init__" else parts[1:])

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text if self.path.endswith(".py") else "", self.path)

    @property
    def pure(self) -> bool:
        return bool(PURE.fullmatch(self.module))

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Every import, anywhere in the file: line, and full name (``from a import b`` is ``a.b``)."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = self.module.split(".")
                package = package[: len(package) - node.level + self.path.endswith("__init__.py")]
                base = ".".join([*(package if node.level else ()), *([node.module] if node.module else ())])
                found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        return found


Finding = tuple[int, str]
Rule = Callable[[Source], Iterator[Finding]]


def within(name: str, area: str) -> bool:
    return name == area or name.startswith(area + ".")


def imports_follow_the_layers(source: Source) -> Iterator[Finding]:
    """Dependencies point inward (LAYERS in tests/tidy.py): pass the value in, or move the code to its layer."""
    if not within(source.module, CLUSTER):
        return
    own = source.module.removeprefix(CLUSTER).removeprefix(".")
    if own and not any(area and within(own, area) for area in LAYERS):
        yield 1, f"{own} is in no layer: add it to LAYERS"
        return
    area = max((area for area in LAYERS if not area or within(own, area)), key=len)
    allowed = (area.partition(".")[0] or CLUSTER, *LAYERS[area])
    for line, name in source.imports:
        short = name.removeprefix(CLUSTER + ".")
        ours = name.partition(".")[0] in SOURCE_ROOTS.values()
        if (
            ours
            and not name.endswith("__version__")
            and "*" not in allowed
            and not any(within(short, to) for to in allowed)
        ):
            yield line, f"{own or CLUSTER} imports {short}"


def the_client_stands_alone(source: Source) -> Iterator[Finding]:
    """The SDK is installed without the cluster: import only the client and the generated code."""
    for line, name in source.imports:
        if within(source.module, CLIENT) and within(name, CLUSTER):
            yield line, f"the client imports {name}"


def proto_imports_nothing_of_ours(source: Source) -> Iterator[Finding]:
    """Generated code is at the bottom: nothing in proto may import the cluster or the client."""
    for line, name in source.imports:
        if within(source.module, PROTO) and (within(name, CLUSTER) or within(name, CLIENT)):
            yield line, f"proto imports {name}"


def pure_modules_touch_nothing_outside(source: Source) -> Iterator[Finding]:
    """Pure modules get time, randomness and bytes as arguments, and return what is to be done; the shell does it."""
    if not source.pure:
        return
    for line, name in source.imports:
        if OUTSIDE.fullmatch(name.partition(".")[0]):
            yield line, f"a pure module imports {name}"
        elif name.partition(".")[0] in SOURCE_ROOTS.values():
            options = (name, name.rpartition(".")[0])
            if not any(PURE.fullmatch(option) or DECLARATIONS.fullmatch(option) for option in options):
                yield line, f"a pure module imports {name}, which is not pure"
    for node in source.nodes:
        if isinstance(node, ast.Call) and IMPURE_CALL.fullmatch(ast.unparse(node.func)):
            yield node.lineno, f"a pure module calls {ast.unparse(node.func)}()"


def one_door_to_each_outside_thing(source: Source) -> Iterator[Finding]:
    """One module knows each outside thing (DOORS in tests/tidy.py): take its object as an argument instead."""
    for line, name in source.imports:
        door = DOORS.get(name.partition(".")[0])
        if source.module and door and not re.fullmatch(door, source.module):
            yield line, f"imports {name}; only {door} does"


def only_cli_reads_the_process(source: Source) -> Iterator[Finding]:
    """argv and environment are read in cli.py, checked once by config, and handed on as values."""
    if not source.module or CLI.fullmatch(source.module) or STARTER.fullmatch(source.module):
        return
    for line, name in source.imports:
        if name in PROCESS_WORLD:
            yield line, f"imports {name}"
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and ast.unparse(node) in PROCESS_WORLD:
            yield node.lineno, f"reads {ast.unparse(node)}"


def only_cli_prints(source: Source) -> Iterator[Finding]:
    """Standard output belongs to cli.py; elsewhere return the text, or log it."""
    for node in source.nodes if source.module and not CLI.fullmatch(source.module) else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno, "prints"


def files_are_short(source: Source) -> Iterator[Finding]:
    """When a file outgrows the limit, a duty is looking for a name: give it a file of its own."""
    lines = source.text.count("\n")
    if source.path.endswith(".py") and not source.generated and lines > MAX_FILE_LINES:
        yield MAX_FILE_LINES, f"{lines} lines, the limit is {MAX_FILE_LINES}"


def functions_are_short(source: Source) -> Iterator[Finding]:
    """A function is read on one screen, its docstring apart: split it where a part has a name."""
    for node in source.nodes if not source.generated else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            doc = ast.get_docstring(node) is not None
            lines = (node.end_lineno or 0) - node.lineno + 1 - doc * ((first.end_lineno or 0) - first.lineno + 1)
            if lines > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {lines} lines, the limit is {MAX_FUNCTION_LINES}"


def matching_lines(source: Source, pattern: re.Pattern[str]) -> Iterator[Finding]:
    for number, line in enumerate(source.text.split("\n"), 1) if pattern.search(source.text) else ():
        if pattern.search(line):
            yield number, line.strip()[:120]


def nothing_is_left_to_do(source: Source) -> Iterator[Finding]:
    """Do it, or write it down where the reader looks for it: an issue, or the README's list of limits."""
    yield from matching_lines(source, MARKS)


def no_paths_of_one_machine(source: Source) -> Iterator[Finding]:
    """Tracked files hold on any machine: use a path relative to the repository, or an argument."""
    yield from matching_lines(source, MACHINE_PATH)


def no_registry_is_named(source: Source) -> Iterator[Finding]:
    """Name packages and versions, never the host they come from: that is each machine's own setting."""
    yield from matching_lines(source, REGISTRY)


def packages_say_what_they_are_for(source: Source) -> Iterator[Finding]:
    """A package's __init__.py has a docstring that is its chapter: what it is for, what the caller owes."""
    if source.module and source.path.endswith("__init__.py") and ast.get_docstring(source.tree) is None:
        yield 1, "no docstring"
    if source.module and source.siblings and source.path.rpartition("/")[0] + "/__init__.py" not in source.siblings:
        yield 1, "its folder has no __init__.py"


def folders_of_tests_mirror_the_source(source: Source) -> Iterator[Finding]:
    """tests/x is for the package x: rename the folder, or (for tests of a kind of its own) add it to TEST_FOLDERS."""
    parts = source.path.split("/")
    if parts[0] != "tests" or len(parts) < 3 or parts[1] in TEST_FOLDERS or parts[1] in SOURCE_ROOTS:
        return
    if not any(path.startswith(f"cluster/{CLUSTER}/{parts[1]}/") for path in source.siblings):
        yield 1, f"no package is named {parts[1]}"


def pure_modules_hold_no_state(source: Source) -> Iterator[Finding]:
    """Module-level containers are constants: a tuple, a frozenset, or annotated as Mapping or Sequence."""
    if not source.pure:
        return
    for node in source.nodes:
        if isinstance(node, ast.Global):
            yield node.lineno, f"global {', '.join(node.names)}"
    for node in source.tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        constant = isinstance(node, ast.AnnAssign) and re.search(
            r"\b(Mapping|Sequence|Collection|Iterable|Set)\b", ast.unparse(node.annotation)
        )
        named_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if value is not None and not constant and not named_all and is_mutable(value):
            yield node.lineno, ast.unparse(node)[:100]


MUTABLE = re.compile(r"(.*\.)?(list|dict|set|bytearray|deque|defaultdict|Counter|OrderedDict|count|cycle|iter)")
DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)


def is_mutable(value: ast.expr) -> bool:
    return isinstance(value, DISPLAYS) or (
        isinstance(value, ast.Call) and bool(MUTABLE.fullmatch(ast.unparse(value.func)))
    )


def no_set_is_iterated(source: Source) -> Iterator[Finding]:
    """A set's order differs from process to process, and replicas must agree: use a dict, a tuple, or sorted()."""
    if not source.pure:
        return
    here, elsewhere = known_names(source.nodes), sets_of_all_pure_modules()
    names = frozenset(name for name in here.keys() | elsewhere if here.get(name, True))
    for node in source.nodes:
        looped: list[ast.expr] = []
        if isinstance(node, ast.For | ast.AsyncFor):
            looped = [node.iter]
        elif isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp):
            looped = [part.iter for part in node.generators]
        elif isinstance(node, ast.Starred | ast.YieldFrom):
            looped = [node.value]
        elif isinstance(node, ast.Call) and ORDERED.fullmatch(last_name(node.func)):
            looped = node.args
        yield from ((each.lineno, ast.unparse(each)[:100]) for each in looped if is_set(each, names))


ORDERED = re.compile("list|tuple|iter|enumerate|zip|map|filter|join|extend|dict|fromkeys|chain|deque")


def last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_set(node: ast.expr, names: frozenset[str] = frozenset()) -> bool:
    """Whether the expression makes a set, or a name in it is known for one."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return is_set(node.left, names) or is_set(node.right, names)
    if isinstance(node, ast.Call):
        return last_name(node.func) in {"set", "frozenset", "symmetric_difference"} | names
    return isinstance(node, ast.Set | ast.SetComp) or last_name(node) in names


def known_names(nodes: Iterable[ast.AST]) -> dict[str, bool]:
    """Names annotated or assigned here, and whether each is a set wherever it is."""
    known: dict[str, bool] = {}
    for node in nodes:
        pairs: list[tuple[str, bool]] = []
        if isinstance(node, ast.AnnAssign):
            pairs = [(last_name(node.target), says_set(node.annotation))]
        elif isinstance(node, ast.arg):
            pairs = [(node.arg, says_set(node.annotation))]
        elif isinstance(node, ast.FunctionDef):
            pairs = [(node.name, says_set(node.returns))]
        elif isinstance(node, ast.Assign):
            pairs = [(last_name(target), is_set(node.value)) for target in node.targets]
        for name, kind in pairs:
            known[name] = kind and known.get(name, True)
    known.pop("", None)
    return known


def says_set(annotation: ast.expr | None) -> bool:
    return annotation is not None and bool(
        re.match(r"(Final\[)?(set|frozenset|AbstractSet|Set)\b", ast.unparse(annotation))
    )


@cache
def sets_of_all_pure_modules() -> frozenset[str]:
    """Attributes and methods that are sets in the module that declares them, wherever they are used."""
    classes = [node for source in sources() if source.pure for node in source.nodes if isinstance(node, ast.ClassDef)]
    known = known_names(statement for each in classes for statement in each.body)
    return frozenset(name for name, kind in known.items() if kind)


RULES: tuple[Rule, ...] = (
    imports_follow_the_layers,
    the_client_stands_alone,
    proto_imports_nothing_of_ours,
    pure_modules_touch_nothing_outside,
    pure_modules_hold_no_state,
    no_set_is_iterated,
    one_door_to_each_outside_thing,
    only_cli_reads_the_process,
    only_cli_prints,
    files_are_short,
    functions_are_short,
    nothing_is_left_to_do,
    no_paths_of_one_machine,
    no_registry_is_named,
    packages_say_what_they_are_for,
    folders_of_tests_mirror_the_source,
)


@cache
def sources() -> list[Source]:
    """Every text file that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = frozenset(path for path in listed.stdout.split("\0") if (ROOT / path).is_file())
    found = []
    for path in sorted(paths):
        data = (ROOT / path).read_bytes()
        if b"\0" not in data:
            found.append(Source(path, data.decode(errors="replace"), paths))
    return found
