"""The command line: thin typer commands over the package; heavy imports inside functions."""
