"""new, completion, and the picture of a topology."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
import yaml

from examples.fraud.topology import topology as fraud
from streamdsl import Topology, memory
from streamdsl.compiler import drawn
from streamdsl.logical.drawing import drawing, svg

from .jobs import ROOT, environment


def shell(place, line, **more):
    env = {**environment(place, more), "PATH": f"{place}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", line], cwd=place, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def installed(tmp_path):
    """A directory whose `streamdsl` is the command, as after an installation."""
    (tmp_path / "streamdsl").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys, streamdsl.cli; sys.exit(streamdsl.cli.main())" "$@"\n'
    )
    (tmp_path / "streamdsl").chmod(0o755)
    return tmp_path


def test_a_new_project_gives_its_first_row_and_passes_its_test(installed):
    ran = shell(installed, "streamdsl new shop && cd shop && streamdsl -A shop run")
    assert ran.returncode == 0, ran.stderr
    assert '{"customer":"ada","orders":1,"spent":19.5}' in ran.stdout
    assert (installed / "shop" / "large.jsonl").read_text().count("\n") == 2
    tests = shell(installed / "shop", f"{sys.executable} -m pytest -q -p no:cacheprovider -p no:hypothesispytest")
    assert "2 passed" in tests.stdout, tests.stdout
    compose = yaml.safe_load((installed / "shop" / "compose.yml").read_text())
    assert list(compose["services"]) == ["redpanda"] and compose["name"] == "shop"


@pytest.mark.parametrize(
    ("name", "why"), [("json", "a module 'json' already"), ("Shop", "no name"), ("1a", "no name"), ("class", "no name")]
)
def test_a_name_that_cannot_be_a_module_is_refused(here, tmp_path, name, why):
    code, _, err = here("new", name)
    assert code == 2 and why in err and not (tmp_path / name).exists()


def test_a_directory_that_is_there_is_left_alone(here, tmp_path):
    (tmp_path / "shop").mkdir()
    assert "shop exists" in here("new", "shop")[2] and not any((tmp_path / "shop").iterdir())


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_is_given_its_script(here, name):
    code, script, _ = here("completion", name)
    assert code == 0 and "_STREAMDSL_COMPLETE" in script


def test_commands_are_completed(installed):
    words = shell(installed, "streamdsl", _STREAMDSL_COMPLETE="bash_complete", COMP_WORDS="streamdsl st", COMP_CWORD="1").stdout
    assert words.split() == ["plain,status", "plain,stop"]


def test_a_picture_has_each_box_and_each_edge_and_no_overlap():
    plan = drawn(fraud)
    made = drawing(plan)
    assert len(made.boxes) == len(plan.nodes) and len(made.lines) == sum(len(node.inputs) for node in plan.nodes)
    for i, a in enumerate(made.boxes):
        assert a.x >= 0 and a.x + a.width <= made.width and a.y >= 0 and a.y + a.height <= made.height
        for b in made.boxes[:i]:
            assert a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
    for line in made.lines:
        source, target = made.boxes[line.source], made.boxes[line.target]
        assert line.points[0][1] == source.y + source.height and line.points[-1][1] == target.y > source.y
    picture = ET.fromstring(svg(plan))
    assert len(picture.findall(".//{*}rect")) == len(plan.nodes)


def test_a_picture_is_well_formed_whatever_the_names():
    topology = Topology('<b>&"')
    topology.stream(memory("in<script>", {"k": str})).to(memory("out&"))
    picture = svg(drawn(topology))
    assert "<script>" not in picture and ET.fromstring(picture).get("aria-label") == '<b>&"'
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_the_graph_command_draws_without_other_programs(tmp_path):
    line = f"{sys.executable} -m streamdsl -A {ROOT}/examples/fraud/topology.py graph --svg"
    ran = subprocess.run(line.split(), env={**environment(tmp_path), "PATH": ""}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and ET.fromstring(ran.stdout).tag.endswith("svg")
