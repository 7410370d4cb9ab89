"""The ServerApp that Flower's engine runs at the coordinator."""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from source_site.federation.coordinator import federate, write_outcome
from source_site.federation.plan import Plan

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train by the plan of the run's configuration and write the run folder that it names."""
    outcome = federate(grid, context, Plan.from_text(str(context.run_config["plan"])))
    write_outcome(outcome, Path(str(context.run_config["out"])))
