"""What expressions answer: texts and lists, as users write them."""

import pyarrow as pa
import pytest

from streamdsl import DataError, Topology, TopologyError, col, lit, memory
from streamdsl.schema import type_of


def answers(expression, *texts, schema=str):
    columns = pa.schema([("s", type_of(schema)), ("other", pa.string())])
    stream = Topology("job").stream(memory("in", schema=columns, rows=[{"s": text, "other": "b"} for text in texts]))
    return stream.select(out=expression).collect().column("out").to_pylist()


S = col("s").str
L = col("s").list


@pytest.mark.parametrize(
    ("expression", "texts", "wanted"),
    [
        (S.to_lowercase(), ["ÉA"], ["éa"]),
        (S.to_titlecase(), ["hello wORLD o'neil", "éa"], ["Hello World O'Neil", "Éa"]),
        (S.strip_chars(), [" \t\u3000a ", "\x1ca"], ["a", "\x1ca"]),
        (S.strip_chars("ab"), ["abcba"], ["c"]),
        (S.strip_chars_start("ab"), ["abcab"], ["cab"]),
        (S.strip_chars_end("ab"), ["abcab"], ["abc"]),
        (S.strip_prefix("a"), ["aab"], ["ab"]),
        (S.strip_suffix("b"), ["abb"], ["ab"]),
        (S.len_chars(), ["é", None], [1, None]),
        (S.len_bytes(), ["é", None], [2, None]),
        (S.zfill(5), ["-1", "+1", "1é", "", "123456", "--1"], ["-0001", "+0001", "0001é", "00000", "123456", "-00-1"]),
        (S.pad_start(4, "*"), ["é", "abcdef"], ["***é", "abcdef"]),
        (S.pad_end(4), ["ab"], ["ab  "]),
        (S.reverse(), ["aé"], ["éa"]),
        (S.head(2), ["abcdé"], ["ab"]),
        (S.head(-2), ["abcdé", "a"], ["abc", ""]),
        (S.tail(2), ["abcdé"], ["dé"]),
        (S.tail(-2), ["abcdé"], ["cdé"]),
        (S.slice(-9, 5), ["abcdé"], ["a"]),
        (S.contains("a.b"), ["a.b", "axb", "a\nb"], [True, True, False]),
        (S.contains("a.b", literal=True), ["a.b", "axb"], [True, False]),
        (S.contains(col("other")), ["abc", "ac", None], [True, False, None]),
        (S.contains("(", strict=False), ["("], [None]),
        (S.count_matches(r"\d"), ["1x2", "n"], [2, 0]),
        (S.count_matches("aa"), ["aaa"], [1]),
        (S.count_matches(".", literal=True), ["a.b."], [2]),
        (S.replace(r"(\d)(x?)", "<$1>$2"), ["1x2", "n"], ["<1>x2", "n"]),
        (S.replace("a", "b", n=2), ["aaa"], ["bba"]),
        (S.replace("a", "$1"), ["ab"], ["b"]),
        (S.replace("a", "$1", literal=True), ["ab"], ["$1b"]),
        (S.replace("(a)", "${1}1$$"), ["ab"], ["a1$b"]),
        (S.replace("(?P<n>a)", "$n1|$n|${n}"), ["ab"], ["|a|ab"]),
        (S.replace("a", col("other")), ["aa"], ["ba"]),
        (S.replace_all(r"\d", "#"), ["1x2"], ["#x#"]),
        (S.replace_all("", "-"), ["ab"], ["-a-b-"]),
        (S.replace_all("", "$", literal=True), ["ab"], ["$a$b$"]),
        (S.replace_all(".", "!", literal=True), ["a.b."], ["a!b!"]),
        (S.extract(r"(\d)(x)?", 2), ["1x", "2"], ["x", None]),
        (S.extract(r"\d", 0), ["ab3", "n"], ["3", None]),
        (S.extract_all(r"\d"), ["1x2", "n"], [["1", "2"], []]),
        (S.split(","), ["a,b,,c", "", 'é"\\,x'], [["a", "b", "", "c"], [""], ['é"\\', "x"]]),
        (S.split(",", inclusive=True), ["a,b,", ""], [["a,", "b,"], []]),
        (S.split(""), ["aé"], [["a", "é"]]),
        (S.split(col("other")), ["abc"], [["a", "c"]]),
        (S.split(",").list.len(), ["a,b", None], [2, None]),
        (S.split(",").list.get(1, null_on_oob=True), ["a,b", "a"], ["b", None]),
        (S.split(",").list.last(), ['a,"\\'], ['"\\']),
        (S.split(",").list.contains("b"), ["a,b", "ab"], [True, False]),
        (S.split(",").list.join(lit("-")), ["a,b"], ["a-b"]),
        (S.to_integer(), ["12", "-7", "+3"], [12, -7, 3]),
        (S.to_integer(base=16, strict=False), ["FF", "zz", "ffffffffffffffff"], [255, None, None]),
    ],
    ids=str,
)
def test_texts(expression, texts, wanted):
    assert answers(expression, *texts) == wanted


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        (L.len(), [3, 0, None]),
        (L.first(), [1, None, None]),
        (L.last(), [None, None, None]),
        (L.get(-2, null_on_oob=True), [2, None, None]),
        (L.contains(2), [True, False, None]),
        (L.contains(2.0), [True, False, None]),
        (L.first() + 1, [2, None, None]),
    ],
    ids=str,
)
def test_lists_of_numbers(expression, wanted):
    assert answers(expression, [1, 2, None], [], None, schema=list[int]) == wanted


def test_items_keep_their_type():
    assert answers(L.first(), [[1], [2]], schema=list[list[int]]) == [[1]]
    assert answers(L.first(), [True], schema=list[bool]) == [True]
    assert answers(L.join("-", ignore_nulls=False), ["a", None], ["a"], schema=list[str]) == [None, "a"]


@pytest.mark.parametrize(
    ("expression", "texts", "part"),
    [
        (S.to_integer(), [" 1"], "' 1' is no int64"),
        (S.split(",").list.get(1), ["a"], "null_on_oob=True"),
        (S.contains(col("s")), ["("], "is not a regular expression"),
    ],
)
def test_what_cannot_be_computed_is_an_error_of_the_record(expression, texts, part):
    with pytest.raises(DataError, match=part):
        answers(expression, *texts)


@pytest.mark.parametrize("n", [0, -2, True, 1.0, "1"])
def test_a_number_of_replacements_is_one_or_more(n):
    with pytest.raises(TopologyError, match="must be a whole number of at least 1"):
        col("a").str.replace("x", "y", n=n)
