"""The pictures in the tree are those that their script draws, and each page shows files that exist."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURES = runpy.run_path(str(DOCS / "pictures" / "draw.py"))["PICTURES"]


@pytest.mark.parametrize("name", PICTURES)
def test_the_tree_has_what_the_script_draws(name):
    assert (DOCS / "pictures" / f"{name}.svg").read_text() == PICTURES[name]().svg()


def test_no_other_picture_is_left():
    assert {path.stem for path in (DOCS / "pictures").glob("*.svg")} == set(PICTURES)


def test_pages_link_to_what_exists():
    missing = []
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.relative_to(DOCS)}: {target}")
    assert not missing


def test_each_picture_is_shown():
    shown = {Path(target).stem for page in DOCS.rglob("*.md") for target in re.findall(r"!\[[^\]]*\]\(([^)]+\.svg)\)", page.read_text())}
    assert set(PICTURES) <= shown
