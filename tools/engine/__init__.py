"""A Docker engine of its own for the tests of the compose stack: fetched, started, and gone afterwards."""
