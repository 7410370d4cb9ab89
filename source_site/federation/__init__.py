"""Train one network at several source sites.

Each trains on its own labelled speech, and Flower carries what they exchange.
"""
