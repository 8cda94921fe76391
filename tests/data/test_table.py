"""Tables keep names, types and units; what is not a number is named by column and row."""

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet

from wasserflow._core.errors import UserError
from wasserflow.data import load, read_samples
from wasserflow.data.write import write_samples

N = 60


def table():
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "height (cm)": rng.normal(170, 9, N),
            "children": rng.integers(0, 5, N),
            "small": rng.integers(0, 255, N).astype(np.uint8),
            "single": rng.normal(size=N).astype(np.float32),
            "member": rng.random(N) < 0.5,
        }
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_returns_with_its_names_types_and_values(tmp_path, kind):
    path = tmp_path / f"people.{kind}"
    if kind == "csv":
        csv.write_csv(table(), path)
        types = ("float64", "int64", "int64", "float64", "bool")
    else:
        parquet.write_table(table(), path)
        types = ("float64", "int64", "uint8", "float32", "bool")
    dataset = load(path)
    form = dataset.form
    assert form.columns == ("height (cm)", "children", "small", "single", "member")
    assert form.dtypes == types
    back = np.concatenate([form.to_data(s.x) for s in (dataset.train, dataset.validation, dataset.test)])
    given = np.stack([column.to_numpy().astype(float) for column in table().columns], 1)
    back, given = back[np.argsort(back[:, 0])], given[np.argsort(given[:, 0])]
    np.testing.assert_array_equal(back[:, [1, 2, 4]], given[:, [1, 2, 4]])  # whole numbers: to the bit
    np.testing.assert_allclose(back, given, rtol=1e-5, atol=1e-6)


