"""Builds the documentation as a site: `make docs`, into build/site. Nothing on it is asked of another host."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import streamdsl  # noqa: E402

PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"

CONFIG = """site_name: streamdsl
docs_dir: pages
site_dir: site
use_directory_urls: false
theme:
  name: material
  font: false
  features: [navigation.tabs, navigation.top, content.code.copy]
  palette:
    - {media: "(prefers-color-scheme: light)", scheme: default, toggle: {icon: material/weather-night, name: Dark}}
    - {media: "(prefers-color-scheme: dark)", scheme: slate, toggle: {icon: material/weather-sunny, name: Light}}
markdown_extensions: [admonition, tables, toc, pymdownx.highlight, pymdownx.superfences]
plugins: [search]
extra: {generator: false}
"""


def reference() -> str:
    """Return a page with each public name and its docstring."""
    parts = ["# Public names\n"]
    for name in streamdsl.__all__:
        thing = getattr(streamdsl, name)
        try:
            signature = str(inspect.signature(thing))
        except (TypeError, ValueError):
            signature = ""
        parts.append(f"## `{name}`\n\n```python\n{name}{signature}\n```\n\n{described(inspect.getdoc(thing) or '')}\n")
        if inspect.isclass(thing) and not issubclass(thing, BaseException):
            for method, function in inspect.getmembers(thing, inspect.isfunction):
                if not method.startswith("_") and function.__doc__:
                    body = described(inspect.getdoc(function) or "")
                    parts.append(f"### `{name}.{method}`\n\n```python\n{method}{inspect.signature(function)}\n```\n\n{body}\n")
    return "\n".join(parts)


def described(text: str) -> str:
    """Return a docstring in NumPy's style as Markdown: headings in bold, examples as code."""
    text = re.sub(r"^(\w[\w ]*)\n-{3,}$", r"**\1**\n", text, flags=re.M)
    text = re.sub(r"((?:^(?:>>> |\.\.\. |>>>).*\n(?:^(?!>>> |\*\*|$).*\n?)*)+)", r"\n```pycon\n\1\n```\n", text + "\n", flags=re.M)
    return text.replace("::\n", ":\n").replace("``", "`")


def main() -> None:
    """Build the site, strictly: a link that leads nowhere is an error."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    front = (ROOT / "README.md").read_text().replace("(docs/", "(")
    # What lies beside the documentation is shown as text: it is not on the site.
    front = re.sub(r"\[([^\]]*)\]\((?:examples/[^)]*|[A-Z]+\.md)\)", r"\1", front)
    front = re.sub(r"\[([^\]]*)\]\((guide|architecture)/\)", r"[\1](\2/README.md)", front)
    (PAGES / "index.md").write_text(front)
    (PAGES / "reference" / "names.md").write_text(reference())
    for page in PAGES.rglob("*.md"):
        # Links that leave the documentation are named, not followed.
        page.write_text(
            re.sub(r"\[([^\]]*)\]\((?:\.\./)+(?:examples|benchmarks|tests|deploy|streamdsl|compose)[^)]*\)", r"\1", page.read_text())
        )
    (ROOT / "build" / "mkdocs.yml").write_text(CONFIG)
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # no advertisement among the errors
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-f", str(ROOT / "build" / "mkdocs.yml")]
    subprocess.run(command, env=quiet, check=True)
    foreign = strangers()
    if foreign:
        sys.exit("the site asks other hosts: " + ", ".join(sorted(foreign)[:10]))
    print(f"{SITE}/index.html")


def strangers() -> set[str]:
    """Return the addresses that the pages load by themselves from elsewhere."""
    found = set()
    for page in SITE.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text()):
            address = re.search(r'\b(?:src|href)="((?:https?:)?//[^"]+)"', tag)
            if address and 'rel="canonical"' not in tag:
                found.add(address[1])
    return found


if __name__ == "__main__":
    main()
