"""Topologies of every kind, honest ones and broken ones, and rows for them."""

from __future__ import annotations

import random

import pyarrow as pa

from streamdsl import (
    Aggregate,
    Processor,
    Topology,
    col,
    count,
    dead_letter,
    expanding,
    hopping,
    lit,
    memory,
    rolling,
    tumbling,
)

SCHEMA = pa.schema(
    [
        pa.field("user", pa.string()),
        pa.field("city", pa.string(), nullable=False),
        pa.field("at", pa.int64(), nullable=False),
        pa.field("x", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
    ]
)


def rows(seed=1, n=80, *, users=5, disorder=20, late=0, prefix="u"):
    """Return rows of SCHEMA with times up to `disorder` ms out of order; every tenth is up to `late` ms later still."""
    draw = random.Random(seed)
    now, made = 1_000, []
    for i in range(n):
        now += draw.choice([0, 1, 3, 10, 40])
        behind = draw.randint(0, disorder) + (draw.randint(0, late) if i % 10 == 9 else 0)
        made.append(
            {
                "user": f"{prefix}{draw.randrange(users)}" if draw.random() > 0.05 else None,
                "city": draw.choice(["Lima", "Cusco", "Tacna"]),
                "at": now - behind,
                "x": draw.choice([None, 0.1, 0.2, 0.7, -3.3]),
                "n": i,
            }
        )
    return made


def source(topology, name="in", **options):
    return topology.stream(memory(name, schema=SCHEMA), **{"timestamp": "at", "disorder": "20ms", **options})


def job(name):
    """Make a function that gets a topology and its stream a function that returns the topology."""

    def outer(function):
        def build():
            topology = Topology(name)
            function(topology, source(topology))
            return topology

        build.__name__ = function.__name__
        return build

    return outer


# Honest ones ---------------------------------------------------------------------------------------------------------


@job("stateless")
def stateless(topology, stream):
    parts = stream.filter(col("n") % 3 != 0).with_columns(y=col("n") * 2).branch(lima=col("city") == "Lima")
    parts["lima"].merge(parts["other"]).to(memory("out"))


@job("functions")
def functions(topology, stream):
    doubled = stream.map(lambda row: {"user": row.user, "n": row.n * 2}, schema={"user": str | None, "n": int})
    doubled.flat_map(lambda row: [{"m": row.n}] * (row.n % 3), schema={"m": int}).to(memory("out"))


@job("frames")
def frames(topology, stream):
    keyed = stream.key_by("user")
    keyed.with_columns(recent=count().over(rolling("50ms")), total=col("x").sum().over(expanding()), before=col("city").lag()).to(
        memory("out")
    )


@job("rules")
def rules(topology, stream):
    keyed = stream.key_by("user")
    many = keyed.with_columns(k=count().over(rolling("50ms"))).filter(col("k") >= 2).select("user", "at", "k")
    moved = keyed.with_columns(before=col("city").lag()).filter(col("before") != col("city")).select("user", "at", k=lit(0))
    many.merge(moved).to(memory("out"))


@job("windows")
def windows(topology, stream):
    windowed = stream.key_by("city").window(tumbling("25ms"))
    windowed.aggregate(k=count(), low=col("x").min(), high=col("n").max(), users=col("user").n_unique()).to(memory("out"))


@job("float-windows")
def float_windows(topology, stream):
    stream.key_by("city").window(hopping("50ms", "10ms")).aggregate(total=col("x").sum(), first=col("n").first()).to(memory("out"))


@job("late-windows")
def late_windows(topology, stream):
    result = stream.key_by("user").window(tumbling("25ms"), grace="5ms").aggregate(k=count())
    result.to(memory("out"))
    result.output("late").to(memory("late"))


@job("updates")
def updates(topology, stream):
    stream.key_by("user").window(tumbling("100ms"), emit="update").aggregate(k=count(), total=col("n").sum()).to(memory("out"))


@job("window-of-windows")
def window_of_windows(topology, stream):
    minutes = stream.key_by("user", "city").window(tumbling("50ms")).aggregate(k=count())
    minutes.key_by("city").window(tumbling("200ms")).aggregate(most=col("k").max(), rows=count()).to(memory("out"))


@job("table")
def table(topology, stream):
    stream.key_by("user").aggregate(k=count(), total=col("x").sum(), last=col("city").last()).to(memory("out"))


@job("changes")
def changes(topology, stream):
    stream.key_by("user").aggregate(k=count()).to_stream().filter(col("k") > 1).to(memory("out"))


def upserts():
    topology = Topology("upserts")
    table = topology.table(memory("in", schema=SCHEMA), key="user", timestamp="at", disorder="20ms")
    table.to(memory("out"))
    return topology


@job("reduced")
def reduced(topology, stream):
    keyed = stream.select("user", "at", "n").key_by("user")
    keyed.reduce(lambda a, b: {"at": b.at, "n": a.n * 3 + b.n & 0xFFFF}).to(memory("out"))


class Numbered(Processor):
    """Numbers the rows of a key."""

    output = {"user": str, "n": int, "seen": int}

    def open(self, ctx):
        self.seen = ctx.state.value("seen", int)

    def process(self, row, ctx):
        self.seen.set(self.seen.get(0) + 1)
        yield {"user": row.user, "n": row.n, "seen": self.seen.get()}


@job("numbered")
def numbered(topology, stream):
    stream.key_by("user").process(Numbered(), name="numbered").to(memory("out"))


@job("two-floors")
def two_floors(topology, stream):
    counted = stream.key_by("user").with_columns(k=count().over(expanding()))
    counted.key_by("user", "city").with_columns(before=col("k").lag()).to(memory("out"))


class Sums(Processor):
    """One row for each window."""

    output = {"user": str, "start": int, "ns": str}

    def process_window(self, key, window, rows, ctx):
        yield {"user": key, "start": window.start, "ns": " ".join(str(row.n) for row in rows)}


@job("window-processor")
def window_processor(topology, stream):
    stream.key_by("user").window(tumbling("60ms")).process(Sums(), name="sums").to(memory("out"))


class Sessions(Processor):
    """Rows of a key at most 60 ms apart; goes by the rows at or before the timer's time alone."""

    output = {"user": str, "first": int, "last": int, "rows": int}

    def open(self, ctx):
        self.times = ctx.state.list("times", int)

    def process(self, row, ctx):
        self.times.set([*self.times.get(), ctx.timestamp])
        ctx.set_timer(ctx.timestamp + 60)

    def on_timer(self, timer, ctx):
        known = sorted(self.times.get())
        if any(timer.time - 60 < time <= timer.time for time in known):
            return
        over = [time for time in known if time <= timer.time - 60]
        if over:
            self.times.set([time for time in known if time > timer.time])
            yield {"user": ctx.key, "first": over[0], "last": over[-1], "rows": len(over)}


@job("sessions")
def sessions(topology, stream):
    stream.key_by("user").process(Sessions, name="sessions").to(memory("out"))


@job("everything-as-one-key")
def one_key(topology, stream):
    stream.key_by().with_columns(k=count().over(expanding())).to(memory("out"))


@job("computed-key")
def computed_key(topology, stream):
    stream.key_by(initial=col("city").str.slice(0, 1)).with_columns(k=count().over(expanding())).to(memory("out"))


@job("origin")
def origin(topology, stream):
    where = stream.with_columns(topic=col("_topic"), partition=col("_partition"), offset=col("_offset"))
    where.key_by("user").with_columns(k=count().over(expanding())).to(memory("out"))


@job("letters")
def letters(topology, stream):
    def strict(row):
        if row.n % 7 == 3:
            raise ValueError("seven")
        return {"user": row.user, "n": row.n}

    stream.map(strict, schema={"user": str | None, "n": int}, errors=dead_letter(memory("bad"))).to(memory("out"))


@job("own-aggregate")
def own_aggregate(topology, stream):
    last = Aggregate(init=str, add=max, merge=max, type=str)
    stream.key_by("user").window(tumbling("60ms")).aggregate(last=last(col("city"))).to(memory("out"))


def two_sources(*, second="v"):
    """Two streams whose users are different ones, unless the rows say otherwise."""
    topology = Topology("two-sources")
    both = source(topology, "a").merge(source(topology, "b"))
    both.key_by("user").with_columns(k=count().over(expanding())).to(memory("out"))
    both.key_by("city").window(tumbling("50ms")).aggregate(k=count()).to(memory("windows"))
    return topology


def external():
    topology = Topology("external")
    stream = source(topology, watermarks="external", disorder="0s")
    stream.key_by("user").window(tumbling("25ms")).aggregate(k=count()).to(memory("out"))
    return topology


def untimed():
    topology = Topology("untimed")
    stream = topology.stream(memory("in", schema=SCHEMA))
    stream.key_by("user").window(tumbling("10ms")).aggregate(k=count()).to(memory("out"))
    return topology


def data(topology, **options):
    """Return rows for each source of a topology; their users are different ones."""
    names = topology.sources()
    return {name: rows(7 * i + 1, prefix=chr(ord("u") + i), **options) for i, name in enumerate(names)}


# Broken ones: each passes a test that runs it once, in one batch -------------------------------------------------------


class InAttribute(Processor):
    """Keeps its state where no checkpoint sees it."""

    output = Numbered.output

    def open(self, ctx):
        self.seen = {}

    def process(self, row, ctx):
        self.seen[ctx.key] = self.seen.get(ctx.key, 0) + 1
        yield {"user": row.user, "n": row.n, "seen": self.seen[ctx.key]}


@job("in-attribute")
def in_attribute(topology, stream):
    stream.key_by("user").process(InAttribute(), name="numbered").to(memory("out"))


class AcrossKeys(Numbered):
    """Numbers the rows of whatever keys share its task."""

    def open(self, ctx):
        self.all = 0

    def process(self, row, ctx):
        self.all += 1
        yield {"user": row.user, "n": row.n, "seen": self.all}


@job("across-keys")
def across_keys(topology, stream):
    stream.key_by("user").process(AcrossKeys(), name="numbered").to(memory("out"))


@job("batch-share")
def batch_share(topology, stream):
    def share(batch):
        total = sum(batch.column("n").to_pylist()) or 1
        return pa.record_batch({"n": batch.column("n"), "share": pa.array([n / total for n in batch.column("n").to_pylist()])})

    stream.map_batches(share, schema={"n": int, "share": float}).to(memory("out"))


@job("counting-function")
def counting_function(topology, stream):
    seen = []

    def count_them(row):
        seen.append(row.n)
        return {"n": row.n, "seen": len(seen)}

    stream.map(count_them, schema={"n": int, "seen": int}).to(memory("out"))


class Quiet(Processor):
    """A timer that forgets P4: a later record, if it comes first, hides the silence before it."""

    output = {"user": str, "since": int}

    def open(self, ctx):
        self.last = ctx.state.value("last", int)

    def process(self, row, ctx):
        self.last.set(ctx.timestamp)
        ctx.set_timer(ctx.timestamp + 30)

    def on_timer(self, timer, ctx):
        if self.last.get() == timer.time - 30:
            yield {"user": ctx.key, "since": self.last.get()}


@job("quiet")
def quiet(topology, stream):
    stream.key_by("user").process(Quiet, name="quiet").to(memory("out"))


class InBatches(Processor):
    """Numbers the rows of a batch."""

    output = {"n": int, "place": int}

    def process_batch(self, batch, ctx):
        return pa.record_batch({"n": batch.column("n"), "place": pa.array(range(batch.num_rows), pa.int64())})


@job("in-batches")
def in_batches(topology, stream):
    stream.key_by("user").process(InBatches, name="in-batches").to(memory("out"))


class Refuses(Numbered):
    """Fails once it has been restored: it wants what it had in memory."""

    def open(self, ctx):
        super().open(ctx)
        self.known = set()

    def process(self, row, ctx):
        if self.seen.get(0) and ctx.key not in self.known:
            raise LookupError(ctx.key)
        self.known.add(ctx.key)
        return super().process(row, ctx)


@job("refuses")
def refuses(topology, stream):
    stream.key_by("user").process(Refuses(), name="refuses").to(memory("out"))
