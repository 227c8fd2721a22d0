"""Token counts, inclusive: `input_total` holds cached tokens, `output_total` holds reasoning. Unknown is None, not 0."""

from msgspec import Struct


class Usage(Struct, frozen=True, gc=False):
    """Counts of one answer; every later report of a stream replaces the earlier one."""

    input_total: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    output_total: int | None = None
    reasoning: int | None = None

    @property
    def total(self) -> int:
        return (self.input_total or 0) + (self.output_total or 0)

    def merged(self, later: "Usage") -> "Usage":
        """This report with every count that `later` knows replaced. A later zero does not erase a known count."""
        return Usage(
            input_total=_newer(self.input_total, later.input_total),
            cache_read=_newer(self.cache_read, later.cache_read),
            cache_write=_newer(self.cache_write, later.cache_write),
            output_total=_newer(self.output_total, later.output_total),
            reasoning=_newer(self.reasoning, later.reasoning),
        )


def _newer(known: int | None, later: int | None) -> int | None:
    return later if later or known is None else known
