"""Windows, frames and aggregates as text of Flink SQL."""

from __future__ import annotations

from streamdsl import Topology, col, count, expanding, hopping, kafka, session, tumbling
from tests.flink.texts import ORDER, orders, statements


def test_windows_are_table_functions() -> None:
    topology = Topology("t")
    rows = orders(topology).key_by("customer")
    rows.window(tumbling("1m")).aggregate(n=count(), name="minutes").to(kafka("a", broker="b:1"))
    rows.window(hopping("10m", "1m")).aggregate(total=col("amount").sum(), name="tens").to(kafka("b", broker="b:1"))
    rows.window(session("30s")).aggregate(most=col("amount").max(), name="visits").to(kafka("c", broker="b:1"))
    found = statements(topology)
    assert "TABLE(TUMBLE(TABLE `orders`, DESCRIPTOR(`_time`), INTERVAL '1' MINUTE))" in found["minutes"]
    assert "TABLE(HOP(TABLE `orders`, DESCRIPTOR(`_time`), INTERVAL '1' MINUTE, INTERVAL '10' MINUTE))" in found["tens"]
    assert "TABLE(SESSION(TABLE `orders` PARTITION BY `customer`, DESCRIPTOR(`_time`), INTERVAL '30' SECOND))" in found["visits"]
    assert "GROUP BY `customer`, window_start, window_end, window_time" in found["minutes"]
    assert topology.to_flink().statements[-1].text.startswith("EXECUTE STATEMENT SET\nBEGIN")


def test_windows_that_flink_has_not_are_some_of_those_that_it_has() -> None:
    topology = Topology("t")
    rows = orders(topology).key_by("customer")
    rows.window(tumbling("1d", offset="5h30m")).aggregate(n=count(), name="days").to(kafka("a", broker="b:1"))
    rows.window(hopping("5m", "2m")).aggregate(n=count(), name="uneven").to(kafka("b", broker="b:1"))
    rows.window(hopping("2m", "1m")).aggregate(first=col("id").first(), name="first").to(kafka("c", broker="b:1"))
    found = statements(topology)
    assert "HOP(TABLE `orders`, DESCRIPTOR(`_time`), INTERVAL '30' MINUTE, INTERVAL '1' DAY)" in found["days"]
    assert "- 19800000, 86400000) = 0" in found["days"]
    assert "INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)" in found["uneven"] and "- 0, 120000) = 0" in found["uneven"]
    assert "- 0, 60000) = 0" in found["first"] and "FIRST_VALUE(`id`)" in found["first"]


def test_running_aggregates_are_upserts() -> None:
    topology = Topology("t")
    orders(topology).key_by("customer").aggregate(n=count(), name="orders of each").to(kafka("counts", broker="b:1"))
    found = statements(topology)
    assert "PRIMARY KEY (`customer`) NOT ENFORCED" in found["counts"] and "'connector' = 'upsert-kafka'" in found["counts"]
    assert "GROUP BY `customer`" in found["orders_of_each"]


def test_frames_are_over() -> None:
    topology = Topology("t")
    earlier = expanding(exclude_current=True)
    rows = orders(topology).key_by("customer").with_columns(before=col("amount").mean().over(earlier), last=col("id").lag(2), name="frame")
    rows.to(kafka("a", broker="b:1"))
    text = statements(topology)["frame"]
    assert "AVG(`amount`) OVER (PARTITION BY `customer` ORDER BY `_time` ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)" in text
    assert "LAG(`before`, 1) OVER (PARTITION BY `customer` ORDER BY `_time`)" in text
    assert "LAG(`id`, 2) OVER" in text


def test_the_best_row_of_a_key_is_the_first_of_numbered_ones() -> None:
    topology = Topology("t")
    best = orders(topology).key_by("customer").aggregate(dearest=col("id").max_by("amount"), most=col("amount").max())
    best.to(kafka("o", broker="b:1"), name="out")
    found = statements(topology)["aggregate_2"]
    assert "ROW_NUMBER() OVER (PARTITION BY `customer` ORDER BY `amount` DESC) AS `_number`" in found
    assert "WHERE `_number` <= 1" in found and "JOIN" not in found


