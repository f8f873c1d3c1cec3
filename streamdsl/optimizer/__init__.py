"""The same plan, cheaper: pure passes, one a file, in the order of `PASSES`; each is verified when it has run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from streamdsl.logical.plan import LogicalPlan
from streamdsl.optimizer.elide_exchange import elide_exchange
from streamdsl.optimizer.fuse import fuse
from streamdsl.optimizer.gather_keyed import gather_keyed
from streamdsl.optimizer.prune_columns import prune_columns
from streamdsl.optimizer.push_filters import push_filters
from streamdsl.optimizer.verify import verify

__all__ = ["PASSES", "Pass", "optimise"]

Pass = Callable[[LogicalPlan], LogicalPlan]

#: Keys are gathered first: what is shared then stays shared. Columns go when it is known who reads them; last of all is seen
#: what still stands between a source and a key.
PASSES: Final[tuple[Pass, ...]] = (gather_keyed, push_filters, fuse, prune_columns, elide_exchange)


def optimise(plan: LogicalPlan, passes: Sequence[Pass] = PASSES) -> LogicalPlan:
    """Return the plan after all passes, in order."""
    for change in passes:
        changed = change(plan)
        verify(plan, changed, change.__name__)
        plan = changed
    return plan
