"""The door for tables: every way in which people's files differ is read, or refused in a sentence that says where."""

import gzip
import re

import numpy as np
import pytest
from places import ROOT
from programs import refused, script
from table_files import HOUSE, PASSENGER, houses, passengers, put, songs

from portnn.data import stream_year_prediction
from portnn.data.cells import is_unknown, number
from portnn.errors import DataError

pytest.importorskip("pandas")


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import tables

    return tables


@pytest.fixture
def read(tables, tmp_path):
    """Write a file, and read its columns: a and b of numbers, and c of text."""

    def read(content):
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tables.read_table(path, ["a", "b", "c"], ["c"])

    return read


@pytest.mark.parametrize("cell", ["", " ", "?", "NA", "n/a", "NaN", "null", "None", "<NA>"])
def test_unknown_cells(cell):
    assert is_unknown(cell)
    assert np.isnan(number(cell))


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1", 1), (" -2.50 ", -2.5), (".5", 0.5), ("5.", 5), ("+1e-3", 0.001), ("3.4e38", 3.4e38), ("1e-320", 1e-320)],
)
def test_numbers(cell, value):
    assert number(cell) == value


@pytest.mark.parametrize(
    "cell",
    [
        "inf",
        "-Infinity",
        "1e39",
        "1_000",
        "1,5",
        "1,000.0",
        "$5",
        "5 %",
        "0x10",
        "True",
        "\u0663",
        "1e",
        ".",
        "1" * 5000,
    ],
)
def test_what_is_no_number(cell):
    with pytest.raises(ValueError, match="in the place of a number|beyond float32"):
        number(cell)


@pytest.mark.parametrize(
    "content",
    [
        "a,b,c\n1,2,x\n3,,y\n",
        "\ufeffa,b,c\n1,2,x\n3,?,y\n",
        "a;b;c\n1;2;x\n3;NA;y",
        "a\tb\tc\r\n1\t2\tx\r\n3\t\ty\r\n\r\n\r\n",
        '"a","b","c"\n"1","2","x"\n"3","","y"\n\n',
        '"a", "b", "c"\n\n1, 2, "x"\n3, nan, y\n,,\n , ,\n',
        "a,more,b,c\n1,$3,2,x\n3,,,y\n",
        "a,b,c,\n1,2,x,\n3,,y,\n",
    ],
)
def test_the_same_table_in_many_files(read, content):
    table = read(content)
    assert table["a"].tolist() == [1, 3]
    assert table["b"].isna().tolist() == [False, True]
    assert table["b"].iloc[0] == 2
    assert table["c"].tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "t.csv cannot be read as CSV: it is empty"),
        ("\n\n", "t.csv cannot be read as CSV: it is empty"),
        ("a,b,c\n", "t.csv has no rows"),
        ("a,b,c\n\n,,\n", "t.csv has no rows"),
        ("a,b\n1,2\n", "t.csv has no column c; it has 'a', 'b'"),
        ("a,b,c,a\n1,2,3,4\n", "t.csv has more than one column a"),
        ("a,b,c\n1,2,x,\n3,4,y,\n", "t.csv: row 2 has 4 cells, and the header 3"),
        ("a,b,c\n1,2,x\n\n3,4\n", "t.csv: row 4 has 2 cells, and the header 3"),
        ("a,b,c\n1,2,x\n3,soon,y\n", "t.csv: row 3 has 'soon' in the place of a number in column b"),
        ('a,b,c\n"7,25",2,x\n', "t.csv: row 2 has '7,25' in the place of a number such as 1234.5 in column a"),
        ('a,b,c\n1,"$452,600",x\n', "t.csv: row 2 has '$452,600' in the place of a number such as 1234.5 in column b"),
        ("a;b;c\n7,25;2;x\n", "t.csv: row 2 has '7,25' in the place of a number such as 1234.5 in column a"),
        ("a,b,c\n1,-inf,x\n", "t.csv: row 2 has '-inf' in the place of a number in column b"),
        ("a,b,c\n1,1e300,x\n", "t.csv: row 2 has '1e300', which is beyond float32, in column b"),
        ("a,b,c\n1,2,x\n3,4,\u00e4".encode("latin-1"), "row 3 has a byte 0xe4 that is no UTF-8; save the file in that"),
        ('a,b,c\n1,2,"x\n', "t.csv cannot be read as CSV: row 2: unexpected end of data"),
    ],
)
def test_what_is_refused(read, content, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)) as error:
        read(content)
    assert "\n" not in str(error.value)


