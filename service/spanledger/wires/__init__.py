"""Wires: the languages of APIs, read and written as pure functions of bytes."""
