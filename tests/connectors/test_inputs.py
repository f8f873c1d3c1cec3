"""Which files are read, how many at once, which columns they must have, and in what wrapping they may come."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pathlib
import resource
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamdsl import ConnectorError, StreamError, Topology, TopologyError, files
from streamdsl.connectors.base import END
from streamdsl.connectors.files import byte_stream
from streamdsl.connectors.files.open_files import OPEN_FILES

CODECS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    "lz4": lambda data: pa.compress(data, "lz4", asbytes=True),
}


def read(paths, schema=None, **options):
    return Topology("t").stream(files(paths, schema=schema or {"a": int}, **options)).collect()


def column(paths, schema=None, **options):
    return read(paths, schema, **options).column("a").to_pylist()


# ---------------------------------------------------------------------- which files


def test_a_directory_stands_for_its_files_by_ending(tmp_path):
    for name in ("2.csv", "1.csv.gz", "_SUCCESS", ".hidden.csv", "_temporary.csv", "notes.txt", "3.jsonl"):
        (tmp_path / name).write_bytes(gzip.compress(b"a\n1\n") if name.endswith("gz") else b"a\n2\n")
    (tmp_path / "deeper.csv").mkdir()
    assert column(tmp_path, format="csv") == [1, 2]
    with pytest.raises(TopologyError, match="several formats"):
        read(tmp_path)
    (tmp_path / "3.jsonl").unlink()
    assert column(tmp_path) == [1, 2]


def test_the_output_of_spark_is_a_source(tmp_path):
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "._SUCCESS.crc").touch()
    for number in (1, 0):
        pq.write_table(pa.table({"a": [number]}), tmp_path / f"part-0000{number}-4cf0.c000.snappy.parquet")
    assert column(tmp_path) == [0, 1]


def test_a_directory_without_such_files_says_what_is_in_it(tmp_path):
    with pytest.raises(ConnectorError, match="is a directory without files of csv: it is empty"):
        read(tmp_path, format="csv")
    (tmp_path / "year=2024").mkdir()
    with pytest.raises(ConnectorError, match=r"in it: year=2024\n.*/\*\*/\*"):
        read(tmp_path, format="csv")


def test_a_path_that_exists_is_no_pattern(tmp_path):
    (tmp_path / "job [1]").mkdir()
    for name in ("job [1]/x[0].csv", "x0.csv", "[ab].csv", "a.csv"):
        (tmp_path / name).write_text(f"a,name\n{len(name)},{name}\n")
    assert column(tmp_path / "job [1]" / "x[0].csv") == [16]
    assert column(tmp_path / "job [1]" / "x*.csv") == [16]
    assert column(tmp_path / "**" / "x[[]*.csv") == [16]
    assert column(tmp_path / "[ab].csv") == [8]
    (tmp_path / "[ab].csv").unlink()
    assert column(tmp_path / "[ab].csv") == [5]


@pytest.mark.parametrize("how", [str, os.fsencode, pathlib.Path, lambda p: [p], lambda p: iter([str(p)]), lambda p: {p}])
def test_a_path_may_be_given_in_any_form(tmp_path, how):
    (tmp_path / "x.csv").write_text("a\n1\n")
    assert column(how(tmp_path / "x.csv")) == [1]


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.csv").write_text("a\n1\n")
    assert column("~/x.csv") == column("~/*.csv") == [1]


@pytest.mark.parametrize("given", [3, None, [3], "", [], ["x.csv", ""], "https://host/x.csv", "x\0.csv"])
def test_what_is_no_path_is_refused(given):
    with pytest.raises(TopologyError):
        files(given, format="csv")


def test_one_file_under_several_names_is_read_once(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("a\n1\n")
    assert column(["x.csv", "./x.csv", str(tmp_path / "x.csv"), "*.csv"]) == [1]
    os.link("x.csv", "y.csv")
    os.symlink("x.csv", "latest.csv")
    assert column("*.csv") == [1]
    assert "are the same file: it is read once" in caplog.text


def test_a_pattern_finds_what_glob_finds(tmp_path):
    for name in ("a/1.csv", "a/b/2.csv", "a/.h/3.csv", "a/.4.csv", "c/5.csv", "c/x1.csv", "c/x10.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    (tmp_path / "l").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    patterns = {
        "a/*.csv": ["a/1.csv"],
        "**/[0-9].csv": ["a/1.csv", "a/b/2.csv", "c/5.csv"],
        "*/x?.csv": ["c/x1.csv"],
        "a/.*.csv": ["a/.4.csv"],
        "[!a]/*.csv": ["c/5.csv", "c/x1.csv", "c/x10.csv", "l/1.csv"],
        "a/**/2.csv": ["a/b/2.csv"],
    }
    for pattern, expected in patterns.items():
        found = {os.path.realpath(name) for name in files(tmp_path / pattern).splits()}
        assert found == {os.path.realpath(tmp_path / name) for name in expected}, pattern


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.csv").write_text("a\n1\n")
    (tmp_path / "d" / "x.csv").chmod(0)
    with pytest.raises(ConnectorError, match=r"x\.csv cannot be opened: Permission denied"):
        read(tmp_path / "d" / "*.csv")
    (tmp_path / "d").chmod(0)
    try:
        for path in ("d/*.csv", "**/*.csv", "*/x.csv"):
            with pytest.raises(ConnectorError, match="Permission denied"):
                read(tmp_path / path)
    finally:
        (tmp_path / "d").chmod(0o700)


def test_an_error_of_a_directory_is_not_an_empty_list(tmp_path, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if "d" in pathlib.Path(path).parts[-1:]:
            raise OSError(24, "Too many open files", str(path))
        return scandir(path)

    (tmp_path / "d").mkdir()
    monkeypatch.setattr(os, "scandir", refusing)
    for path in ("d/*.csv", "**/*.csv", "*/*.csv"):
        with pytest.raises(ConnectorError, match=r"too many open files .the limit of the process is"):
            files(tmp_path / path).splits()


@pytest.mark.parametrize("name", ["fifo.csv", "/dev/null", "broken.csv"])
def test_what_is_no_file_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "broken.csv").symlink_to("nowhere")
    with pytest.raises(ConnectorError, match=r"not a regular file|No such file"):
        read(tmp_path / name, format="csv")


# ---------------------------------------------------------------------- many files


@pytest.mark.parametrize("format", ["csv", "parquet", "arrow", "csv.gz"])
def test_no_more_than_64_files_are_open_at_once(tmp_path, format):
    for number in range(150):
        table = pa.table({"a": [number, number + 1000]})
        if format == "parquet":
            pq.write_table(table, tmp_path / f"{number:03}.parquet", row_group_size=1)
        elif format == "arrow":
            with pa.ipc.new_file(str(tmp_path / f"{number:03}.arrow"), table.schema) as file:
                file.write_table(table, max_chunksize=1)
        else:
            data = f"a\n{number}\n{number + 1000}\n".encode()
            (tmp_path / f"{number:03}.{format}").write_bytes(gzip.compress(data) if format == "csv.gz" else data)
    source = files(tmp_path / f"*.{format}", {"a": "int64 | None"})
    before = len(os.listdir("/dev/fd"))
    readers = source.open_splits(dict.fromkeys(source.splits()), ["a"], own_time=False)
    most = found = 0
    for _ in range(4):
        for reader in readers.values():
            chunk = reader.read(1)
            found += 0 if chunk is END else sum(chunk.rows.column("a").to_pylist())
            most = max(most, len(os.listdir("/dev/fd")) - before)
    assert found == sum(range(150)) * 2 + 150 * 1000
    assert most <= 66
    for reader in readers.values():
        reader.close()
    assert len(os.listdir("/dev/fd")) < before + 10


def test_a_file_that_is_replaced_while_it_is_closed_is_noticed(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a\n" + "1\n" * 200_000)
    reader = files(path, {"a": int}, rate=1000).open_split(str(path), None, ["a"])
    reader.read(10)
    OPEN_FILES._make_room(0)
    path.with_name("y").write_text("a\n" + "2\n" * 200_000)
    os.replace(path.with_name("y"), path)
    with pytest.raises(ConnectorError, match="another file has taken its name"):
        while reader.read(100_000) is not END:
            pass


def test_thousands_of_files_start_within_a_second_or_two(tmp_path):
    """Opening is linear, and patterns are expanded once: a quadratic start takes twenty seconds."""
    for number in range(2_000):
        (tmp_path / f"{number:04}.csv").write_text(f"a\n{number}\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (250, hard))
    try:
        began = time.monotonic()
        found = column(tmp_path / "*.csv")
        took = time.monotonic() - began
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sorted(found) == list(range(2_000))
    assert took < 12


# ---------------------------------------------------------------------- compressed


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("format", ["csv", "json"])
def test_compressed_text_is_read_by_its_first_bytes(tmp_path, codec, format):
    text = "a\n" + "".join(f"{i}\n" for i in range(30_000)) if format == "csv" else "".join(f'{{"a":{i}}}\n' for i in range(30_000))
    data = text.encode()
    # Two members, as `cat` and log rotation make them.
    (tmp_path / f"x.{format}.{codec}").write_bytes(CODECS[codec](data[:50_000]) + CODECS[codec](data[50_000:]))
    (tmp_path / "named-otherwise").write_bytes(CODECS[codec](data))
    (tmp_path / f"empty.{format}.{codec}").write_bytes(CODECS[codec](b""))
    assert column(tmp_path / f"x.{format}.{codec}") == list(range(30_000))
    assert column(tmp_path / "named-otherwise", format=format) == list(range(30_000))
    assert column(tmp_path / f"empty.{format}.{codec}") == []


@pytest.mark.parametrize("codec", CODECS)
def test_a_position_in_a_compressed_file_is_found_again(tmp_path, codec):
    path = tmp_path / f"x.csv.{codec}"
    path.write_bytes(CODECS[codec](b"a,b\n" + b"".join(b"%d,'some text'\n" % i for i in range(60_000))))
    source = files(path, {"a": int})
    reader = source.open_split(str(path), None, ["a"])
    positions = {}
    at = 0
    while (chunk := reader.read(7_000)) is not END:
        positions[at + 3] = reader.position(chunk, 3)
        at += chunk.rows.num_rows
        positions[at] = reader.position(chunk, chunk.rows.num_rows)
    assert at == 60_000
    for row, position in positions.items():
        chunk = source.open_split(str(path), position, ["a"]).read(1)
        assert chunk is END if row == at else chunk.rows.column("a").to_pylist() == [row]
    assert not source.has_more(str(path), positions[at])
    path.write_bytes(CODECS[codec](b"a,b\n" + b"".join(b"%d,'other text'\n" % i for i in range(60_000))))
    with pytest.raises(ConnectorError, match="has changed"):
        source.open_split(str(path), positions[at], ["a"])


@pytest.mark.parametrize("codec", CODECS)
def test_a_compressed_file_that_is_cut_or_damaged_is_an_error(tmp_path, codec):
    path = tmp_path / f"x.csv.{codec}"
    whole = CODECS[codec](b"a\n" + os.urandom(20_000).hex().encode() + b"\n")
    path.write_bytes(whole[:-12])
    with pytest.raises(ConnectorError, match=r"cannot be decompressed .* near byte \d+ of the file"):
        read(path, {"a": str})


def test_what_is_compressed_otherwise_says_so(tmp_path):
    for magic, name in ((b"PK\x03\x04", "zip"), (b"\x1f\x9d", "compress")):
        (tmp_path / "x.csv").write_bytes(magic + b"abc" * 100)
        with pytest.raises(ConnectorError, match=rf"is compressed \({name}\)"):
            read(tmp_path / "x.csv")
    for format in ("parquet", "arrow"):
        (tmp_path / "x").write_bytes(gzip.compress(b"PAR1" * 50))
        with pytest.raises(ConnectorError, match=r"is compressed \(gzip\) as a whole"):
            read(tmp_path / "x", format=format)


def test_text_that_looks_like_the_name_of_a_codec_is_text(tmp_path):
    (tmp_path / "x.csv").write_text("BZh91AY,a\n1,2\n")
    assert column(tmp_path / "x.csv") == [2]


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_takes_no_more_memory_than_its_blocks(tmp_path, codec, monkeypatch):
    path = tmp_path / f"x.csv.{codec}"
    path.write_bytes(CODECS[codec](b"a\n" + b"0" * 30_000_000))
    largest = 0
    plain_read = byte_stream.Compressed.read

    def measured(self, size):
        nonlocal largest
        data = plain_read(self, size)
        largest = max(largest, len(data))
        assert len(data) <= size
        return data

    monkeypatch.setattr(byte_stream.Compressed, "read", measured)
    with pytest.raises(StreamError, match="longer than 1048576 bytes"):
        read(path)
    assert 0 < largest <= 1 << 21


# ---------------------------------------------------------------------- columns

SCHEMA = {"account": str, "amount": float}


def put(folder, format, names, rows=(("x", 1.0), ("y", 2.0))):
    """Write a file whose columns have other names than those of `rows`."""
    path = folder / f"in.{format}"
    table = pa.table({name: [row[i % 2] for row in rows] for i, name in enumerate(names)})
    if format == "csv":
        lines = [",".join(names), *(",".join(str(value) for value in row.values()) for row in table.to_pylist())]
        path.write_text("\n".join(lines) + "\n")
    elif format == "json":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    elif format == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table)
    return path


@pytest.mark.parametrize("format", ["csv", "json", "parquet", "arrow"])
@pytest.mark.parametrize("errors", ["fail", "skip"])
@pytest.mark.parametrize("schema", [SCHEMA, {"account": str | None, "amount": float | None}], ids=["required", "optional"])
def test_a_file_that_has_none_of_the_columns_is_refused_with_both_lists(tmp_path, format, errors, schema):
    path = put(tmp_path, format, ["Account", "AMOUNT"])
    with pytest.raises(ConnectorError) as caught:
        read(path, schema, errors=errors)
    assert all(name in str(caught.value) for name in ("account", "amount", "Account", "AMOUNT"))


@pytest.mark.parametrize("format", ["csv", "parquet", "arrow"])
def test_a_file_that_lacks_a_required_column_is_refused_even_if_nobody_reads_it(tmp_path, format):
    path = put(tmp_path, format, ["account", "sum"])
    with pytest.raises(ConnectorError, match=r"no column 'amount'; its columns: account, sum; declared: account, amount"):
        Topology("t").stream(files(path, schema=SCHEMA)).select("account").collect()
    found = read(path, {"account": str, "amount": float | None})
    assert found.to_pylist() == [{"account": "x", "amount": None}, {"account": "y", "amount": None}]


def test_a_json_record_without_a_required_column_is_a_bad_record(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"account":"x","amount":1}\n{"account":"y"}\n{"account":"z","amount":null}\n')
    with pytest.raises(StreamError, match="'amount' is missing"):
        read(tmp_path / "in.jsonl", SCHEMA)
    assert read(tmp_path / "in.jsonl", SCHEMA, errors="skip").num_rows == 1
    assert read(tmp_path / "in.jsonl", {"account": str, "amount": float | None}).num_rows == 3


def test_optional_columns_of_json_may_come_late_or_with_escapes(tmp_path):
    (tmp_path / "late.jsonl").write_text('{"b":1}\n' * 300_000 + '{"a":1}\n')
    assert read(tmp_path / "late.jsonl", {"a": int | None}).num_rows == 300_001
    (tmp_path / "escaped.jsonl").write_text('{"\\u0061":1}\n')
    assert column(tmp_path / "escaped.jsonl", {"a": int | None}) == [1]
    (tmp_path / "null.jsonl").write_text('{"a":null}\n')
    assert column(tmp_path / "null.jsonl", {"a": int | None}) == [None]


@pytest.mark.parametrize(("mark", "shown"), [(";", "';'"), ("\t", r"'\\t'"), ("|", r"'\|'")])
def test_another_separator_is_named(tmp_path, mark, shown):
    (tmp_path / "in.csv").write_text(f"account{mark}amount\nx{mark}1\n")
    with pytest.raises(ConnectorError, match=f"separated by {shown}"):
        read(tmp_path / "in.csv", SCHEMA)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\r1\r2\r", "ends its lines with CR alone"),
        (b"PAR1xxxx", 'format="parquet"'),
        (b"ARROW1xx", 'format="arrow"'),
        ("a\n1\n".encode("utf-16"), "is UTF-16"),
        (b"a,a\n1,2\n", "'a' exists twice"),
    ],
)
def test_what_is_no_csv_of_ours_says_what_it_is(tmp_path, content, said):
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(ConnectorError, match=said):
        read(tmp_path / "in.csv")


@pytest.mark.parametrize("content", [b"", b"a", b"a\n", b"\xef\xbb\xbfa\r\n", b"a\n\n\n"])
def test_a_file_without_records_gives_none(tmp_path, content):
    (tmp_path / "in.csv").write_bytes(content)
    assert column(tmp_path / "in.csv") == []
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "in.parquet")
    assert column(tmp_path / "in.parquet") == []


def test_a_file_of_one_column_is_not_said_to_be_separated_otherwise(tmp_path):
    (tmp_path / "in.csv").write_text("x\n1\n")
    with pytest.raises(ConnectorError, match=r"no column 'y'(.|\n)*declare it as optional") as refused:
        Topology("t").stream(files(tmp_path / "in.csv", {"x": int, "y": int})).collect()
    assert "separated" not in str(refused.value)
