"""What a topology becomes on Flink: statements, as values that print."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Literal

from streamdsl.flink.python.function import PythonFunction, PythonValues
from streamdsl.flink.python.process import PythonProcess

__all__ = ["FlinkJob", "Statement"]

Kind = Literal["set", "table", "view", "function", "process", "insert", "query"]
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of Flink SQL, without the semicolon. `comment` says which step of the topology it is."""

    kind: Kind
    name: str
    text: str
    comment: str = ""

    def __str__(self) -> str:
        said = "".join(f"-- {line}\n" for line in textwrap.wrap(self.comment, _WIDTH)) if self.comment else ""
        return f"{said}{self.text};" if self.text else said.rstrip("\n")


@dataclass(frozen=True, slots=True)
class FlinkJob:
    """A topology as Flink SQL. Made by `Topology.to_flink`; prints as a script.

    Attributes
    ----------
    name : str
        Name of the job.
    statements : tuple of Statement
        In the order in which they are run.
    differences : tuple of str
        Where Flink answers otherwise than the topology does here.
    connectors : tuple of str
        Maven coordinates of what Flink needs beside its distribution.
    functions : tuple of PythonFunction and PythonValues
        Python functions that the statements call; a project has a module of them.
    processes : tuple of PythonProcess
        Processors between the statements: such a job is a program of PyFlink.
    inserts : tuple of Statement
        What fills the sinks, one by one.
    """

    name: str
    statements: tuple[Statement, ...]
    differences: tuple[str, ...] = ()
    connectors: tuple[str, ...] = field(default=())
    functions: tuple[PythonFunction | PythonValues, ...] = ()
    processes: tuple[PythonProcess, ...] = ()
    inserts: tuple[Statement, ...] = ()

    @property
    def python(self) -> bool:
        """Whether the job has code in Python."""
        return bool(self.functions or self.processes)

    @property
    def registry(self) -> bool:
        """Whether that code reads or writes values that a schema registry describes."""
        return any(isinstance(one, PythonValues) for one in self.functions)

    def __str__(self) -> str:
        head = [f"-- {self.name}, for Apache Flink 2.2."]
        if self.differences:
            head.append("-- Where Flink answers otherwise:")
        for said in self.differences:
            head += [f"-- {line}" for line in textwrap.wrap(said, _WIDTH, initial_indent="* ", subsequent_indent="  ")]
        parts, sets = ["\n".join(head)], [one for one in self.statements if one.kind == "set"]
        if sets:
            parts.append("\n".join(map(str, sets)))
        parts += [str(one) for one in self.statements if one.kind != "set"]
        return "\n\n".join(parts)
