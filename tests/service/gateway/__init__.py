"""Tests of the gateway's edge; a package, so that they share `harness`."""