def test_songs_with_a_mark_and_empty_lines(tmp_path):
    table, text = songs(6)
    lines = text.splitlines()
    put(tmp_path, "\ufeff" + "\n\n".join([*lines[:2], "   ", *lines[2:], "", ""]))
    parts = [list(stream_year_prediction(tmp_path, part, block=2, train_rows=4)) for part in ("train", "test")]
    assert [len(x) for part in parts for x, _ in part] == [2, 2, 2]
    np.testing.assert_array_equal(np.concatenate([y for part in parts for _, y in part]), table[:, 0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("nan", "line 3 has no value in column 8"),
        ("?", "line 3 has no value in column 8"),
        ("inf", "line 3 has 'inf' in the place of a number in column 8"),
        ("1e300", "line 3 has '1e300', which is beyond float32, in column 8"),
        ("\u00e4", "line 3 has '..' in the place of a number in column 8"),
    ],
)
def test_a_song_that_is_wrong(tmp_path, cell, sentence):
    lines = songs(5)[1].splitlines()
    cells = lines[1].split(",")
    cells[7] = cell
    put(tmp_path, "\n".join([lines[0], "", ",".join(cells), *lines[2:]]))
    with pytest.raises(DataError, match=sentence):
        list(stream_year_prediction(tmp_path, train_rows=5))


# ---- the scripts


def write_titanic(folder, train=lambda line: line, test=lambda line: line):
    """Kaggle's files, whose lines are changed by functions of their cells."""
    rows = [PASSENGER, *(f"{i},{y},{rest}" for i, y, rest in passengers(120))]
    (folder / "train.csv").write_text("\n".join(map(train, rows)) + "\n", encoding="utf-8")
    rows = [PASSENGER.replace("Survived,", ""), *(f"{i},{rest}" for i, _, rest in passengers(20, 121))]
    (folder / "test.csv").write_text("\n".join(map(test, rows)) + "\n", encoding="utf-8")
    return script("scripts/train_titanic.py", "--data-dir", folder, "--submission", folder / "s.csv")


