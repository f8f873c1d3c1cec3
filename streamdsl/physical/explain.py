"""Printing a physical plan: stages, their edges, their operators and programs."""

from __future__ import annotations

from streamdsl.physical import node as physical

__all__ = ["explain_physical"]


def explain_physical(plan: physical.PhysicalPlan) -> str:
    """Return the plan as text."""
    lines = [f"{plan.name}: {_many(len(plan.stages), 'stage')}, parallelism {plan.parallelism}, {_shards(plan)}"]
    for stage in plan.stages:
        lines.append(f"stage {stage.id} × {stage.parallelism}")
        for number, edge in enumerate(stage.edges):
            tag = f" {edge.tag!r}" if edge.tag else ""
            lines.append(f"  edge {number}: {edge.partition} from {edge.stage}.{edge.operator}{tag}")
        for number, operator in enumerate(stage.operators):
            lines.append(f"  {number} {_operator(operator)}")
    return "\n".join(lines)


def _shards(plan: physical.PhysicalPlan) -> str:
    """Return what is known of the number of shards before the partitions are counted."""
    operators = [operator for stage in plan.stages for operator in stage.operators]
    sources = [one.name for one in operators if isinstance(one, physical.PhysicalSource) and one.partitioned_by >= 0]
    return f"{plan.shards} shards or more, a multiple of the splits of {', '.join(sources)}" if sources else f"{plan.shards} shards"


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _operator(operator: physical.PhysicalOperator) -> str:
    kind = type(operator).__name__.removeprefix("Physical")
    read = ", ".join(_input(one) for one in operator.inputs)
    parts = [kind, f"[{operator.name}]", f"<- {read}" if read else "", _detail(operator)]
    return " ".join(part for part in parts if part)


def _input(one: physical.Input) -> str:
    if one.operator < 0:
        return f"edge {one.edge}"
    return f"{one.operator} {one.tag!r}" if one.tag else str(one.operator)


def _detail(operator: physical.PhysicalOperator) -> str:
    if isinstance(operator, physical.PhysicalSource):
        by = f"; partitioned by {operator.columns[operator.partitioned_by]}" if operator.partitioned_by >= 0 else ""
        return f"reads {', '.join(operator.columns)}; time {_time(operator)}{by}"
    if isinstance(operator, physical.PhysicalFilter):
        return program_text(operator.predicate)
    if isinstance(operator, physical.PhysicalCounter):
        return f"{operator.metric}: {program_text(operator.predicate)}"
    if isinstance(operator, physical.PhysicalProject):
        return _project(operator)
    if isinstance(operator, physical.PhysicalKeyEncode):
        keys = ", ".join(operator.schema.names[key] for key in operator.keys)
        return f"{keys} | no exchange: the source is partitioned by it" if operator.partitioned else keys
    if isinstance(operator, (physical.PhysicalFrame, physical.PhysicalAggregate, physical.PhysicalWindowAggregate)):
        return f"lookup {operator.lookup}: {program_text(operator.arguments)} | {_aggregates(operator.aggregates)}"
    if isinstance(operator, physical.PhysicalDeduplicate):
        return f"lookup {operator.lookup}" + ("" if operator.within_ms is None else f": within {operator.within_ms}")
    if isinstance(operator, (physical.PhysicalReduce, physical.PhysicalProcess, physical.PhysicalTable)):
        return f"lookup {operator.lookup}"
    if isinstance(operator, physical.PhysicalIntervalJoin):
        bounds = "unbounded" if operator.before_ms is None else f"before {operator.before_ms} after {operator.after_ms}"
        return f"lookup {operator.lookup}: {operator.how}, {bounds}, grace {operator.grace_ms}"
    if isinstance(operator, physical.PhysicalAsOfJoin):
        exact = "" if operator.allow_exact else ", not at the same time"
        return f"lookup {operator.lookup}: {operator.how}, as of, tolerance {operator.tolerance_ms}{exact}"
    if isinstance(operator, physical.PhysicalTableJoin):
        return f"lookup {operator.lookup}: {operator.how}, with a table"
    if isinstance(operator, physical.PhysicalTablesJoin):
        return f"lookup {operator.lookup}: {operator.how}, of two tables"
    if isinstance(operator, physical.PhysicalSink):
        keys = f" upsert by {', '.join(operator.keys)}" if operator.keys else ""
        return f"writes {', '.join(operator.schema.names)}{keys}"
    return ""


def _time(operator: physical.PhysicalSource) -> str:
    return "of the record" if operator.times is None else operator.times.column


def _project(operator: physical.PhysicalProject) -> str:
    outputs = iter(operator.program.outputs)
    made = [
        f"{name} = {f'#{column}' if column >= 0 else f'%{next(outputs)}'}"
        for name, column in zip(operator.schema.names, operator.columns, strict=True)
    ]
    text = ", ".join(made)
    return f"{text} | {program_text(operator.program)}" if operator.program.instructions else text


def program_text(program: physical.ProgramSpec) -> str:
    """Return a program on one line: instructions by number, then its outputs."""
    lines = []
    for number, one in enumerate(program.instructions):
        if one.op == "column":
            lines.append(f"%{number} = #{one.params[0]}")
            continue
        inside = [f"%{arg}" for arg in one.args] + [repr(param) for param in one.params]
        lines.append(f"%{number} = {one.op}.{one.kind}({', '.join(inside)})")
    return f"{'; '.join(lines)} -> {', '.join(f'%{output}' for output in program.outputs)}" if lines else ""


def _aggregates(aggregates: tuple[physical.AggregateSpec, ...]) -> str:
    return "; ".join(_aggregate(one) for one in aggregates)


def _aggregate(one: physical.AggregateSpec) -> str:
    inside = [] if one.argument < 0 else [f"output {one.argument}"]
    inside += [f"row of outputs {', '.join(str(place) for place, *_ in one.row)}"] if one.row else []
    inside += [f"by output {one.by}"] if one.by >= 0 else []
    inside += [f"then by output {then_by}" for then_by in one.then_by]
    inside += [f"where output {one.where}"] if one.where >= 0 else []
    inside += [f"{name}={value!r}" for name, value in one.params]
    frame = ""
    if one.frame is not None:
        size = f" {one.frame.size_ms} ms" if one.frame.kind == "rolling" else ""
        frame = f" over {one.frame.kind}{size}{' before' if one.frame.exclude_current else ''}"
    return f"{one.name}: {one.kind}({', '.join(inside)}) {one.output_kind}{frame}"
