"""Hostile inputs, one fault each, given to the real command lines and the real wire.

The numbers (B01, S01, G01, ...) are those of the project's threat analysis; every case states the exit code and
the code word that it must end with.
"""
