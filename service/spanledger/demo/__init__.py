"""The demo: a scripted incident with simulated providers, shown live and then checked."""
