"""The Flower app of ECAN-SER's targets; see `target_site.federation.together`."""
