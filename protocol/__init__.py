"""What crosses between the two sites, and who may be believed: cryptography and bytes, no torch."""
