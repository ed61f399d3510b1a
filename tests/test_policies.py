"""What streams get by the beginning of their path: how it is written, and which one decides."""

import re

import pytest

from durable_streams_cluster.limits import MIB
from durable_streams_cluster.policies import NO_POLICY, Policies, Policy, parse_policies


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
        ("/logs ttl=1s", "'/logs': a prefix has no slash before it and no * behind it"),
        ("logs/* ttl=1s", "'logs/*': a prefix has no slash before it and no * behind it"),
        ("%ff ttl=1s", "'utf-8' codec"),
    ],
)
def test_what_is_no_policy_is_told(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(says)):
        parse_policies(text)
