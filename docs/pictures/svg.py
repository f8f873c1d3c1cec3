"""A few shapes of SVG for the pictures of the documents: boxes, arrows, spans of time."""

from __future__ import annotations

from html import escape

#: Light and dark in one file: what shows the picture asks for the one or the other.
STYLE = """\
text{font:13px system-ui,sans-serif;fill:#1f2328}.small{font-size:11px;fill:#57606a}.bold{font-weight:600}
.box{fill:#f6f8fa;stroke:#57606a}.state{fill:#ddf4ff;stroke:#0969da}.disk{fill:#fff8c5;stroke:#9a6700}
.good{fill:#dafbe1;stroke:#1a7f37}.bad{fill:#ffebe9;stroke:#cf222e}.plain{fill:none;stroke:none}
.line{stroke:#57606a;fill:none}.dashed{stroke:#57606a;fill:none;stroke-dasharray:4 4}.mark{stroke:#cf222e;fill:none;stroke-width:2}
.head{fill:#57606a}.dot{fill:#1f2328}.late{fill:#cf222e}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.box{fill:#161b22;stroke:#9198a1}
.state{fill:#0c2d6b;stroke:#4493f8}.disk{fill:#3b2300;stroke:#d29922}.good{fill:#033a16;stroke:#3fb950}.bad{fill:#490202;stroke:#f85149}
.line,.dashed{stroke:#9198a1}.mark{stroke:#f85149}.head{fill:#9198a1}.dot{fill:#e6edf3}.late{fill:#f85149}}"""


class Picture:
    """One SVG. Positions are pixels from the upper left corner."""

    def __init__(self, title: str, width: int, height: int) -> None:
        self.title = title
        self.width = width
        self.height = height
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, *, style: str = "", anchor: str = "middle") -> None:
        """Write one line; `y` is its middle."""
        self.parts.append(f'<text x="{x:g}" y="{y + 4.5:g}" text-anchor="{anchor}" class="{style}">{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, *lines: str, style: str = "box") -> None:
        """Draw a box; the first line is bold, the others are small."""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{style}"/>')
        top = y + height / 2 - 8.5 * (len(lines) - 1)
        for i, line in enumerate(lines):
            self.text(x + width / 2, top + 17 * i, line, style="bold" if i == 0 else "small")

    def bar(self, y: float, name: str, share: float, label: str, *, ours: bool = False) -> None:
        """Draw one bar of a chart: its name on the left, `share` of the longest one, its figure behind it."""
        left, most = 250, self.width - 250 - 120
        self.text(left - 10, y, name, anchor="end", style="bold" if ours else "")
        self.parts.append(
            f'<rect x="{left}" y="{y - 10:g}" width="{max(most * share, 2):.1f}" height="20" rx="3" class="{"state" if ours else "box"}"/>'
        )
        self.text(left + max(most * share, 2) + 8, y, label, anchor="start", style="bold" if ours else "small")

    def line(self, x1: float, y1: float, x2: float, y2: float, *, style: str = "line") -> None:
        """Draw a line."""
        self.parts.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{style}"/>')

    def arrow(self, x1: float, y1: float, x2: float, y2: float, label: str = "", *, style: str = "line", above: bool = True) -> None:
        """Draw a line with a head at its end, and a label at its middle."""
        self.line(x1, y1, x2, y2, style=style)
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        dx, dy = (x2 - x1) / length, (y2 - y1) / length
        points = [(x2, y2), (x2 - 9 * dx + 4 * dy, y2 - 9 * dy - 4 * dx), (x2 - 9 * dx - 4 * dy, y2 - 9 * dy + 4 * dx)]
        self.parts.append(f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="head"/>')
        if not label:
            return
        upright = abs(dx) < abs(dy)
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        self.text(
            x + 8 if upright else x,
            y if upright else y + (-10 if above else 11),
            label,
            style="small",
            anchor="start" if upright else "middle",
        )

    def dot(self, x: float, y: float, label: str = "", *, style: str = "dot", above: bool = True) -> None:
        """Draw a record: a point with a label."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="4.5" class="{style}"/>')
        if label:
            self.text(x, y + (-14 if above else 15), label, style="small")

    def svg(self) -> str:
        """Return the file."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" role="img">'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", f"<style>{STYLE}</style>", *self.parts, "</svg>", ""])
