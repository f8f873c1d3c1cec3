"""Functions of time: ``col("event_time").dt.hour()``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamdsl.durations import Duration, parse_duration
from streamdsl.errors import TopologyError
from streamdsl.expr.expression import Expr, call
from streamdsl.expr.words import TIME_WORDS, unknown_word

__all__ = ["TimeFunctions"]


@dataclass(frozen=True, slots=True)
class TimeFunctions:
    """Functions of time in UTC: ``col("event_time").dt.hour()``; integers are milliseconds since 1970."""

    expr: Expr

    if not TYPE_CHECKING:  # a type checker shall find words that are not there

        def __getattr__(self, name):
            unknown_word(self, "dt.", name, TIME_WORDS)

    def year(self) -> Expr:
        """Year."""
        return call("dt_year", self.expr)

    def month(self) -> Expr:
        """Month, 1 to 12."""
        return call("dt_month", self.expr)

    def day(self) -> Expr:
        """Day of the month, 1 to 31."""
        return call("dt_day", self.expr)

    def hour(self) -> Expr:
        """Hour, 0 to 23."""
        return call("dt_hour", self.expr)

    def minute(self) -> Expr:
        """Minute, 0 to 59."""
        return call("dt_minute", self.expr)

    def second(self) -> Expr:
        """Second, 0 to 59."""
        return call("dt_second", self.expr)

    def weekday(self) -> Expr:
        """Day of the week, 1 = Monday to 7 = Sunday."""
        return call("dt_weekday", self.expr)

    def millisecond(self) -> Expr:
        """Millisecond, 0 to 999."""
        return call("dt_millisecond", self.expr)

    def ordinal_day(self) -> Expr:
        """Day of the year, 1 to 366."""
        return call("dt_ordinal_day", self.expr)

    def date(self) -> Expr:
        """The day, as a date."""
        return call("dt_date", self.expr)

    def truncate(self, step: Duration) -> Expr:
        """The last multiple of `step` since 1970 that is not later."""
        ms = parse_duration(step, "truncate")
        if ms == 0:
            raise TopologyError("dt.truncate needs a step longer than 0")
        return call("dt_truncate", self.expr, params=(ms,))
