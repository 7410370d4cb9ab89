"""Hold version 1 of the messages.

The schema lies here, and what `make stubs` generates from it.
"""
