"""The Flower app of a roll-out; see `source_site.federation.rollout` and `target_site.federation.node`."""
