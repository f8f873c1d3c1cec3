"""The grown job for a worker: ``streamdsl -A examples.fraud.everything:topology worker``.

All eight rules. `FRAUD_WITH` says what stands beside the topic of alerts: "critical,postgres,redis" if it is not set.
"""

from __future__ import annotations

import os

from .topology import parts, with_parts

__all__ = ["topology"]

topology = with_parts("all", parts(os.environ.get("FRAUD_WITH") or "critical,postgres,redis"))
