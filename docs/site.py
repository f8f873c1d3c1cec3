"""Builds the documentation as a site: `make docs`, into build/site. Nothing on it is asked of another host."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import api  # noqa: E402

PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"

CONFIG = """site_name: streamdsl
docs_dir: pages
site_dir: site
use_directory_urls: false
theme:
  name: material
  font: false
  features: [navigation.tabs, navigation.top, navigation.indexes, toc.follow, content.code.copy]
  palette:
    - {media: "(prefers-color-scheme: light)", scheme: default, toggle: {icon: material/weather-night, name: Dark}}
    - {media: "(prefers-color-scheme: dark)", scheme: slate, toggle: {icon: material/weather-sunny, name: Light}}
markdown_extensions: [admonition, attr_list, def_list, tables, {toc: {permalink: true}}, pymdownx.highlight, pymdownx.superfences]
extra_css: [extra.css]
plugins: [search]
extra: {generator: false}
"""

#: Room for examples, which are up to 130 characters wide.
STYLE = ".md-grid { max-width: 88rem; } .md-typeset code { word-break: normal; }\n"


def navigation() -> list[object]:
    """Return the pages in the order in which a reader meets them: that of the guide's table, and of the reference's list."""
    guide = list(dict.fromkeys(re.findall(r"\]\(([a-z-]+\.md)\)", (PAGES / "guide" / "README.md").read_text())))
    guide += sorted(page.name for page in (PAGES / "guide").glob("*.md") if page.name not in (*guide, "README.md"))
    front = [{"Quickstart": "quickstart.md"}] if (PAGES / "quickstart.md").exists() else []
    names = ["names", "expressions", "types", *api.PAGES]
    architecture = sorted(f"architecture/{page.name}" for page in (PAGES / "architecture").glob("*.md") if page.name != "README.md")
    return [
        {"Home": ["index.md", *front]},
        {"Guide": ["guide/README.md", *[f"guide/{page}" for page in guide]]},
        {"Reference": [f"reference/{name}.md" for name in names]},
        {"Architecture": ["architecture.md", "architecture/README.md", *architecture]},
    ]


def main() -> None:
    """Build the site, strictly: a link that leads nowhere is an error."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    front = (ROOT / "README.md").read_text().replace("(docs/", "(")
    # What lies beside the documentation is shown as text: it is not on the site.
    front = re.sub(r"\[([^\]]*)\]\((?:examples/[^)]*|[A-Z]+\.md)\)", r"\1", front)
    front = re.sub(r"\[([^\]]*)\]\((guide|architecture)/\)", r"[\1](\2/README.md)", front)
    (PAGES / "index.md").write_text(front)
    known = api.links(api.entries())
    for page in [*(PAGES / "guide").glob("*.md"), PAGES / "reference" / "expressions.md", PAGES / "reference" / "types.md"]:
        folder = "" if page.parent.name == "reference" else "../reference/"
        page.write_text(api.linked(page.read_text(), known, folder=folder, once=True))
    listed = PAGES / "guide" / "README.md"
    listed.write_text(listed.read_text().replace("`make docs` makes pages of all", "[there are pages](../reference/names.md) of all"))
    for name, text in api.reference().items():
        (PAGES / "reference" / f"{name}.md").write_text(text)
    for page in PAGES.rglob("*.md"):
        # Links that leave the documentation are named, not followed.
        page.write_text(
            re.sub(r"\[([^\]]*)\]\((?:\.\./)+(?:examples|benchmarks|tests|deploy|streamdsl|compose)[^)]*\)", r"\1", page.read_text())
        )
    (PAGES / "extra.css").write_text(STYLE)
    (ROOT / "build" / "mkdocs.yml").write_text(CONFIG + f"nav: {json.dumps(navigation())}\n")
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
