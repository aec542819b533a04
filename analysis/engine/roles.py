"""Roles: what a linear weight does, told from the path of its module; free of torch."""

from __future__ import annotations

import re

ROLES = ("query", "key", "value", "attention output", "ffn in", "ffn out", "conv", "other")

# Order matters: BERT's ``output.dense`` is the end of both the attention and the feed-forward path.
PATTERNS: tuple[tuple[str, str], ...] = (
    (r"(^|\.)(query|q_proj|q_lin|query_proj|q|wq)$", "query"),
    (r"(^|\.)(key|k_proj|k_lin|key_proj|k|wk)$", "key"),
    (r"(^|\.)(value|v_proj|v_lin|value_proj|v|wv)$", "value"),
    (
        r"(^|\.)(attention\.output\.dense|attention\.dense|o_proj|out_lin|attn\.c_proj)$",
        "attention output",
    ),
    (r"(attn|attention)\.(out_proj|proj|o)$", "attention output"),
    (r"Attention\.o$", "attention output"),
    (r"(^|\.)(intermediate\.dense|lin1|fc1|up_proj|gate_proj|ffn|c_fc|wi(_\d)?|linear1)$", "ffn in"),
    (r"(^|\.)(output\.dense|lin2|fc2|down_proj|ffn_output|mlp\.c_proj|wo|linear2)$", "ffn out"),
)
NEVER = re.compile(
    r"(^|\.)(\w*embed\w*|pooler|classifier|lm_head|qa_outputs|score|cls|head|pre_classifier)(\.|$)"
)


def role_of(path: str) -> str:
    """The role of a linear module from the end of its path; "other" when no known name matches."""
    for pattern, role in PATTERNS:
        if re.search(pattern, path):
            return role
    return "other"
