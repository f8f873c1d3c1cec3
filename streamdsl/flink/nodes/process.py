"""Processors: keyed process functions, which a program of PyFlink puts between the views."""

from __future__ import annotations

from typing import Any, Final

from streamdsl.flink.job import Statement
from streamdsl.flink.nodes.python_function import given_columns, taken_columns
from streamdsl.flink.python.process import PythonProcess
from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import TIME, Relation
from streamdsl.flink.translation import Translation, comment, select, with_key
from streamdsl.logical.node import Node
from streamdsl.logical.process import ProcessNode
from streamdsl.schema import Schema

__all__ = ["output_of", "process"]

_ELSEWHERE: Final = "say it with expressions, frames and aggregates; or run this part here, and hand its topic to Flink"


def process(made: Translation, node: ProcessNode) -> Relation:
    """The rows as they go to Python, and views of what the processor makes of them."""
    source = made.of(node.inputs[0])
    owner: Any = node.processor if isinstance(node.processor, type) else type(node.processor)
    if node.window is not None:
        raise Refused(f"{owner.__name__}.process_window, Python code over the rows of a window", "aggregate(...), or " + _ELSEWHERE)
    if not hasattr(owner.process_batch, "__streamdsl_default__"):
        raise Refused(f"{owner.__name__}.process_batch: Flink gives a keyed process function row by row", "write process(row, ctx)")
    if source.changes:
        raise Refused(f"the Processor {owner.__name__} of the changes of a table", "write the table to a topic, and read that as a stream")
    source.need_rowtime(f"the Processor {owner.__name__}")
    name = made.name_of(node)
    given = node.inputs[0].schema.visible()
    rows = made.name_of(node, f"{name}_rows")
    columns = [f"{text} AS {quoted(one)}" for one, text in zip(given.names, given_columns(given, source, "S"), strict=True)]
    query = select([*columns, *source.time_columns("S.")], f"{quoted(source.name)} AS S", with_key(node))
    made.statements.append(Statement("view", rows, f"CREATE TEMPORARY VIEW {quoted(rows)} AS\n{query}", f"{node.verb} {name!r}: its rows"))
    tagged = (("", node.output), *node.outputs)
    views = {tag: made.name_of(node, f"{name}_{tag}_python" if tag else f"{name}_python") for tag, _ in tagged}
    outputs = tuple((tag, views[tag], schema.visible()) for tag, schema in tagged)
    one = PythonProcess(name, node.name, node.processor, rows, given, tuple(node.key_schema.names), outputs)
    made.processes.append(one)
    said = f"{node.verb} {name!r}: job.py makes a keyed process function of {owner.__name__}, and of its rows {_views(one)}"
    made.statements.append(Statement("process", name, "", said))
    made.differs(
        f"The Processor {owner.__name__} runs in PyFlink, by job.py of the project. It has no ttl=, no timers of the wall clock and no "
        "every=: a job that asks for them fails. A timer that a timer sets for a time that has passed fires with the next watermark."
    )
    made.differs(
        "Timers in PyFlink fire between bundles of rows, and may see more later rows than here: python.fn-execution.bundle.size = 1 and "
        "pipeline.auto-watermark-interval = 0 let each row be one."
    )
    return _typed(made, node, name, outputs[0][1], outputs[0][2])


def _views(one: PythonProcess) -> str:
    return ", ".join(view for _, view, _ in one.outputs)


def _typed(made: Translation, node: Node, name: str, view: str, schema: Schema) -> Relation:
    items, nan = taken_columns(schema, "F")
    query = select([*items, f"F.{quoted(TIME)}"], f"{quoted(view)} AS F")
    made.statements.append(Statement("view", name, f"CREATE TEMPORARY VIEW {quoted(name)} AS\n{query}", comment(node)))
    return Relation(name, time="rowtime", nan=nan)


def output_of(made: Translation, node: Node, process: ProcessNode, tag: str) -> Relation | None:
    """Return the rows of a tagged output of a processor, None if it has none of that name."""
    for one in made.processes:
        for known, view, schema in one.outputs if one.step == process.name else ():
            if known == tag:
                return _typed(made, node, made.name_of(node, f"{one.name}_{tag}"), view, schema)
    return None