@pytest.mark.slow
def test_what_is_submitted_is_in_the_format_of_kaggle(tmp_path):
    """Also if a gap has made floats of survivors, passengers and classes."""
    floats = [lambda line: re.sub(r"^(\d+),([01]),(\d),", r"\1.0,\2.0,\3.0,", line)]
    floats += [lambda line: re.sub(r"^(\d+),(\d),", r"\1.0,\2,", line)]
    done = write_titanic(tmp_path, *floats)
    assert (done.returncode, done.stderr) == (0, "")
    header, *lines = (tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()
    assert header == "PassengerId,Survived"
    assert [line.split(",")[0] for line in lines] == [str(i) for i in range(121, 141)]
    assert {line.split(",")[1] for line in lines} == {"0", "1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        (("^7,[01],", "7,,"), ("", ""), "train.csv: row 8 has no value in column Survived, which must be 0 or 1"),
        (("^7,[01],", "7,2,"), ("", ""), "train.csv: row 8 has 2 in column Survived, which must be 0 or 1"),
        ((r"^(\d+),[01],", r"\1,0,"), ("", ""), "must have five zeros and five ones or more"),
        (("", ""), ("^125,", ","), "test.csv: row 6 has no value in column PassengerId, which must be a whole number"),
        (
            ("", ""),
            ("^125,", "124,"),
            "test.csv: row 6 has 124 in column PassengerId, which must be another one in each",
        ),
        (("", ""), ("^125,", "6.5,"), "test.csv: row 6 has 6.5 in column PassengerId, which must be a whole number"),
        (("", ""), (r"T125,[^,]*", "T125,-2"), "test.csv: row 6 has -2 in column Fare, which must be 0 or more"),
        (("", ""), (r"T125,[^,]*", 'T125,"7,25"'), "test.csv: row 6 has '7,25' in the place of a number"),
        ((r"^(\d.*)$", r"\1,"), ("", ""), "train.csv: row 2 has 13 cells, and the header 12"),
    ],
)
def test_passengers_that_are_refused(tmp_path, train, test, sentence):
    done = write_titanic(tmp_path, *(lambda line, p=pair: re.sub(*p, line, count=1) for pair in (train, test)))
    assert sentence in refused(done)
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.slow
def test_a_passenger_of_unknown_class_is_decided_on(tmp_path):
    done = write_titanic(tmp_path, train=lambda line: re.sub(r"^(7,[01],)\d", r"\1", line))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda cells: cells[:8] + ["inf"] + cells[9:], "row 3 has 'inf' in the place of a number in column"),
        (lambda cells: cells[:8] + [""] + cells[9:], "row 3 has no value in column median_house_value, which must be"),
        (lambda cells: cells[:8] + ["0"] + cells[9:], "row 3 has 0 in column median_house_value, which must be above"),
        (lambda cells: [*cells, ""], "row 3 has 11 cells, and the header 10"),
        (lambda cells: cells[:5], "row 3 has 5 cells, and the header 10"),
    ],
)
def test_districts_that_are_refused(tmp_path, change, sentence):
    rows = [HOUSE, *houses(20)]
    rows[2] = ",".join(change(rows[2].split(",")))
    (tmp_path / "housing.csv").write_text("\n".join(rows), encoding="utf-8")
    assert sentence in refused(script("scripts/train_housing.py", "--data-dir", tmp_path))


@pytest.mark.slow
def test_gaps_among_the_districts_are_filled(tmp_path):
    rows = [HOUSE, *houses(60)]
    for i, column in enumerate((0, 2, 4, 7, 9), 1):
        cells = rows[i].split(",")
        cells[column] = "?"
        rows[i] = ",".join(cells)
    with gzip.open(tmp_path / "housing.csv.gz", "wt", encoding="utf-8-sig") as file:
        file.write("\n".join(rows).replace(",", ";") + "\n\n\n")
    done = script("scripts/train_housing.py", "--data-dir", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("5.1,3.5,1.4,0.2,", "row 2 has no value in column species"),
        ("5.1,?,1.4,0.2,a", "row 2 has no value in column sepal width"),
        ("5.1,1e300,1.4,0.2,a", "row 2 has '1e300', which is beyond float32, in column sepal width"),
        ("5.1,nought,1.4,0.2,a", "row 2 has 'nought' in the place of a number in column sepal width"),
        ("5.1,3.5,1.4,0.2,a,b", "row 2 has 6 columns"),
        ("5.1,3.5,1.4,0.2,\udce4", "row 2 has a byte 0xe4 that is no UTF-8"),
    ],
)
def test_flowers_that_are_refused(tmp_path, line, sentence):
    rows = [f"{i % 7},1,{i % 5},1,{'ab'[i % 2]}" for i in range(20)]
    (tmp_path / "iris.data").write_text("\n".join([rows[0], line, *rows]), errors="surrogateescape", encoding="utf-8")
    assert sentence in refused(script("scripts/train_iris.py", "--data-dir", tmp_path))


@pytest.mark.slow
def test_one_species_is_refused(tmp_path):
    (tmp_path / "iris.data").write_text("1,2,3,4,a\n" * 10, encoding="utf-8")
    assert "of two or more" in refused(script("scripts/train_iris.py", "--data-dir", tmp_path))
