"""What must be right for a bundle to be trusted stays small enough to be read in an afternoon."""

import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRUSTED = (
    *(
        "protocol/bundle/architecture",
        "protocol/bundle/form",
        "protocol/bundle/frame",
        "protocol/canonical",
        "protocol/bundle/egress",
        "protocol/bundle/manifest",
    ),
    *(
        "protocol/identity/signing",
        "protocol/identity/hybrid",
        "protocol/bundle/trust",
        "protocol/bundle/weights",
        "protocol/bundle/sealing",
        "protocol/identity/sealing_keys",
    ),
    *("protocol/bundle/stated_audit", "protocol/bundle/override", "source_site/release/gate"),
)
MAX_LINES = 1500
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Lines that hold code: neither blank nor only a comment nor part of a string that stands alone."""
    documentation = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(lines - documentation)


def test_verifier_and_gate_have_at_most_1500_lines_of_code(record_property, capsys):
    sizes = {name: code_lines((ROOT / f"{name}.py").read_text()) for name in TRUSTED}
    record_property("lines", sum(sizes.values()))
    with capsys.disabled():
        print(f"\ncode lines of verifier and gate: {sum(sizes.values())} of {MAX_LINES}, {sizes}")
    assert sum(sizes.values()) <= MAX_LINES


def test_only_lines_with_code_count():
    source = (
        '"""About."""\n\nimport os  # why\n# a comment\n\ndef f():\n    """Do."""\n    return (\n        1\n    )\n'
    )
    assert code_lines(source) == 5
