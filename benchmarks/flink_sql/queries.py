"""Nexmark in Flink's SQL: the columns of the result, and the query. As the benchmark's own, with the choices of examples/nexmark."""

from __future__ import annotations

_BID = "auction BIGINT, bidder BIGINT, price BIGINT"
_DAY = "DATE_FORMAT(ts, 'yyyy-MM-dd')"
_RANKS = ("", "FILTER (WHERE price < 10000)", "FILTER (WHERE price >= 10000 AND price < 1000000)", "FILTER (WHERE price >= 1000000)")
_TOTALS = ", ".join(f"{what} {rank}" for what in ("COUNT(*)", "COUNT(DISTINCT bidder)", "COUNT(DISTINCT auction)") for rank in _RANKS)
_TWELVE = ", ".join(f"c{i} BIGINT" for i in range(12))
_VALID = "auction A JOIN bid B ON A.id = B.auction AND B.`dateTime` BETWEEN A.`dateTime` AND A.expires"
_TUMBLING = "TABLE(TUMBLE(TABLE {}, DESCRIPTOR(ts), INTERVAL '10' SECOND))"
_BEST = f"""
    SELECT A.id, A.itemName, A.description, A.initialBid, A.reserve, A.`dateTime` AS dt, A.expires, A.seller, A.category,
        A.extra, B.auction, B.bidder, B.price, B.`dateTime` AS bdt, B.extra AS bextra,
        ROW_NUMBER() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.`dateTime` ASC, B.n ASC) AS r
    FROM {_VALID}
"""

