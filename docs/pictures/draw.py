"""Draws the pictures of the documents: `python docs/pictures/draw.py` writes an SVG for each function in PICTURES.

A test compares the files with what this script draws (`tests/docs/test_pictures.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from svg import Picture  # noqa: E402


def state() -> Picture:
    """The way of a row: memory, write stream, journal and database."""
    p = Picture("The way of a row of state: memory, write stream, journal, database", 760, 300)
    p.box(20, 40, 170, 70, "key table", "rows by slot,", "in memory", style="state")
    p.box(300, 40, 170, 70, "write stream", "put, delete, MARK n,", "in order", style="state")
    p.box(580, 20, 160, 60, "journal", "fsync at MARK n", style="disk")
    p.box(580, 130, 160, 60, "RocksDB", "last version of each key", style="disk")
    p.box(580, 230, 160, 50, "checkpoint n", "hard links of both", style="good")
    p.arrow(190, 75, 300, 75, "changed rows")
    p.arrow(470, 65, 580, 50, "as they come")
    p.arrow(470, 90, 580, 150)
    p.text(470, 132, "sorted, behind it", style="small")
    p.arrow(580, 175, 105, 175)
    p.arrow(105, 175, 105, 110, "cold keys, on a miss")
    p.arrow(660, 190, 660, 230)
    p.line(740, 50, 752, 50)
    p.line(752, 50, 752, 255)
    p.arrow(752, 255, 740, 255)
    p.text(105, 20, "lookups look here first", style="small")
    return p


def checkpoint() -> Picture:
    """A barrier on its way through three tasks."""
    p = Picture("Checkpoint n: a barrier goes through the tasks, their state follows, the manifest comes last", 760, 330)
    p.box(20, 20, 130, 54, "coordinator", "triggers n")
    p.box(210, 20, 130, 54, "source task", "positions")
    p.box(210, 130, 130, 54, "source task", "positions")
    p.box(420, 75, 150, 60, "keyed task", "waits for n on both,", "then marks its state")
    p.box(630, 78, 110, 54, "sink", "its length")
    p.arrow(150, 47, 210, 47)
    p.arrow(85, 74, 210, 157)
    p.arrow(340, 47, 420, 92)
    p.arrow(340, 157, 420, 118)
    p.text(400, 55, "barrier n", style="small", anchor="start")
    p.text(400, 152, "barrier n", style="small", anchor="start")
    p.arrow(570, 105, 630, 105, "n")
    p.box(420, 190, 150, 54, "write stream", "changed rows, MARK n", style="state")
    p.arrow(495, 135, 495, 190)
    p.box(210, 190, 130, 54, "journal", "append, fsync", style="disk")
    p.arrow(420, 217, 340, 217)
    p.box(20, 190, 130, 54, "acknowledged", "by every task")
    p.arrow(210, 217, 150, 217)
    p.box(20, 275, 130, 45, "manifest", "one rename", style="good")
    p.arrow(85, 244, 85, 275)
    p.box(210, 275, 360, 45, "the sinks commit what stands before barrier n", style="good")
    p.arrow(150, 297, 210, 297)
    return p


def commit() -> Picture:
    """Exactly once into Kafka: rows, marker and one transaction."""
    p = Picture("Exactly once into Kafka: the transaction of epoch n holds its rows and its marker", 760, 260)
    p.text(20, 30, "topic", anchor="start")
    p.text(20, 90, "commits topic", anchor="start")
    p.text(20, 150, "checkpoints on disk", anchor="start")
    for i in range(3):
        x = 170 + 180 * i
        p.box(x, 14, 160, 32, f"rows of epoch {i + 1}", style="good" if i < 2 else "box")
        p.box(x + 110, 74, 50, 32, f"{i + 1}", style="good" if i < 2 else "box")
        p.box(x + 110, 134, 50, 32, f"{i + 1}", style="disk")
        p.parts.append(f'<rect x="{x - 6}" y="6" width="172" height="108" rx="8" class="dashed"/>')
    p.text(616, 126, "transaction 3: open", style="small")
    p.line(704, 6, 704, 200, style="mark")
    p.text(704, 215, "crash", style="small")
    p.text(20, 200, "At the next start the marker says 2: checkpoint 2 is restored,", anchor="start")
    p.text(20, 222, "transaction 3 is aborted, its rows are computed again.", anchor="start")
    p.text(20, 246, "Checkpoint 3 is complete on disk, but no marker names it: it does not count.", style="small", anchor="start")
    return p


def watermark() -> Picture:
    """Event time, disorder, and what is late."""
    p = Picture('Records by arrival; disorder="5s" keeps the watermark 5 s behind the latest of them', 760, 300)
    p.arrow(60, 250, 740, 250)
    p.arrow(60, 250, 60, 20)
    p.text(740, 268, "arrival", anchor="end", style="small")
    p.text(75, 24, "event time", anchor="start", style="small")
    times = [2, 5, 3, 8, 6, 11, 4, 13, 12]
    watermark = None
    for i, t in enumerate(times):
        x = 110 + 68 * i
        late = watermark is not None and t <= watermark
        p.dot(x, 250 - 15 * t, f"12:00:{t:02}" + (" late" if late else ""), style="late" if late else "dot")
        latest = max(times[: i + 1])
        before, watermark = watermark, latest - 5
        if watermark >= 0:
            if before is not None and before != watermark:
                p.line(x, 250 - 15 * max(before, 0), x, 250 - 15 * watermark, style="mark")
            p.line(x, 250 - 15 * watermark, min(x + 68, 730), 250 - 15 * watermark, style="mark")
    p.text(600, 225, "the red line is the watermark: the latest time so far, less 5 s", style="small")
    return p


def timers() -> Picture:
    """When a timer fires."""
    p = Picture("An event-time timer fires when the watermark passes its time", 760, 190)
    p.arrow(40, 90, 740, 90)
    p.text(740, 108, "event time", anchor="end", style="small")
    p.dot(120, 90, "record at 10:00")
    p.box(60, 130, 160, 42, "ctx.set_timer", "10:30")
    p.arrow(120, 130, 120, 98)
    p.dot(260, 90, "10:12")
    p.dot(400, 90, "10:25")
    p.line(480, 60, 480, 120, style="mark")
    p.text(480, 50, "10:30", style="bold")
    p.dot(610, 90, "10:41")
    p.box(500, 130, 240, 42, "on_timer(10:30)", "the watermark has passed 10:30", style="good")
    p.arrow(620, 98, 620, 130)
    p.text(400, 24, "It has seen every record up to 10:30 that was not late.", style="small")
    return p


def simulation() -> Picture:
    """What the simulator holds still, and what it draws."""
    p = Picture("A seed draws everything that can differ between two runs", 760, 240)
    p.box(20, 90, 110, 60, "seed", "one number", style="good")
    p.box(200, 20, 200, 52, "scenario", "topology, rows, cuts, waits")
    p.box(200, 94, 200, 52, "scheduler", "who is stepped next")
    p.box(200, 168, 200, 52, "disk and clock", "power cuts, failed calls")
    for y in (46, 120, 194):
        p.arrow(130, 120, 200, y)
        p.arrow(400, y, 480, 120)
    p.box(480, 85, 120, 70, "the runtime", "real tasks,", "one thread", style="state")
    p.arrow(600, 120, 640, 120)
    p.box(640, 85, 110, 70, "oracle", "plain Python", "and checks", style="good")
    return p


def windows() -> Picture:
    """The windows of five records."""
    p = Picture("The windows of the same five records: tumbling, hopping, session, sliding", 760, 440)
    times = [2, 5, 8, 16, 23]
    scale, left = 20, 190

    def at(time: float) -> float:
        return left + scale * time

    p.arrow(left - 20, 420, 745, 420)
    for time in range(0, 26, 5):
        p.line(at(time), 416, at(time), 424)
        p.text(at(time), 408, f"{time} s", style="small")
    for time in times:
        p.line(at(time), 20, at(time), 396, style="dashed")
        p.dot(at(time), 20)
    rows = [
        ('tumbling("10s")', [[(0, 10), (10, 20), (20, 27)]]),
        ('hopping("10s", "5s")', [[(0, 10), (10, 20), (20, 27)], [(-5, 5), (5, 15), (15, 25)]]),
        ('session("5s")', [[(2, 13), (16, 21), (23, 27)]]),
        (
            'sliding("10s")',
            [[(-8, 2)], [(-5, 5)], [(-2, 8), (8.1, 18.1)], [(2.1, 12.1)], [(5.1, 15.1)], [(6, 16), (16.1, 26.1)], [(13, 23)]],
        ),
    ]
    y = 45
    for name, lines in rows:
        p.text(10, y + 9, name, anchor="start", style="bold")
        for spans in lines:
            for start, end in spans:
                first, last = max(at(start), left - 20), min(at(end), 735)
                style = "state" if name.startswith("session") else "box"
                p.parts.append(f'<rect x="{first:g}" y="{y}" width="{last - first:g}" height="18" rx="4" class="{style}"/>')
            y += 24
        y += 20
    p.text(10, 234, "one ends at each record,", anchor="start", style="small")
    p.text(10, 250, "one begins just after it", anchor="start", style="small")
    return p


def emissions() -> Picture:
    """When rows of one window leave."""
    p = Picture('Rows of the window [0, 10 s) with grace="5s": four records, the last one late but within grace', 760, 270)
    p.arrow(120, 240, 745, 240)
    p.text(745, 258, "arrival", anchor="end", style="small")
    for x, label in ((170, "2 s"), (260, "5 s"), (350, "8 s"), (560, "7 s, late")):
        p.dot(x, 40, label)
        p.line(x, 48, x, 236, style="dashed")
    for x, label in ((450, "W = 9.999 s"), (680, "W = 14.999 s")):
        p.line(x, 30, x, 236, style="mark")
        p.text(x, 18, label, style="bold")
    rows = {
        "close": [(680, "4")],
        "update": [(170, "1"), (260, "2"), (350, "3"), (560, "4")],
        "on_time": [(450, "3"), (560, "4")],
        'throttle("1s")': [(300, "2"), (400, "3"), (620, "4")],
    }
    for i, (name, left) in enumerate(rows.items()):
        y = 80 + 40 * i
        p.text(10, y, name, anchor="start", style="bold")
        for x, count in left:
            p.box(x - 14, y - 13, 28, 26, count, style="good")
    return p


def kafka() -> Picture:
    """Records from topic to topic: the medians that `benchmarks/kafka.py --repeat 6` printed, in millions a second."""
    rows = {
        "streamdsl": 1.09,
        "Kafka Streams 4.4, Java": 0.30,
        "Quix Streams 3.28": 0.06,
    }
    title = "From Kafka to Kafka exactly once, records/s: three fraud rules, five million JSON records"
    p = Picture(title, 760, 30 + 30 * len(rows))
    for i, (name, value) in enumerate(rows.items()):
        p.bar(30 + 30 * i, name, value / max(rows.values()), f"{value:.2f} M", ours=name == "streamdsl")
    return p


PICTURES: dict[str, Callable[[], Picture]] = {
    drawn.__name__: drawn for drawn in (state, checkpoint, commit, watermark, timers, simulation, windows, emissions, kafka)
}

if __name__ == "__main__":
    for name, drawn in PICTURES.items():
        (HERE / f"{name}.svg").write_text(drawn().svg())
        print(HERE / f"{name}.svg")