def test_a_single_column_of_whole_numbers_is_rounded_not_cut(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("count\n" + "\n".join(map(str, range(100))))
    dataset = load(path)
    back = np.concatenate([dataset.form.to_data(s.x) for s in (dataset.train, dataset.validation, dataset.test)])
    assert back.dtype == np.int64
    assert sorted(back[:, 0].tolist()) == list(range(100))


def test_the_index_of_pandas_is_no_column(tmp_path):
    index = pa.array(np.arange(N))
    written = table().append_column("__index_level_0__", index).append_column("id", index)
    known = {"index_columns": ["__index_level_0__", "id"], "columns": []}
    path = tmp_path / "a.parquet"
    parquet.write_table(written.replace_schema_metadata({"pandas": json.dumps(known)}), path)
    parquet.write_table(table(), tmp_path / "b.parquet")
    assert load(path).form.columns == ("height (cm)", "children", "small", "single", "member")
    assert load(path).fingerprint == load(tmp_path / "b.parquet").fingerprint
    ranged = {"index_columns": [{"kind": "range", "name": None, "start": 0, "stop": N, "step": 1}]}
    parquet.write_table(table().replace_schema_metadata({"pandas": json.dumps(ranged)}), path)
    assert load(path).fingerprint == load(tmp_path / "b.parquet").fingerprint


@pytest.mark.parametrize("damaged", ["{not json", "[1]", "{}", '{"index_columns": null}'])
def test_a_damaged_record_of_pandas_names_no_index(tmp_path, damaged):
    parquet.write_table(table().replace_schema_metadata({"pandas": damaged}), tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet").form.columns == tuple(table().column_names)


def test_an_index_alone_is_no_table(tmp_path):
    alone = pa.table({"id": np.arange(N)}).replace_schema_metadata({"pandas": '{"index_columns": ["id"]}'})
    parquet.write_table(alone, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="empty table: it has 0 columns and 60 rows"):
        load(tmp_path / "a.parquet")


def test_decimals_are_numbers(tmp_path):
    price = [Decimal(i * 25) / 100 for i in range(N)]
    parquet.write_table(pa.table({"price": pa.array(price, pa.decimal128(10, 2))}), tmp_path / "a.parquet")
    dataset = load(tmp_path / "a.parquet")
    assert dataset.form.dtypes == ("float64",)
    back = np.concatenate([dataset.form.to_data(s.x) for s in (dataset.train, dataset.validation, dataset.test)])
    np.testing.assert_allclose(np.sort(back[:, 0]), np.arange(N) / 4, atol=1e-5)


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_the_largest_whole_numbers_do_not_wrap(tmp_path, kind, suffix):
    most = np.iinfo(kind).max
    column = np.concatenate([np.full(N // 2, most, kind), np.arange(N // 2, dtype=kind)])
    parquet.write_table(pa.table({"a": column}), tmp_path / "a.parquet")
    form = load(tmp_path / "a.parquet").form
    write_samples([torch.tensor([[9.0], [0.0]])], 2, form, tmp_path / f"out{suffix}")
    read = {".csv": lambda p: csv.read_csv(p)["a"].to_numpy(), ".npy": lambda p: np.load(p)[:, 0]}
    got = read.get(suffix, lambda p: parquet.read_table(p)["a"].to_numpy())(tmp_path / f"out{suffix}")
    assert most - 2048 <= int(got[0]) <= most
    assert got.dtype == kind or suffix == ".csv"


def test_samples_beyond_a_type_s_range_stay_in_it(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(table().select(["small", "member"]), path)
    low, high = load(path).form.to_data(torch.tensor([[-50.0, -50.0], [50.0, 50.0]]))
    assert low.tolist() == [0, 0]
    assert high.tolist() == [255, 1]


def rows(line, at=5, header="a,b"):
    lines = [f"{i},{i * i}" for i in range(30)]
    lines[at] = line
    return "\n".join([header, *lines])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (rows("5,Paris"), "column 'b' holds 'Paris' in row 6"),
        (rows("5,"), "column 'b' has no value in row 6"),
        (rows("nan,1"), "column 'a' (has no value|holds nan) in row 6"),
        (rows("inf,1"), "column 'a' holds inf in row 6"),
        (rows("2020-01-02,1"), "column 'a' holds '2020-01-02' in row 6"),
        (rows("1,2,3"), "not a table that can be read: .*Expected 2 columns"),
        (rows("1,2", header="1.5,2"), "begins with the numbers 1.5, 2: its first row must name the columns"),
        (rows("1,2", header=",b"), "column 0 has no name"),
        (rows("1,2", header="a,a"), "2 columns called 'a'"),
        ("a,b\n", "empty table"),
        ("", "not a table that can be read: Empty CSV"),
        (rows("1,2").replace(",", ";"), "separated by ';'"),
        ("a,b\n" + "1,2\n" * 5, "5 samples: at least 20"),
        ("a,b\n" + "\n".join(f"7,{i}" for i in range(30)), "does not vary in column 'a'"),
        ("a,b\n" + "\n".join(f",{i}" for i in range(30)), "column 'a' is empty"),
        ("\xff\xfe\x00garbage", "bad.csv"),
        ("a\n" + "\n".join(["", "1", "2"] * 10), "column 'a' has no value in row 1"),
        ("a\n" + "\n".join(str(2**60 + i) for i in range(30)), f"varies little around {2**60}.* take {2**60} off"),
    ],
)
def test_unusable_tables_are_named(tmp_path, text, says):
    path = tmp_path / "bad.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=says) as error:
        load(path)
    assert "bad.csv" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_parquet_file_is_named(tmp_path, keep):
    path = tmp_path / "bad.parquet"
    parquet.write_table(table(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"bad\.parquet is truncated"):
        load(path)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array(["1"] * N), "holds '1' in row 1, of type string"),
        (pa.array([[1]] * N), "of type list"),
        (pa.array([1.0] * 7 + [None] + [2.0] * (N - 8)), "no value in row 8"),
        (pa.nulls(N), "'x' is empty"),
        (pa.array([Decimal(10**30 + i) for i in range(N)], pa.decimal128(38, 0)), f"'x' varies little around {10**30}"),
    ],
)
def test_unusable_parquet_columns_are_named(tmp_path, column, says):
    path = tmp_path / "bad.parquet"
    parquet.write_table(pa.table({"a": np.arange(N), "x": column}), path)
    with pytest.raises(UserError, match=f"column 'x'.*{says}|column {says}"):
        load(path)


def test_columns_of_samples_are_found_by_name(tmp_path):
    parquet.write_table(table(), tmp_path / "people.parquet")
    people = load(tmp_path / "people.parquet")
    expected = read_samples(tmp_path / "people.parquet", people.form)
    parquet.write_table(table().select(list(reversed(table().column_names))), tmp_path / "turned.parquet")
    np.testing.assert_array_equal(read_samples(tmp_path / "turned.parquet", people.form), expected)
    parquet.write_table(table().rename_columns(list("abcde")), tmp_path / "others.parquet")
    with pytest.raises(UserError, match="the same columns: only one has a, b, c, children, d"):
        read_samples(tmp_path / "others.parquet", people.form)
    np.save(tmp_path / "nameless.npy", np.stack([np.asarray(column, float) for column in table().columns], 1))
    np.testing.assert_allclose(read_samples(tmp_path / "nameless.npy", people.form), expected, rtol=1e-5)
