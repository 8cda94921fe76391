"""Tables keep names, types and units; what is not a number is named by column and row."""

import json
from decimal import Decimal

import numpy as np
import pandas
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet

from wasserflow._core.errors import UserError
from wasserflow.data import Form, load, read_samples
from wasserflow.data.dataset import Dataset
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
        ("a\n" + "\n".join(str(2**60 + i) for i in range(30)), f"varies little around {2**60}.* subtract {2**60}"),
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


def frame():
    return pandas.DataFrame({name: table()[name].to_numpy() for name in table().column_names})


def test_a_dataframe_is_a_table_and_samples_come_back_as_one(tmp_path):
    given = frame().set_index(pandas.date_range("2020", periods=N))
    dataset = load(given)
    parquet.write_table(table(), tmp_path / "same.parquet")
    assert dataset.fingerprint == load(tmp_path / "same.parquet").fingerprint
    assert dataset.source == "array"
    back = dataset.form.to_user(dataset.test.x)
    assert isinstance(back, pandas.DataFrame)
    assert back.dtypes.to_dict() == given.dtypes.to_dict()
    assert list(back.index) == list(range(len(dataset.test)))
    known = {tuple(row) for row in given[["children", "small", "member"]].itertuples(index=False)}
    assert {tuple(row) for row in back[["children", "small", "member"]].itertuples(index=False)} <= known
    np.testing.assert_array_equal(
        read_samples(given, dataset.form), read_samples(tmp_path / "same.parquet", dataset.form)
    )


def test_what_pandas_adds_to_numbers_is_read():
    numbers = pandas.DataFrame(
        {0: pandas.array(range(N), "Int64"), 1: pandas.array([True, False] * (N // 2), "boolean")}
    )
    form = load(numbers).form
    assert form.columns == ("0", "1")
    assert form.dtypes == ("int64", "bool")


def test_unusable_dataframes_are_named():
    good = frame()
    cases = [
        (good.assign(city="Paris"), "the DataFrame: column 'city' holds 'Paris' in row 1"),
        (good.assign(born=pandas.Timestamp("2020")), "column 'born' holds .* in row 1, of type timestamp"),
        (good.assign(single=np.where(np.arange(N) == 4, np.nan, 1.0)), "column 'single' has no value in row 5"),
        (good.assign(mixed=[1, "a"] * (N // 2)), "the DataFrame cannot be read"),
        (pandas.concat([good, good[["small"]]], axis=1), "the DataFrame cannot be read: Duplicate column names"),
        (good[:0], "the DataFrame is an empty table"),
        (good[[]], "the DataFrame is an empty table"),
    ]
    for given, says in cases:
        with pytest.raises(UserError, match=says) as error:
            load(given)
        assert "\n" not in str(error.value)


def test_arrays_come_back_as_arrays_and_tensors_as_tensors():
    values = np.random.default_rng(0).normal(size=(N, 3))
    array, tensor = load(values), load(torch.from_numpy(values))
    assert array.fingerprint == tensor.fingerprint
    assert isinstance(array.form.to_user(array.test.x), np.ndarray)
    back = tensor.form.to_user(tensor.test.x)
    assert isinstance(back, torch.Tensor)
    assert back.dtype == torch.float64
    assert Form.from_json(json.loads(json.dumps(tensor.form.to_json()))) == tensor.form
    with pytest.raises(ValueError, match="container"):
        Form.from_json(tensor.form.to_json() | {"container": "list"})


def test_a_form_names_its_samples(tmp_path):
    parquet.write_table(table(), tmp_path / "people.parquet")
    assert load(tmp_path / "people.parquet").form.noun == "rows"
    assert load("ring").form.noun == "points"
    assert load("digits").form.noun == "images"


def written(dataset: Dataset, tmp_path) -> tuple[np.ndarray, list[list[str]]]:
    """Samples in the data's units, and the cells of the .csv file that they are written to."""
    samples = torch.randn(300, *dataset.form.shape, generator=torch.Generator().manual_seed(0))
    write_samples(samples.split(100), len(samples), dataset.form, tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == ",".join(f'"{name}"' for name in dataset.form.columns or ("x0", "x1"))
    return dataset.form.to_data(samples), [line.split(",") for line in lines[1:]]


def digits(cell: str) -> int:
    return len(cell.partition("e")[0].replace(".", "").replace("-", "").lstrip("0"))


def test_cells_of_a_csv_file_have_the_digits_of_single_precision(tmp_path):
    csv.write_csv(table(), tmp_path / "people.csv")
    np.save(tmp_path / "plain.npy", np.random.default_rng(0).normal(size=(N, 2)))
    for name, whole in (("people.csv", {1, 2, 4}), ("plain.npy", set())):
        values, cells = written(load(tmp_path / name), tmp_path)
        for row, line in zip(values.tolist(), cells, strict=True):
            for index, (value, cell) in enumerate(zip(row, line, strict=True)):
                if index in whole:
                    assert cell == (str(bool(value)).lower() if index == 4 else str(int(value)))
                else:
                    assert digits(cell) <= 9
                    assert np.float32(cell) == np.float32(value)


def test_a_column_far_from_zero_keeps_what_tells_its_rows_apart(tmp_path):
    seconds = 1.7e9 + 1e3 * np.random.default_rng(0).normal(size=N)
    parquet.write_table(pa.table({"time": seconds, "y": seconds - 1.7e9}), tmp_path / "far.parquet")
    values, cells = written(load(tmp_path / "far.parquet"), tmp_path)
    read = np.array(cells, float)
    np.testing.assert_allclose(read, values, rtol=0, atol=1e-3)
    assert max(len(cell.partition(".")[2]) for cell, _ in cells) <= 4


def test_a_parquet_file_keeps_its_types_and_values(tmp_path):
    parquet.write_table(table(), tmp_path / "people.parquet")
    form = load(tmp_path / "people.parquet").form
    samples = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    write_samples([samples], 50, form, tmp_path / "out.parquet")
    back = parquet.read_table(tmp_path / "out.parquet")
    assert back.schema.remove_metadata() == table().schema
    np.testing.assert_array_equal(back["height (cm)"].to_numpy(), form.to_data(samples)[:, 0])
