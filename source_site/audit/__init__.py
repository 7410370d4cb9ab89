"""The leakage audit: what an attacker could learn about single utterances and speakers from the file that leaves."""
