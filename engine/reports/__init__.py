"""Reports in HTML, read from the lake alone: a front page, a page per symbol, small pictures."""

from engine.reports.leaderboard import leaderboard_rows, write_reports
from engine.reports.svg import equity_markdown, equity_svg

__all__ = ["equity_markdown", "equity_svg", "leaderboard_rows", "write_reports"]
