"""Binding: an expression meets a schema; types are checked and casts written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import pyarrow as pa

from streamdsl.errors import TopologyError
from streamdsl.logical import decimals, texts
from streamdsl.logical.expression import (
    Aggregation,
    Call,
    ColumnRef,
    Constant,
    Expression,
    Named,
    Typed,
    TypedAggregate,
    text_of,
)
from streamdsl.logical.functions import FUNCTIONS, Function
from streamdsl.logical.time_units import shifted
from streamdsl.logical.types import (
    BOOL,
    FLOAT,
    INT,
    NULL,
    TEXT,
    TIMESTAMP,
    UINT,
    common_type,
    convert,
    is_decimal,
    is_float,
    is_integer,
    is_list,
    is_number,
    is_ordered,
    is_span,
    is_string,
    is_text,
    is_time,
    literal,
    literal_of,
    retyped,
)
from streamdsl.logical.walk import post_order
from streamdsl.schema import Field, Schema

__all__ = ["Binder"]

_SYMBOLS: Final = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "neg": "-",
    "and": "&",
    "or": "|",
    "not": "~",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}


class Binder:
    """Binds expressions of one verb to one schema.

    Parameters
    ----------
    schema : Schema
    verb : str
        Stands in front of every error.
    """

    def __init__(self, schema: Schema, verb: str) -> None:
        self.schema = schema
        self.verb = verb
        # The node is kept beside its result: an id is only its own while it lives.
        self._memo: dict[int, tuple[Expression, Typed]] = {}

    def bind(self, node: Expression) -> Typed:
        """Return the typed expression.

        Raises
        ------
        TopologyError
            Unknown column, wrong type, or an aggregate where none can be.
        """
        for part in post_order([node], self._unbound):
            if id(part) not in self._memo:
                self._memo[id(part)] = (part, self._bind(part))
        return self._memo[id(node)][1]

    def _unbound(self, node: Expression) -> tuple[Expression, ...]:
        """Return the parts that are to be bound before `node`; an aggregate is refused as a whole."""
        known = id(node) in self._memo or isinstance(node, Aggregation)
        return () if known else node.parts()

    def bind_value(self, node: Expression) -> Typed:
        """Return the typed expression of a new column, which must have a type."""
        typed = self.bind(node)
        if pa.types.is_null(typed.type):
            raise self.error(f"{text_of(node)} has no type", "write lit(None).cast(type)")
        return typed

    def bind_bool(self, node: Expression) -> Typed:
        """Return the typed expression, which must be a condition."""
        return self._bool(self.bind(node), "a condition")

    def error(self, message: str, remedy: str | None = None) -> TopologyError:
        """Return the error with the verb in front."""
        return TopologyError(f"{self.verb}: {message}", remedy=remedy)

    def _bind(self, node: Expression) -> Typed:
        if isinstance(node, ColumnRef):
            return self._column(node.name)
        if isinstance(node, Constant):
            return literal_of(node.value)
        if isinstance(node, Named):
            return self._memo[id(node.argument)][1]
        if isinstance(node, Aggregation):
            raise self.error(
                f"{text_of(node)} is an aggregate and cannot stand here",
                "aggregates belong to with_columns, select and filter of a keyed stream, or to aggregate()",
            )
        return self._bind_call(node)

    def field(self, name: str) -> Field:
        """Return the column `name` of the schema."""
        try:
            return self.schema.field(name)
        except TopologyError as error:
            raise self.error(error.message, error.remedy) from None

    def _column(self, name: str) -> Typed:
        field = self.field(name)
        return Typed("column", field.type, params=(name,), nullable=field.nullable)

    def _bind_call(self, node: Call) -> Typed:
        op, args = node.op, [self._memo[id(arg)][1] for arg in node.args]
        special = _RULES.get(op)
        if special is not None:
            return special(self, op, args, node.params)
        function = FUNCTIONS.get(op)
        if function is not None:
            return self._function(op, function, args, node.params)
        if op.startswith("dt_"):
            return self._time_function(op, args, node.params)
        raise self.error(f"unknown operation {op}")

    @staticmethod
    def _strict(op: str, type_: pa.DataType, args: list[Typed], params: tuple[Any, ...] = ()) -> Typed:
        return Typed(op, type_, tuple(args), params, nullable=any(arg.nullable for arg in args))

    def wrong(self, op: str, args: list[Typed], needs: str, remedy: str | None = None) -> NoReturn:
        """Raise the error for arguments of types that an operation does not take."""
        shown = " and ".join(f"{arg} ({arg.type})" for arg in args)
        raise self.error(f"{_SYMBOLS.get(op, op)} needs {needs}, not {shown}", remedy)

    # Numbers ---------------------------------------------------------------------------------------------------

    def _float(self, arg: Typed, op: str) -> Typed:
        if pa.types.is_null(arg.type):
            return literal(None, FLOAT)
        if is_decimal(arg.type):
            self.wrong(op, [arg], "floats", "write .cast(float) to leave exact decimals")
        if not is_number(arg.type):
            self.wrong(op, [arg], "numbers")
        return retyped(convert(arg, FLOAT), FLOAT)

    def _numbers(self, op: str, args: list[Typed]) -> tuple[list[Typed], pa.DataType]:
        """Bring two operands to int64, uint64 or float64."""
        for arg in args:
            if pa.types.is_boolean(arg.type):
                self.wrong(op, args, "numbers", "write .cast(int) to calculate with a condition")
            if not is_number(arg.type) and not pa.types.is_null(arg.type):
                self.wrong(op, args, "numbers")
        if any(is_float(arg.type) for arg in args):
            target = FLOAT
        else:
            target = UINT if common_type(args) == UINT else INT
        return [retyped(convert(arg, target), target) for arg in args], target

    def _arithmetic(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        if op == "add" and any(is_text(arg.type) for arg in args):
            if not all(is_text(arg.type) or pa.types.is_null(arg.type) for arg in args):
                self.wrong(op, args, "two numbers or two texts", 'use format("{}{}", ...) to put numbers into a text')
            return texts.concat(self, op, args, ())
        if op in ("add", "sub") and any(is_time(arg.type) or is_span(arg.type) for arg in args):
            return shifted(self, op, args)
        if any(is_decimal(arg.type) for arg in args):
            return decimals.arithmetic(self, op, args)
        numbers, type_ = self._numbers(op, args)
        if op == "pow" and type_ != FLOAT:
            exponent = numbers[1]
            if exponent.op == "literal" and exponent.params[0] is not None and exponent.params[0] >= 0:
                return self._whole_power(numbers[0], exponent.params[0], type_)
            numbers, type_ = [self._float(arg, op) for arg in args], FLOAT
        result = self._strict(op, type_, numbers)
        if op in ("floordiv", "mod") and type_ != FLOAT:
            return Typed(op, type_, result.args, nullable=True)
        return result

    def _whole_power(self, base: Typed, exponent: int, type_: pa.DataType) -> Typed:
        """Multiply by squaring: exact, and an overflow is an error of the record."""
        result = None
        while exponent:
            if exponent & 1:
                result = base if result is None else self._strict("mul", type_, [result, base])
            exponent >>= 1
            if exponent:
                base = self._strict("mul", type_, [base, base])
        return literal(1, type_) if result is None else result

    def _divide(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        if any(is_decimal(arg.type) for arg in args):
            return decimals.quotient(self, op, args)
        numbers, type_ = self._numbers(op, args)
        floats = [self._float(arg, op) for arg in numbers]
        if type_ == FLOAT:
            return self._strict(op, FLOAT, floats)
        return Typed(op, FLOAT, tuple(floats), ("int",), nullable=True)

    def _unary(self, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        if is_decimal(args[0].type):
            return decimals.unary(self, op, args[0], params)
        if is_span(args[0].type) and op in ("neg", "abs"):
            return self._strict(op, args[0].type, [retyped(args[0], INT)])
        (value,), type_ = self._numbers(op, args)
        if op == "neg" and type_ == UINT:
            value, type_ = convert(value, INT), INT
        if op == "neg" and value.op == "literal" and value.params[0] is not None:
            return literal(-value.params[0], type_)
        if op in ("round", "floor", "ceil"):
            if type_ != FLOAT and not (op == "round" and params[0] < 0):
                return value
            return self._strict(op, FLOAT, [self._float(value, op)], params)
        return self._strict(op, type_, [value])

    # Comparison and logic --------------------------------------------------------------------------------------

    def _unified(self, op: str, args: list[Typed]) -> tuple[list[Typed], pa.DataType]:
        type_ = common_type(args)
        if type_ is None:
            self.wrong(op, args, "values of one type")
        if pa.types.is_null(type_):
            raise self.error(f"{_SYMBOLS.get(op, op)} of nothing but None has no type", "write lit(None).cast(type)")
        return [convert(arg, type_) for arg in args], type_

    def _compare(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        if not all(is_ordered(arg.type) for arg in args):
            self.wrong(op, args, "comparable values")
        mixed = all(is_integer(arg.type) for arg in args) and (args[0].type == UINT) != (args[1].type == UINT)
        if mixed and common_type(args) != UINT:
            # Neither 64-bit type holds the other's values; the comparison itself takes one of each.
            return self._strict(op, BOOL, [arg if arg.type == UINT else convert(arg, INT) for arg in args])
        return self._strict(op, BOOL, self.comparable(op, args))

    def comparable(self, op: str, args: list[Typed]) -> list[Typed]:
        """Return the values in one type in which they compare."""
        if any(is_decimal(arg.type) for arg in args):
            return decimals.comparable(self, op, args)
        return self._unified(op, args)[0]

    def _bool(self, arg: Typed, what: str) -> Typed:
        if pa.types.is_null(arg.type):
            return literal(None, BOOL)
        if not pa.types.is_boolean(arg.type):
            raise self.error(f"{what} must be true or false, not {arg} ({arg.type})", "write a comparison")
        return arg

    def _logic(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        return self._strict(op, BOOL, [self._bool(arg, f"each side of {_SYMBOLS[op]}") for arg in args])

    def _null_test(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        if pa.types.is_null(args[0].type):
            return literal(op == "is_null", BOOL)
        return Typed(op, BOOL, tuple(args), nullable=False)

    def _is_in(self, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        (value,), listed = args, [literal_of(item) for item in params[0]]
        if not is_ordered(value.type):
            self.wrong(op, args, "a value that can be compared")
        same = self.comparable(op, [value, *listed])
        return self._strict(op, BOOL, same[:1], (tuple(item.params[0] for item in same[1:]),))

    def _clip(self, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        """args: the value, and the bounds there are, as `params` says; a bound that is null bounds nothing."""
        same, type_ = self._unified(op, args)
        if not is_ordered(type_) or is_text(type_):
            self.wrong(op, args, "numbers or times")
        value, bounds = same[0], same[1:]
        parts: list[Typed] = []
        for test, bound in zip(params, bounds, strict=True):
            beyond = self._strict(test, BOOL, [value, bound])
            if is_float(type_):  # NaN is greater than all numbers and stays what it is
                beyond = self._strict("and", BOOL, [self._strict("not", BOOL, [self._strict("is_nan", BOOL, [value])]), beyond])
            parts += [beyond, bound]
        return Typed("when", type_, (*parts, value), nullable=value.nullable)

    def _fill_nan(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        if not is_float(args[0].type):
            self._float(args[0], op)  # whole numbers are never NaN
            return args[0]
        (value, other), type_ = self._unified(op, args)
        return Typed("when", type_, (self._strict("is_nan", BOOL, [value]), other, value), nullable=value.nullable or other.nullable)

    # Choice ----------------------------------------------------------------------------------------------------

    def _choose(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        same, type_ = self._unified(op, args)
        if op != "coalesce" and not is_ordered(type_):
            self.wrong(op, args, "comparable values")
        if op != "coalesce":
            return self._strict(op, type_, same)
        return Typed(op, type_, tuple(same), nullable=all(arg.nullable for arg in same))

    def _when(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        conditions = [self._bool(arg, "the condition of when()") for arg in args[:-1:2]]
        values, type_ = self._unified(op, [*args[1::2], args[-1]])
        pairs = [part for pair in zip(conditions, values[:-1], strict=True) for part in pair]
        nullable = any(value.nullable for value in values)
        return Typed(op, type_, (*pairs, values[-1]), nullable=nullable)

    def _replace(self, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        keys = self.comparable(op, [args[0], *(literal_of(key) for key in params[0])])
        if not is_ordered(keys[0].type):
            self.wrong(op, args[:1], "a value that can be compared")
        news = [literal_of(item) for item in params[1]]
        values, type_ = self._unified(op, [*news, *args[1:]])
        constants: tuple[Any, ...] = (tuple(key.params[0] for key in keys[1:]), tuple(item.params[0] for item in values[: len(news)]))
        if is_decimal(keys[0].type):
            constants = (*constants, keys[0].type.scale)
        others = tuple(other for other in values[len(news) :] if other.op != "literal" or other.params[0] is not None)
        nullable = any(item.nullable for item in values) or (op == "replace_strict" and args[0].nullable)
        return Typed(op, type_, (keys[0], *others), constants, nullable=nullable)

    # Text and time ---------------------------------------------------------------------------------------------

    def _function(self, op: str, function: Function, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        """Bind a function of the table: each argument becomes what its row says."""
        taken = [self._taken(op, what, arg, args) for what, arg in zip(function.args, args, strict=True)]
        gives_null = function.strict is not None and not function.refuses(params)
        nullable = function.nullable or gives_null or any(arg.nullable for arg in taken)
        return Typed(op, function.result, tuple(taken), params, nullable=nullable)

    def _taken(self, op: str, what: str, arg: Typed, args: list[Typed]) -> Typed:
        if what == "float":
            return self._float(arg, op)
        if pa.types.is_null(arg.type):
            return literal(None, INT if what == "int" else TEXT)
        if what == "int":
            if is_integer(arg.type):
                return retyped(convert(arg, INT), INT)
            self.wrong(op, args, "a whole number")
        if what == "list":
            if is_list(arg.type):
                return retyped(arg, TEXT)
            self.wrong(_shown(op), args, "a list")
        if not is_text(arg.type):
            self.wrong(_shown(op), args, "texts", "write .cast(str) first")
        return arg

    def _list_get(self, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        found = self._function(op, FUNCTIONS[op], args, params)
        from streamdsl.logical.cast import item_of

        return item_of(self, found, args[0].type)

    def _struct_field(self, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        from streamdsl.logical.structs import field_of

        return field_of(self, op, args, params[0])

    def _list_contains(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        self._taken(op, "list", args[0], args[:1])
        held = NULL if pa.types.is_null(args[0].type) else args[0].type.value_type
        wanted = args[1]
        kind = "text" if is_string(held) else "f64" if is_float(held) else "i64" if is_integer(held) and held != UINT else None
        if pa.types.is_null(held):
            kind = "text" if is_text(wanted.type) else "f64"
        if kind == "i64" and is_float(wanted.type):
            kind = "f64"
        if kind is None:
            self.wrong(_shown(op), args, "a list of texts or numbers")
        return self._function(f"{op}_{kind}", FUNCTIONS[f"{op}_{kind}"], args, ())

    def _time_function(self, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        from streamdsl.logical.times import bind_time

        return bind_time(self, op, args, params)

    def _read_time(self, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        from streamdsl.logical.times import read_time

        return read_time(self, op, args, params)

    def text_argument(self, op: str, args: list[Typed]) -> Typed:
        """Return the first argument of a function of texts, which must be one."""
        return self._taken(op, "text", args[0], args)

    def _event_time(self, op: str, args: list[Typed], _: tuple[Any, ...]) -> Typed:
        return Typed(op, TIMESTAMP, nullable=False)

    def _cast(self, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
        from streamdsl.logical.cast import cast

        return cast(self, args[0], params[0], params[1])

    # Aggregates ------------------------------------------------------------------------------------------------

    def bind_aggregate(self, name: str, node: Aggregation) -> TypedAggregate:
        """Return the typed aggregate as the column `name`."""
        from streamdsl.logical.aggregates import bind_aggregate

        return bind_aggregate(self, name, node)


def _shown(op: str) -> str:
    space, _, name = op.partition("_")
    return f".{space}.{name}" if space in ("str", "dt", "list") else op


_Rule = Callable[[Binder, str, list[Typed], tuple[Any, ...]], Typed]
_RULES: Final[dict[str, _Rule]] = {
    **dict.fromkeys(("add", "sub", "mul", "floordiv", "mod", "pow"), Binder._arithmetic),
    **dict.fromkeys(("neg", "abs", "round", "floor", "ceil", "sign"), Binder._unary),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), Binder._compare),
    **dict.fromkeys(("and", "or", "not"), Binder._logic),
    **dict.fromkeys(("is_null", "is_not_null"), Binder._null_test),
    **dict.fromkeys(("coalesce", "least", "greatest"), Binder._choose),
    "div": Binder._divide,
    "is_in": Binder._is_in,
    "when": Binder._when,
    **dict.fromkeys(("replace", "replace_strict"), Binder._replace),
    "concat_str": texts.concat_str,
    "format": texts.format_text,
    "list_get": Binder._list_get,
    "list_contains": Binder._list_contains,
    "struct_field": Binder._struct_field,
    "clip": Binder._clip,
    **dict.fromkeys(("str_to_datetime", "str_to_date"), Binder._read_time),
    "fill_nan": Binder._fill_nan,
    "time": Binder._event_time,
    "row": texts.row,
    "cast": Binder._cast,
}
