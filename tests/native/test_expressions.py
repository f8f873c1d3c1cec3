"""Programs agree with the plain-Python reference."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamdsl._native.expr.ops import operations
from streamdsl._native.expr.program import Program
from streamdsl._native.flow.arrow import PyBatch
from streamdsl.errors import RecordError
from streamdsl.physical.node import ProgramSpec
from tests.native.cases import SIGNATURES, Builder, Signature, applications, check, record_batches, trees
from tests.native.reference import Refused, evaluate

RELAXED = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize("signature", SIGNATURES, ids=str)
@RELAXED
@given(data=st.data(), record_batch=record_batches())
def test_operation(signature: Signature, data: st.DataObject, record_batch: pa.RecordBatch) -> None:
    builder = Builder()
    output = data.draw(applications(builder, signature, 1))
    check(ProgramSpec(tuple(builder.instructions), (output,)), record_batch)


@settings(RELAXED, max_examples=200)
@given(data=st.data())
def test_trees_and_programs_that_are_used_again(data: st.DataObject) -> None:
    builder = Builder()
    kinds = data.draw(st.lists(st.sampled_from(["bool", "i64", "u64", "f64", "str"]), min_size=1, max_size=3))
    outputs = tuple(data.draw(trees(builder, kind, 3)) for kind in kinds)
    spec = ProgramSpec(tuple(builder.instructions), outputs)
    program = Program(spec)
    for record_batch in data.draw(st.lists(record_batches(max_rows=6), min_size=1, max_size=3)):
        check(spec, record_batch, program)


@settings(RELAXED, max_examples=120)
@given(data=st.data(), record_batch=record_batches())
def test_select_keeps_the_rows_where_it_is_true(data: st.DataObject, record_batch: pa.RecordBatch) -> None:
    builder = Builder()
    parts = tuple(data.draw(trees(builder, "bool", 2)) for _ in range(data.draw(st.integers(1, 4))))
    spec = ProgramSpec(tuple(builder.instructions), (builder.add("and", "bool", parts),))
    spec = ProgramSpec(tuple(builder.instructions), spec.outputs)
    rows = list(zip(*(column.to_pylist() for column in record_batch.columns), strict=True))
    wanted: list[int] = []
    refused: set[int] = set()
    for number, row in enumerate(rows):
        try:
            if all(evaluate(spec, part, row) is True for part in parts):
                wanted.append(number)
        except Refused:
            refused.add(number)
    try:
        assert Program(spec).select_rows(PyBatch.from_arrow(record_batch)) == wanted
        assert not refused
    except RecordError as error:
        assert error.row in refused


def test_every_operation_is_tested() -> None:
    # Decimals are tested against Python's, whose scales go with the values: tests/types/test_decimals.
    # A row is tested with its type: tests/aggregates/test_rows; so are fields of a struct: tests/semantics/test_structs.
    others = {op for op in operations() if op in ("column", "literal", "time", "row_text") or op.startswith(("dec_", "struct_"))}
    assert operations() - others == {signature.op for signature in SIGNATURES}
