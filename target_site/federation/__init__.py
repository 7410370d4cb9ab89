"""Adapt one model together with other sites; Flower carries the updates."""