QUERIES: dict[str, tuple[str, str]] = {
    "q0": (f"{_BID}, t BIGINT, extra STRING", "SELECT auction, bidder, price, `dateTime`, extra FROM bid"),
    "q1": (f"{_BID}, t BIGINT, extra STRING", "SELECT auction, bidder, price * 908, `dateTime`, extra FROM bid"),
    "q2": ("auction BIGINT, price BIGINT", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
    "q3": (
        "name STRING, city STRING, state STRING, id BIGINT",
        """
        SELECT P.name, P.city, P.state, A.id FROM auction A JOIN person P ON A.seller = P.id
        WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA')
        """,
    ),
    "q4": (
        "category BIGINT, avg_final BIGINT, sum_final BIGINT, n BIGINT",
        f"""
        SELECT category, SUM(final) / COUNT(*), SUM(final), COUNT(*)
        FROM (SELECT A.id, A.category, MAX(B.price) AS final FROM {_VALID} GROUP BY A.id, A.category) GROUP BY category
        """,
    ),
    "q5": (
        "s TIMESTAMP(3), e TIMESTAMP(3), auction BIGINT, num BIGINT",
        """
        SELECT C.s, C.e, C.auction, C.num FROM (
            SELECT auction, COUNT(*) AS num, window_start AS s, window_end AS e
            FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
            GROUP BY auction, window_start, window_end
        ) C JOIN (
            SELECT MAX(num) AS most, s, e FROM (
                SELECT COUNT(*) AS num, window_start AS s, window_end AS e
                FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
                GROUP BY auction, window_start, window_end
            ) GROUP BY s, e
        ) M ON C.s = M.s AND C.e = M.e AND C.num = M.most
        """,
    ),
    "q7": (
        f"e TIMESTAMP(3), {_BID}, t BIGINT, extra STRING",
        f"""
        SELECT M.e, B.auction, B.bidder, B.price, B.`dateTime`, B.extra FROM bid B JOIN (
            SELECT MAX(price) AS most, window_end AS e, window_time AS last FROM {_TUMBLING.format("bid")}
            GROUP BY window_start, window_end, window_time
        ) M ON B.price = M.most AND B.ts BETWEEN M.last - INTERVAL '9.999' SECOND AND M.last
        """,
    ),
    "q8": (
        "id BIGINT, name STRING, s TIMESTAMP(3)",
        f"""
        SELECT P.id, P.name, P.s FROM (
            SELECT id, name, window_start AS s, window_end AS e FROM {_TUMBLING.format("person")}
            GROUP BY id, name, window_start, window_end
        ) P JOIN (
            SELECT seller, window_start AS s, window_end AS e FROM {_TUMBLING.format("auction")} GROUP BY seller, window_start, window_end
        ) A ON P.id = A.seller AND P.s = A.s AND P.e = A.e
        """,
    ),
    "q9": (
        "id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, dt BIGINT, expires BIGINT, seller BIGINT, "
        f"category BIGINT, extra STRING, {_BID}, bdt BIGINT, bextra STRING",
        f"""
        SELECT id, itemName, description, initialBid, reserve, dt, expires, seller, category, extra, auction, bidder, price, bdt, bextra
        FROM ({_BEST}) WHERE r <= 1
        """,
    ),
    "q11": (
        "bidder BIGINT, bid_count BIGINT, s TIMESTAMP(3), e TIMESTAMP(3)",
        """
        SELECT bidder, COUNT(*), window_start, window_end
        FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end
        """,
    ),
    "q12": (
        "bidder BIGINT, bid_count BIGINT, s TIMESTAMP(3), e TIMESTAMP(3)",
        f"SELECT bidder, COUNT(*), window_start, window_end FROM {_TUMBLING.format('bid')} GROUP BY bidder, window_start, window_end",
    ),
    "q15": (f"d STRING, {_TWELVE}", f"SELECT {_DAY}, {_TOTALS} FROM bid GROUP BY {_DAY}"),
    "q16": (
        f"channel STRING, d STRING, m STRING, {_TWELVE}",
        f"SELECT channel, {_DAY}, MAX(DATE_FORMAT(ts, 'HH:mm')), {_TOTALS} FROM bid GROUP BY channel, {_DAY}",
    ),
    "q17": (
        "auction BIGINT, d STRING, c0 BIGINT, c1 BIGINT, c2 BIGINT, c3 BIGINT, low BIGINT, high BIGINT, mean BIGINT, total BIGINT",
        f"""
        SELECT auction, {_DAY}, {", ".join(f"COUNT(*) {rank}" for rank in _RANKS)},
            MIN(price), MAX(price), SUM(price) / COUNT(*), SUM(price)
        FROM bid GROUP BY auction, {_DAY}
        """,
    ),
    "q18": (
        f"{_BID}, channel STRING, url STRING, t BIGINT, extra STRING",
        """
        SELECT auction, bidder, price, channel, url, `dateTime`, extra FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY ts DESC) AS r FROM bid
        ) WHERE r <= 1
        """,
    ),
    "q19": (
        f"{_BID}, channel STRING, url STRING, t BIGINT, extra STRING, r BIGINT",
        """
        SELECT auction, bidder, price, channel, url, `dateTime`, extra, r FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, `dateTime` ASC, n ASC) AS r FROM bid
        ) WHERE r <= 10
        """,
    ),
    "q20": (
        f"{_BID}, channel STRING, url STRING, bdt BIGINT, bextra STRING, itemName STRING, description STRING, initialBid BIGINT, "
        "reserve BIGINT, adt BIGINT, expires BIGINT, seller BIGINT, category BIGINT, aextra STRING",
        """
        SELECT B.auction, B.bidder, B.price, B.channel, B.url, B.`dateTime`, B.extra, A.itemName, A.description, A.initialBid,
            A.reserve, A.`dateTime`, A.expires, A.seller, A.category, A.extra
        FROM bid B JOIN auction A ON B.auction = A.id WHERE A.category = 10
        """,
    ),
    "q21": (
        f"{_BID}, channel STRING, channel_id STRING",
        """
        SELECT * FROM (
            SELECT auction, bidder, price, channel, CASE LOWER(channel)
                WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END AS channel_id FROM bid
        ) WHERE channel_id IS NOT NULL
        """,
    ),
    "q22": (
        f"{_BID}, channel STRING, dir1 STRING, dir2 STRING, dir3 STRING",
        """
        SELECT auction, bidder, price, channel, SPLIT_INDEX(url, '/', 3), SPLIT_INDEX(url, '/', 4), SPLIT_INDEX(url, '/', 5) FROM bid
        """,
    ),
}