def test_the_first_row_by_two_columns_is_taken_from_two() -> None:
    topology = Topology("t")
    best = orders(topology).key_by("customer").aggregate(last=col("id").top_k(1, by="amount", then_by="id").list.first())
    best.to(kafka("o", broker="b:1"), name="out")
    found = statements(topology)["aggregate_2"]
    assert "ORDER BY `amount` DESC, `id` DESC" in found and "WHERE `_number` <= 2" in found
    assert "FIRST_VALUE(`_top_k_id_amount`) FILTER (WHERE `_number` = 1)" in found


def test_best_rows_stand_beside_other_aggregates() -> None:
    topology = Topology("t")
    best = orders(topology).key_by("customer").aggregate(n=count(), dearest=col("id").max_by("amount").filter(col("amount") < 10))
    best.to(kafka("o", broker="b:1"), name="out")
    found = statements(topology)["aggregate_2"]
    assert "COUNT(*) AS `n`" in found and "LEFT JOIN (" in found and "WHERE (`amount` < " in found


def test_a_session_of_several_key_columns_is_of_one() -> None:
    topology = Topology("t")
    visits = orders(topology).key_by("customer", "id").window(session("30s")).aggregate(n=count(), name="visits")
    visits.to(kafka("o", broker="b:1"))
    found = statements(topology)
    assert "PARTITION BY `_key_of_session`, DESCRIPTOR" in found["visits"] and "GROUP BY `_key_of_session`, window_start" in found["visits"]
    assert "`_key_of_session`.`customer` AS `customer`" in found["visits"]


def test_the_best_rows_of_a_window_stand_beside_its_other_aggregates() -> None:
    topology = Topology("t")
    best = orders(topology).key_by("customer").window(tumbling("1m"))
    best.aggregate(n=count(), who=col("id").max_by("amount"), name="best").to(kafka("o", broker="b:1"))
    text = statements(topology)["best"]
    assert "COUNT(*) AS `n`" in text and "ORDER BY `amount` DESC) AS `_number`" in text
    assert "ON `t0`.window_start = `t1`.window_start AND `t0`.window_end = `t1`.window_end AND `t0`.`customer` = `t1`.`customer`" in text


def test_grace_is_a_later_watermark_of_what_the_window_reads() -> None:
    topology = Topology("t")
    rows = orders(topology)
    first = rows.key_by("customer").window(tumbling("1m"), grace="30s").aggregate(n=count())
    first.key_by("n").window(tumbling("1h"), grace="10s").aggregate(m=count()).to(kafka("o", broker="b:1"))
    other = topology.stream(kafka("others", ORDER, broker="b:1"), timestamp="at", name="others")
    other.filter(col("id") > 1).to(kafka("p", broker="b:1"))
    found = statements(topology)
    assert "`_time` - INTERVAL '0 00:00:45.001' DAY TO SECOND(3)" in found["orders"]
    assert "`_time` - INTERVAL '0 00:00:00.001' DAY TO SECOND(3)" in found["others"]
    assert any("grace= is a watermark of 'orders'" in said and "40000 ms" in said for said in topology.to_flink().differences)


def test_rows_of_one_window_are_joined() -> None:
    topology = Topology("t")
    rows = orders(topology)
    other = topology.stream(kafka("others", ORDER, broker="b:1"), timestamp="at", name="others")
    joined = rows.join(other.rename(id="other", at="then"), on="customer", within=tumbling("1m", offset="5s"), grace="3s", name="both")
    joined.select("id", "other").to(kafka("o", broker="b:1"))
    text = statements(topology)["both"]
    assert "BETWEEN L.`_time` - INTERVAL '0 00:00:59.999' DAY TO SECOND(3) AND L.`_time` + " in text
    assert text.count("- CAST(MOD(MOD(") == 2 and "- 5000)" in text
    assert "'0 00:00:08.001'" in statements(topology)["orders"]
