"""A private Docker engine for the tests of the compose stack: fetched, started, and removed afterwards."""
