"""Builds the work of the peers on the JVM, by Maven."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: What a build is made of.
SOURCES = (".xml", ".java", ".Factory")


def tool(name: str, who: str, remedy: str) -> str:
    """Return where the program is, or end with what to do; `who` needs it."""
    found = shutil.which(name)
    if found is None:
        sys.exit(f"{who} needs {name}, which is not on the PATH; {remedy}")
    return found


def java(who: str) -> str:
    """Return where Java is."""
    return tool("java", who, "install Java 17 (on Debian: apt install openjdk-17-jdk-headless)")


def build(here: Path, built: Path, who: str) -> str:
    """Compile what has changed in `here` since the last time, under `built`, and return the class path."""
    maven = tool("mvn", who, "install Apache Maven (on Debian: apt install maven)")
    classpath, sources = built / "classpath", [path for path in here.rglob("*") if path.suffix in SOURCES]
    if not classpath.exists() or any(path.stat().st_mtime > classpath.stat().st_mtime for path in sources):
        goals = ["compile", "dependency:build-classpath", f"-Dmdep.outputFile={classpath}"]
        done = subprocess.run([maven, "-q", "-B", *goals], cwd=here, stdout=sys.stderr, check=False)
        if done.returncode:
            sys.exit(f"{who}: Maven could not build {here}; what it says is above. The first time it needs a repository within reach.")
        # Maven leaves the file as it is if it says the same, and then it would be made each time.
        os.utime(classpath)
    return f"{built / 'classes'}{os.pathsep}{classpath.read_text().strip()}"
