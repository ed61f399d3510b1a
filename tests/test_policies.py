"""What streams get by the beginning of their path: how it is written, and which one decides."""

import re
from urllib.parse import quote

import pytest

from durable_streams_cluster.gateway import paths
from durable_streams_cluster.limits import MIB
from durable_streams_cluster.policies import NO_POLICY, Policies, Policy, parse_policies, write_policies


def test_the_longest_prefix_decides_alone() -> None:
    policies = parse_policies("* ttl=30d, logs/ retain-age=7d retain-bytes=100MiB,logs/audit/ max-bytes=1GiB")
    assert policies.of("chat") == Policy(ttl_s=30 * 86400)
    assert policies.of("logs/a") == Policy(retain_age_s=7 * 86400, retain_bytes=100 * MIB)
    assert policies.of("logs/audit/a") == Policy(max_bytes=2**30)
    assert policies.of("logs") == policies.of("chat")
    assert policies.trimmed == ("logs/",)


def test_no_policy_is_no_rule() -> None:
    assert not parse_policies(" ")
    assert parse_policies("").of("a") == NO_POLICY
    assert parse_policies("a ttl=1s").of("b") == NO_POLICY


def test_a_prefix_is_written_as_in_a_url() -> None:
    policies = parse_policies("a%2Cb%20c/ ttl=1s")
    assert policies.of("a,b c/x").ttl_s == 1


def test_more_paths_than_the_cache_holds_are_answered_all_the_same() -> None:
    policies = Policies({"1": Policy(ttl_s=1)})
    for _ in range(2):
        found = [policies.of(str(number)).ttl_s for number in range(12_000)]
        assert found.count(1) == sum(str(number).startswith("1") for number in range(12_000))


def test_every_beginning_of_a_path_is_a_prefix() -> None:
    """No more is refused than what fits no path."""
    for path in ("a/b", "..a/.b/...", "__dsx/y", "a%b", "*", "a*/b", "?#+&", " a", "ä/\u3042 ,=", "x" * 1024):
        assert paths.stream_path(quote(path).encode(), 1024) == path, "it is one"
        for end in range(1, len(path) + 1):
            assert parse_policies(f"{quote(path[:end])} ttl=1s").of(path).ttl_s == 1


@pytest.mark.parametrize(
    ("prefix", "rules", "says"),
    [
        ("", {"ttl": "1s"}, "'' is no prefix: * is every path"),
        ("a b/", {"ttl": "1s"}, "'a b/' has ' ': write it as %20, as in a URL"),
        (" a", {"ttl": "1s"}, "' a' has ' ': write it as %20"),
        ("a,b", {"ttl": "1s"}, "'a,b' has ',': write it as %2C"),
        ("a=b", {"ttl": "1s"}, "'a=b' has '=': write it as %3D"),
        ("a\u00a0b", {"ttl": "1s"}, "'a\\xa0b' has '\\xa0': write it as %C2%A0"),
        ("a\nb", {"ttl": "1s"}, "'a\\nb' has '\\n': write it as %0A"),
        ("a/", {"ttl=1s max-bytes": 1}, "'a/': 'ttl=1s max-bytes' is no rule; there are ttl, max-bytes"),
        ("a/", {"ttl": "1s, b/ ttl=2s"}, "'a/': ttl: '1s, b/ ttl=2s' has ',': write one value, without spaces"),
        ("a/", {"max-bytes": "1 GiB"}, "'a/': max-bytes: '1 GiB' has ' ': write one value, without spaces"),
    ],
)
def test_what_the_tables_of_a_file_cannot_hold(prefix: str, rules: dict[str, object], says: str) -> None:
    """As text it would mean something else: other prefixes, or other rules."""
    with pytest.raises(ValueError, match="^" + re.escape(says)):
        write_policies({prefix: rules})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ttl=1s", "'ttl=1s' is no prefix: write PREFIX RULE=VALUE, as in logs/ retain-age=7d"),
        ("logs/", "'logs/' has no rule: ttl, max-bytes, retain-bytes, retain-age"),
        ("logs/ ttl=1s,", "'' is no prefix"),
        ("logs/ ttl=1s, logs/ ttl=2s", "'logs/' is there twice"),
        ("logs/ ttl=1s ttl=2s", "'logs/': ttl is there twice"),
        ("logs/ age=1s", "'logs/': 'age' is no rule; there are ttl, max-bytes, retain-bytes, retain-age"),
        ("logs/ ttl=1", "'logs/': ttl: '1' is not a duration"),
        ("logs/ ttl=500ms", "'logs/': ttl: '500ms' must be whole seconds"),
        ("logs/ ttl=4000d", "'logs/': ttl: '4000d' must be more than zero and at most 3650d"),
        ("logs/ retain-bytes=0", "'logs/': retain-bytes: must be more than zero"),
        ("/logs ttl=1s", "'/logs': a prefix is of what follows /v1/stream/, without a slash before it, like logs/"),
        ("%2Flogs ttl=1s", "'%2Flogs': a prefix is of what follows /v1/stream/, without a slash before it"),
        ("logs/* ttl=1s", "'logs/*': a prefix needs no *, like logs/; write one that is part of the path as %2A"),
        ("a/*/b ttl=1s", "'a/*/b': a prefix needs no *"),
        ("%ff ttl=1s", "'%ff' is not UTF-8 once decoded: no path is"),
        ("a%2 ttl=1s", "'a%2' has a '%' that is not followed by two hexadecimal digits; write % as %25"),
        ("100%/ ttl=1s", "'100%/' has a '%' that is not followed"),
        ("a%00 ttl=1s", "'a%00' fits no path: none has a control character"),
        ("a%7Fb/ ttl=1s", "'a%7Fb/' fits no path: none has a control character"),
        ("a//b ttl=1s", "'a//b' fits no path: none has an empty segment ('//')"),
        ("a/%2F ttl=1s", "'a/%2F' fits no path: none has an empty segment"),
        ("a/../b ttl=1s", "'a/../b' fits no path: none has a '.' or '..' segment"),
        ("%2E/ ttl=1s", "'%2E/' fits no path: none has a '.' or '..' segment"),
        ("__ds/a ttl=1s", "'__ds/a' fits no path: none is below __ds, which is reserved"),
        ("a" * 1025 + " ttl=1s", "'" + "a" * 1024 + "' fits no path: none is longer than 1024 bytes"),
        ("a" * 1023 + "/ ttl=1s", "'" + "a" * 1023 + "/' fits no path: none is longer than 1024 bytes"),
        ("a/ ttl=1s, a%2F ttl=2s", "'a%2F' is there twice"),
    ],
)
def test_what_is_no_policy_is_told(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(says)):
        parse_policies(text)
