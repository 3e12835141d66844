"""Tests of the price book and of usage."""
