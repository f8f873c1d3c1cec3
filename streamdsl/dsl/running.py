"""What a topology can do once it is written: explain itself, run, become a job of Flink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from streamdsl.logical.drawing import svg

if TYPE_CHECKING:
    from streamdsl.config import Config
    from streamdsl.dsl.topology import Bindings, Topology
    from streamdsl.flink.job import FlinkJob
    from streamdsl.launch import Run

__all__ = ["Running"]


class Running:
    """What a `Topology` has of it."""

    def _repr_html_(self) -> str:
        """Show the topology as a picture, in a notebook."""
        return svg(cast("Topology", self).plan())

    def explain(self, parallelism: int = 1, bind: Bindings | None = None) -> str:
        """Return all four forms of the plan as text: as typed, what it means, optimised, and how it runs.

        Examples
        --------
        >>> topology = Topology("t")
        >>> topology.stream(memory("rows", {"x": int, "unused": str})).select("x").to(memory("out"))
        >>> text = topology.explain()
        >>> print(text[text.index("== physical"):])
        == physical ==
        t: 1 stage, parallelism 1, 128 shards
        stage 0 × 1
          0 Source [rows] reads x; time of the record
          1 Sink [out] <- 0 writes x
        """
        from streamdsl.compiler import compile, explain

        return explain(compile(cast("Topology", self), parallelism=parallelism, bind=bind))

    def to_flink(self, *, bind: Bindings | None = None, offsets: Mapping[str, Mapping[int, int]] | None = None) -> FlinkJob:
        """Return the topology as a job of Apache Flink: statements of its SQL, which print as a script.

        Parameters
        ----------
        bind : mapping, optional
            Sources and sinks to use in place of those of the same names.
        offsets : mapping, optional
            Where sources of topics begin, instead of at their `start`: ``{"orders": {0: 4210, 1: 3977}}``.

        Raises
        ------
        TopologyError
            Something has no equal in Flink SQL; the error names all such things, and what to do.

        Examples
        --------
        >>> from streamdsl import Topology, col, kafka
        >>> topology = Topology("large-orders")
        >>> orders = topology.stream(kafka("orders", {"id": int, "amount": float}))
        >>> orders.filter(col("amount") > 1000).to(kafka("large-orders"))
        >>> [statement.name for statement in topology.to_flink().statements if statement.kind != "set"]
        ['orders', 'filter_1', 'large-orders', 'large-orders']
        """
        from streamdsl.compiler import readable_plan
        from streamdsl.flink.translate import translate

        return translate(readable_plan(cast("Topology", self), bind=bind), offsets)

    def run(self, config: Config | None = None, *, bind: Bindings | None = None) -> Run:
        """Run until the input ends or Ctrl-C.

        Parameters
        ----------
        config : Config, optional
        bind : mapping, optional
            Sources and sinks to use in place of those of the same names.

        Examples
        --------
        >>> topology = Topology("t")
        >>> topology.stream(memory("rows", {"x": int})).to(memory("out"))
        >>> out = memory("other")
        >>> topology.run(Config(parallelism=2), bind={"rows": memory("given", {"x": int}, [{"x": 5}]), "out": out}).finished
        True
        >>> out.rows()
        [{'x': 5}]
        """
        from streamdsl import launch

        return launch.run(self, config, bind)

    def start(self, config: Config | None = None, *, bind: Bindings | None = None) -> Run:
        """Start running and return the `Run` to wait for, stop or drain. Arguments as `run`.

        Examples
        --------
        >>> topology = Topology("t")
        >>> topology.every("10ms").to(memory("ticks"))
        >>> with topology.start(Config(stop_timeout="1m")) as run:
        ...     run.wait(0.05)
        False
        >>> run.finished
        False
        """
        from streamdsl import launch

        return launch.start(self, config, bind)
