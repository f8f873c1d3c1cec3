"""What DuckDB says of the same events: `nexmark.md` in SQL, one statement a query, its columns in their order."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

_VALID = """
    SELECT a.id AS auction_id, b.price AS bid_price, b.dateTime AS bid_time, b.n AS bid_n, a.*, b.auction, b.bidder, b.extra AS bextra
    FROM auction a JOIN bid b ON b.auction = a.id AND b.dateTime BETWEEN a.dateTime AND a.expires
"""
_DAY = "strftime(make_timestamp(dateTime * 1000), '%Y-%m-%d')"
_RANKS = {"total": "true", "rank1": "price < 10000", "rank2": "price >= 10000 AND price < 1000000", "rank3": "price >= 1000000"}
_TOTALS = ", ".join(
    f"{counted} FILTER ({condition})"
    for counted in ("count(*)", "count(DISTINCT bidder)", "count(DISTINCT auction)")
    for condition in _RANKS.values()
)

SQL = {
    "q0": "SELECT auction, bidder, price, dateTime, extra FROM bid",
    "q1": "SELECT auction, bidder, price * 908, dateTime, extra FROM bid",
    "q2": "SELECT auction, price FROM bid WHERE auction % 123 = 0",
    "q3": """
        SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id
        WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')
    """,
    "q4": f"""
        WITH final AS (SELECT auction_id, category, max(bid_price) AS price FROM ({_VALID}) GROUP BY ALL)
        SELECT category, (sum(price) // count(*))::BIGINT, sum(price)::BIGINT, count(*) FROM final GROUP BY category
    """,
    "q5": """
        WITH counts AS (
            SELECT (dateTime // 2000 - i) * 2000 AS start, auction, count(*) AS num FROM bid, range(5) AS hops(i) GROUP BY ALL
        )
        SELECT start, start + 10000, auction, num FROM counts QUALIFY num = max(num) OVER (PARTITION BY start)
    """,
    "q7": """
        SELECT dateTime // 10000 * 10000 + 10000 AS ends, auction, bidder, price, dateTime, extra FROM bid
        QUALIFY price = max(price) OVER (PARTITION BY dateTime // 10000)
    """,
    "q8": """
        SELECT DISTINCT p.id, p.name, p.dateTime // 10000 * 10000 FROM person p
        JOIN auction a ON a.seller = p.id AND a.dateTime // 10000 = p.dateTime // 10000
    """,
    "q9": f"""
        SELECT id, itemName, description, initialBid, reserve, dateTime, expires, seller, category, extra, auction, bidder,
            bid_price, bid_time, bextra
        FROM ({_VALID}) QUALIFY row_number() OVER (PARTITION BY auction_id ORDER BY bid_price DESC, bid_time, bid_n) = 1
    """,
    "q11": """
        WITH marked AS (
            SELECT bidder, dateTime, dateTime - lag(dateTime) OVER (PARTITION BY bidder ORDER BY dateTime, n) > 10000 AS new, n FROM bid
        ), numbered AS (
            SELECT *, count(*) FILTER (new) OVER (PARTITION BY bidder ORDER BY dateTime, n) AS session FROM marked
        )
        SELECT bidder, count(*), min(dateTime), max(dateTime) + 10000 FROM numbered GROUP BY bidder, session
    """,
    "q12": """
        SELECT bidder, count(*), dateTime // 10000 * 10000 AS start, dateTime // 10000 * 10000 + 10000 FROM bid
        GROUP BY bidder, dateTime // 10000
    """,
    "q15": f"SELECT {_DAY} AS day, {_TOTALS} FROM bid GROUP BY day",
    "q16": f"""
        SELECT channel, {_DAY} AS day, max(strftime(make_timestamp(dateTime * 1000), '%H:%M')), {_TOTALS} FROM bid GROUP BY channel, day
    """,
    "q17": f"""
        SELECT auction, {_DAY} AS day, {", ".join(f"count(*) FILTER ({condition})" for condition in _RANKS.values())},
            min(price), max(price), (sum(price) // count(*))::BIGINT, sum(price)::BIGINT
        FROM bid GROUP BY auction, day
    """,
    "q18": """
        SELECT auction, bidder, price, channel, url, dateTime, extra FROM bid
        QUALIFY row_number() OVER (PARTITION BY bidder, auction ORDER BY dateTime DESC, n DESC) = 1
    """,
    "q19": """
        SELECT auction, bidder, price, channel, url, dateTime, extra,
            row_number() OVER (PARTITION BY auction ORDER BY price DESC, dateTime, n) AS rank_number
        FROM bid QUALIFY rank_number <= 10
    """,
    "q20": """
        SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.dateTime, b.extra, a.itemName, a.description, a.initialBid, a.reserve,
            a.dateTime, a.expires, a.seller, a.category, a.extra
        FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10
    """,
    "q21": """
        WITH known AS (
            SELECT auction, bidder, price, channel, CASE lower(channel)
                WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                ELSE CASE WHEN regexp_matches(url, '(^|&)channel_id=') THEN regexp_extract(url, '(^|&)channel_id=([^&]*)', 2) END
            END AS channel_id FROM bid
        )
        SELECT * FROM known WHERE channel_id IS NOT NULL
    """,
    "q22": """
        SELECT auction, bidder, price, channel, split_part(url, '/', 4), split_part(url, '/', 5), split_part(url, '/', 6) FROM bid
    """,
}


def answers(events: Any) -> duckdb.DuckDBPyConnection:
    """Return a connection to a database that has the three streams as tables."""
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    for name, table in events:
        connection.register(f"_{name}", table)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM _{name}")
    return connection


def answer(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query, sorted."""
    return sorted(connection.execute(SQL[query]).fetchall())


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """Return the rows of our result in the same form."""
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True))
