"""Verbs that are not there: what they are called here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streamdsl.errors import TopologyError
from streamdsl.schema import nearest

__all__ = ["UnknownVerbError", "unknown_verb"]

#: What other libraries call a verb, and what to write here.
_CALLED_HERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("where", "filter_not", "query", "filter_"), "filter(condition)"),
    **dict.fromkeys(("group_by", "groupby", "groupBy", "groupByKey", "keyBy", "key", "partition_by", "partitionBy"), "key_by(...)"),
    **dict.fromkeys(
        ("assign", "mutate", "withColumn", "with_column", "withColumns", "add_columns", "apply_columns", "derive"),
        "with_columns(name=expression)",
    ),
    **dict.fromkeys(("project", "selectKey", "select_expr", "selectExpr", "map_values", "mapValues"), "select(...) or with_columns(...)"),
    **dict.fromkeys(("pipe", "apply", "transform", "through"), "process(operator), with a function marked with @operator"),
    **dict.fromkeys(("agg", "aggregate_by", "summarise", "summarize", "fold"), "aggregate(total=...)"),
    **dict.fromkeys(("union", "concat", "vstack", "union_all", "unionAll", "merge_with"), "merge(other)"),
    **dict.fromkeys(("print", "show", "pprint", "printSchema", "debug"), "to(console()) or peek(print); head(n) returns rows"),
    **dict.fromkeys(("to_topic", "toTopic", "send_to", "to_kafka", "produce"), 'to(kafka("topic"))'),
    **dict.fromkeys(("sink", "add_sink", "addSink", "sink_to", "sinkTo", "write", "write_to", "output_to", "save"), "to(sink)"),
    **dict.fromkeys(("to_csv", "to_json", "to_parquet", "write_csv", "write_parquet", "sink_parquet", "sink_csv"), 'to(files("out.csv"))'),
    **dict.fromkeys(("split", "partition", "side_output", "route"), "branch(name=condition)"),
    **dict.fromkeys(("mapAsync", "async_map", "async_io", "unorderedWait", "orderedWait"), "map_async(function, schema=...)"),
    **dict.fromkeys(("lookup", "lookup_join", "enrich"), "join_lookup(lookup, on=...)"),
    **dict.fromkeys(("flatMap", "flat_map_values", "flatMapValues"), "flat_map(function, schema=...)"),
    **dict.fromkeys(("unwind", "arrayJoin", "flatten"), "explode(column) of a list, unnest(column) of a struct"),
    **dict.fromkeys(
        ("unique", "distinct", "drop_duplicates", "dropDuplicates", "dedup", "dedupe", "drop_duplicates_within_watermark"),
        'deduplicate(on="id", within="10m")',
    ),
    **dict.fromkeys(("foreach", "for_each", "forEach", "tap", "inspect"), "peek(function)"),
    **dict.fromkeys(("limit", "take", "first"), "head(n)"),
    **dict.fromkeys(("to_pandas", "toPandas", "to_polars", "to_arrow", "to_list", "execute", "fetch"), "collect(), an Arrow table"),
    **dict.fromkeys(("rolling", "rolling_window", "over"), "key_by(...).window(rolling(...))"),
    **dict.fromkeys(("windowed_by", "windowedBy", "tumbling", "tumbling_window", "group_by_dynamic"), "key_by(...).window(tumbling(...))"),
    **dict.fromkeys(("hopping", "hopping_window", "sliding", "sliding_window"), "key_by(...).window(hopping(...))"),
    **dict.fromkeys(("inner_join", "innerJoin", "interval_join", "intervalJoin"), 'join(other, on=..., within="10m")'),
    **dict.fromkeys(("asof_join", "asofjoin", "merge_asof", "temporal_join"), "join_asof(other, by=...)"),
    **dict.fromkeys(("left_join", "leftJoin"), 'join(other, on=..., how="left", within="10m")'),
    **dict.fromkeys(("outer_join", "outerJoin", "full_join"), 'join(other, on=..., how="outer", within="10m")'),
    **dict.fromkeys(("drop_columns", "dropColumns", "without"), "drop(...)"),
    **dict.fromkeys(("rename_columns", "withColumnRenamed"), "rename(old=new)"),
    **dict.fromkeys(("drop_nulls", "dropna", "drop_na"), 'filter(col("name").is_not_null())'),
    **dict.fromkeys(("fillna", "fill_null", "fill_na"), 'with_columns(name=col("name").fill_null(value))'),
    **dict.fromkeys(("cast", "astype"), 'with_columns(name=col("name").cast(type))'),
    **dict.fromkeys(("sum", "mean", "min", "max", "n_unique", "std", "var"), 'key_by(...).aggregate(x=col("x").sum())'),
    **dict.fromkeys(("columns", "dtypes"), "schema"),
    **dict.fromkeys(("run", "start", "execute_async"), "topology.run()"),
    **dict.fromkeys(("process_function", "processFunction", "stateful_map", "transform_with_state"), "process(Processor)"),
    **dict.fromkeys(("connectWith", "co_process", "coProcess", "zip", "combine_latest"), "key_by(...).connect(other.key_by(...))"),
    **dict.fromkeys(("as_table", "changelog"), "to_table(), or topology.table(source, key=...)"),
    **dict.fromkeys(("repartition", "rebalance", "shuffle", "rescale", "broadcast"), "key_by(...); topology.table(..., broadcast=True)"),
    **dict.fromkeys(("assignTimestampsAndWatermarks", "with_timestamp", "with_watermark", "withWatermark"), "topology.stream(timestamp=)"),
    **dict.fromkeys(("uid", "set_uid", "named", "set_name"), "name= of the verb"),
    **dict.fromkeys(("set_parallelism", "setParallelism"), "Config(parallelism=...)"),
    **dict.fromkeys(("suppress", "final"), 'window(..., emit="close"), which is the default'),
    **dict.fromkeys(("update", "set", "setitem", "__setitem__"), "with_columns(name=expression)"),
    **dict.fromkeys(("reduce_by_key", "reduceByKey"), "key_by(...).reduce(function)"),
    **dict.fromkeys(("count_by", "value_counts", "countByKey"), "key_by(...).count()"),
    **dict.fromkeys(("group_into_batches", "batch", "collect_batches"), "map_batches(function, schema=...), or a count_window(n)"),
    **dict.fromkeys(("foreignKeyJoin", "fk_join"), 'table.join(other, on="column")'),
}
#: The same of a topology.
_BEGIN_HERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("from_source", "fromSource", "add_source", "addSource", "read", "readStream", "read_stream", "input", "dataframe"),
        "stream(source)",
    ),
    **dict.fromkeys(("from_kafka", "read_kafka", "topic", "kafka"), 'stream(kafka("topic", schema))'),
    **dict.fromkeys(("from_collection", "fromElements", "from_elements", "from_list"), "stream(memory(name, schema, rows))"),
    **dict.fromkeys(("read_csv", "scan_csv", "read_parquet", "scan_parquet", "from_files"), "stream(files(pattern, schema))"),
    **dict.fromkeys(("globalTable", "global_table", "GlobalTable", "broadcast"), "table(source, key=..., broadcast=True)"),
    **dict.fromkeys(("kTable", "ktable", "Table", "table_from"), "table(source, key=...)"),
    **dict.fromkeys(("timer", "interval", "ticks", "crontab", "schedule", "tick"), 'every("10s")'),
    **dict.fromkeys(("execute", "execute_async", "main", "go"), "run()"),
    **dict.fromkeys(("agent", "process", "map", "filter", "key_by", "window", "join"), "stream(source), which has that verb"),
}
#: Verbs to come, and what to write until then.
_NOT_YET: Final[Mapping[str, str]] = {
    **dict.fromkeys(("sort", "order_by", "orderBy", "sort_by"), "a stream has no end to sort by; top_k(...) keeps the greatest"),
}
_NEED_A_KEY: Final = frozenset({"aggregate", "count", "reduce", "window"})


class UnknownVerbError(TopologyError, AttributeError):
    """There is no such verb. An `AttributeError` too, so that `hasattr` and `copy` go on."""


def unknown_verb(owner: Any, name: str) -> AttributeError:
    """Return what is raised for an attribute that `owner` does not have."""
    kind = type(owner).__name__
    if name.startswith("_"):
        return AttributeError(f"{kind!r} object has no attribute {name!r}")
    if name in _NEED_A_KEY and kind != "Topology":
        return UnknownVerbError(
            f"{name}() works on the records of a key",
            remedy="write .key_by(...) first; .key_by() without columns is everything as one key",
        )
    if name in _NOT_YET:
        return UnknownVerbError(f"{name}() is not supported yet", remedy=_NOT_YET[name])
    known = [verb for verb in dir(type(owner)) if not verb.startswith("_")]
    same = next((verb for verb in known if verb.replace("_", "") == name.replace("_", "").lower()), None)
    if same is not None:
        return UnknownVerbError(f"a {kind} has no {name}", remedy=f"here it is {same}(...)")
    if kind == "Topology":
        if name in _BEGIN_HERE:
            return UnknownVerbError(f"a {kind} has no {name}", remedy=f"here it is {_BEGIN_HERE[name]}")
    elif name in _CALLED_HERE:
        return UnknownVerbError(f"a {kind} has no {name}", remedy=f"here it is {_CALLED_HERE[name]}")
    near = nearest(name, known)
    return UnknownVerbError(
        f"a {kind} has no {name}", remedy=(f"did you mean {near!r}? " if near else "") + f"there is: {', '.join(known)}"
    )
