"""Several source sites train one network, each on its own labelled speech: Flower carries what they exchange."""
