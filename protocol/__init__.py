"""Define what crosses between the two sites, and whom to believe.

Cryptography and bytes, no torch.
"""
