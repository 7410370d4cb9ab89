"""Adapt a released model together with other sites of one operator: Flower carries what they exchange."""
