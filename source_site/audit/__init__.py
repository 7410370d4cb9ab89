"""Audit leakage: what an attacker could learn from the released file.

About single utterances and about speakers.
"""
