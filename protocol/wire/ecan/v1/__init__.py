"""Version 1 of the messages: the schema and what `make stubs` generates from it."""
