"""Wires: the languages of APIs, read and written as pure functions of bytes.

This table is the only place that knows them all.
"""

from __future__ import annotations

from spanledger.wires.base import Inbound
from spanledger.wires.openai.chat import Chat
from spanledger.wires.openai.embeddings import Embeddings

CHAT, EMBEDDINGS = Chat(), Embeddings()
INBOUND: dict[str, Inbound] = {wire.path: wire for wire in (CHAT, EMBEDDINGS)}
"""What callers may speak, by path; each is a POST."""
DEFAULT: Inbound = CHAT
"""What a caller is answered in whose request says nothing of its wire."""
