"""Input that nobody means well with, and input that is only odd."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from bot import commands

EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
"""How much each test tries; more of it finds more: `EXAMPLES=1000 pytest tests/hostile --timeout 3000`."""
tried = settings(
    deadline=None,
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

PIECES = (
    "planner_policy_exp",
    "planner_policy",
    "planner_model",
    "candidate_v3",
    "control",
    "3",
    "10%",
    "0.1",
    "1e999",
    "nan",
    "-1",
    "4h",
    "99999999999999999999",
    "because",
    "of it",
    "override",
    "new",
    "delete",
    "look",
    "#1",
    "1",
    '"',
    "'",
    "“",
    "\\",
    "`",
    "*",
    "_",
    "~",
    "<!channel>",
    "<@U00000001>",
    "<https://evil.example|ok>",
    "&lt;!here&gt;",
    "@everyone",
    "{}",
    "{0}",
    "%s",
    "%(x)s",
    "${HOME}",
    "$(id)",
    "; DROP SCHEMA promotion CASCADE;--",
    "' OR '1'='1",
    "../../etc/passwd",
    "\u202e",
    "\u200b",
    "\x00",
    "\x1b[31m",
    "\ud7ff",
    "\U0001f4a5",
    "ß",
    "İ",
    "²",
    "٣",
    "\n",
    "\t",
    "x" * 1_200,
    "```",
    "--",
    "-h",
    "null",
    "None",
)
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join))
typed = st.one_of(texts, st.builds("{} {}".format, st.sampled_from([*commands.VERBS]), texts))
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**30, -1, 2**63, 1e300, 0, 1]))
jsons = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)
