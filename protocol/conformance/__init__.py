"""Test any implementation as a black box: `ecan-conformance`.

The suite makes cases as data, hands them to a command and compares the answers with what docs/bundle-format.md demands.
See docs/conformance.md.
"""
