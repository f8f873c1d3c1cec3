"""A Python function over the bids of Nexmark, for `flink.py`: what Python costs here, and in PyFlink."""

from typing import Any

from examples.nexmark.events import Bid
from streamdsl import Topology, files


def in_euros(row: Any) -> dict[str, Any]:
    """What the first query of Nexmark does, as a function."""
    return {"auction": row.auction, "bidder": row.bidder, "price": row.price * 908 // 1000}


topology = Topology("python-function")
bids = topology.stream(files("bid.jsonl", Bid), name="bid")
bids.map(in_euros, schema={"auction": int, "bidder": int, "price": int}).to(files("out.jsonl", format="json"), name="out")
