"""The Flower app of ECAN-SER; see `source_site.federation`."""
