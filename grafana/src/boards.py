"""All dashboards."""

from __future__ import annotations

from grafana.src import overview

BOARDS = (overview.BOARD,)
