"""Run by `make check-wheel` in an environment that holds the installed distribution, pytest, and nothing else."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import quickstart

import streamdsl
from streamdsl import Config, Topology, col, count, files, rolling

assert "site-packages" in streamdsl.__file__, streamdsl.__file__

with tempfile.TemporaryDirectory() as directory:
    source, target = pathlib.Path(directory, "in.csv"), pathlib.Path(directory, "out.jsonl")
    source.write_text("account,amount,event_time\na,1.5,1000\na,2.5,2000\nb,1.0,2500\na,3.5,90000\n")
    topology = Topology("smoke")
    transactions = topology.stream(
        files(source, schema={"account": str, "amount": float, "event_time": int}), timestamp="event_time", name="in"
    )
    transactions.key_by("account").with_columns(recent=count().over(rolling("60s"))).filter(col("recent") >= 2).to(
        files(target), name="out"
    )
    topology.run(Config(state_dir=pathlib.Path(directory, "state")))
    assert target.read_text() == '{"account":"a","amount":2.5,"event_time":2000,"recent":2}\n', target.read_text()

with tempfile.TemporaryDirectory() as directory:
    command = pathlib.Path(sys.executable).with_name("streamdsl")
    demo = subprocess.run(
        [command, "demo", "--quiet"],
        cwd=directory,
        env={**os.environ, "XDG_CACHE_HOME": directory},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "200,001 transactions in" in demo.stdout and "precision" in demo.stdout, demo.stdout
    assert any(pathlib.Path(directory, "streamdsl", "fraud").iterdir())
    explained = subprocess.run(
        [command, "-A", "streamdsl._examples.fraud.topology", "explain"], cwd=directory, check=True, capture_output=True, text=True
    )
    assert explained.stdout.startswith("== as typed =="), explained.stdout

with tempfile.TemporaryDirectory() as directory:
    os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    began = time.monotonic()
    quickstart.follow(pathlib.Path(directory))
    assert time.monotonic() - began < 60, "the quickstart takes more than a minute"

print("the installed distribution works:", streamdsl.__file__)
