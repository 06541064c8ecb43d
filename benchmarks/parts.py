"""The names of what a run can measure: the bars of the product's page, section 7, and what is shown beside them."""

from typing import Final

VALIDATES: Final = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "pipelined", "durable", "orm")
"""Contenders in turn, all in one interleaved run. The last three have no goal."""
ROWS: Final = ("B9",)
SWEEP: Final = ("B12",)
MOVE: Final = ("B13",)
CURVE: Final = ("callers",)
"""Throughput against callers, for the picture."""
SOCKETS: Final = ("B10", "B11")
PARTS: Final = (*VALIDATES, *ROWS, *SWEEP, *MOVE, *CURVE, *SOCKETS)
