"""The scripts on tables, as a person runs them, on small files made here."""

import gzip
import re
import zipfile

import numpy as np
import pytest
from test_scripts import refused, script

from portnn.data import YEAR_PREDICTION_TRAIN_ROWS, stream_year_prediction
from portnn.errors import DataError, MissingDataError

pytest.importorskip("pandas")
RNG = np.random.default_rng(0)

PASSENGER = "PassengerId,Survived,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked"
HOUSE = "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,median_income"
HOUSE += ",median_house_value,ocean_proximity"


def passengers(n, first=1):
    """Women survive, men do not; some cells are empty."""
    for i in range(first, first + n):
        sex = RNG.choice(["male", "female"])
        age = "" if i % 7 == 0 else f"{RNG.uniform(1, 70):.0f}"
        fare = "" if i % 31 == 0 else f"{RNG.exponential(30):.2f}"
        title = "Mr" if sex == "male" else "Mrs"
        name = f'"Doe, {title}. Number {i}"'
        yield (
            i,
            int(sex == "female"),
            f"{RNG.integers(1, 4)},{name},{sex},{age},0,1,T{i},{fare},,{RNG.choice(['S', 'C', ''])}",
        )


@pytest.fixture
def titanic(tmp_path):
    folder = tmp_path / "titanic"
    folder.mkdir()
    (folder / "train.csv").write_text(
        "\n".join([PASSENGER, *(f"{i},{y},{rest}" for i, y, rest in passengers(120))]) + "\n", encoding="utf-8"
    )
    header = PASSENGER.replace("Survived,", "")
    (folder / "test.csv").write_text(
        "\n".join([header, *(f"{i},{rest}" for i, _, rest in passengers(30, 121))]) + "\n", encoding="utf-8"
    )
    return tmp_path


@pytest.mark.slow
def test_titanic(titanic, tmp_path):
    done = script("scripts/train_titanic.py", "--data-dir", titanic, "--submission", tmp_path / "s.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert float(re.search(r"mean accuracy ([\d.]+)%", done.stdout).group(1)) > 95
    lines = (tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "PassengerId,Survived"
    women = [
        ", Mrs." in line for line in (titanic / "titanic" / "test.csv").read_text(encoding="utf-8").splitlines()[1:]
    ]
    assert lines[1:] == [f"{121 + i},{int(woman)}" for i, woman in enumerate(women)]


@pytest.mark.slow
def test_titanic_refuses(titanic, tmp_path):
    run = ["scripts/train_titanic.py", "--submission", tmp_path / "s.csv"]
    assert "name its folder with --data-dir or PORTNN_DATA_DIR" in refused(script(*run))
    train = titanic / "titanic" / "train.csv"
    text = train.read_text(encoding="utf-8")
    train.write_text(text.replace("Sex", "Gender", 1), encoding="utf-8")
    assert "train.csv has no column Sex; it has 'PassengerId'" in refused(script(*run, "--data-dir", titanic))
    train.write_text("", encoding="utf-8")
    assert "train.csv cannot be read as CSV" in refused(script(*run, PORTNN_DATA_DIR=str(titanic)))
    train.unlink()
    assert "there is no train.csv in" in refused(script(*run, "--data-dir", titanic))
    assert "unknown device 'abacus'" in refused(script("scripts/train_iris.py", "--backend", "abacus"))
    assert not (tmp_path / "s.csv").exists()


def houses(n):
    income, place = RNG.uniform(1, 10, size=n), RNG.choice(["INLAND", "NEAR BAY"], size=n)
    for i in range(n):
        value = 20_000 * income[i] * (2.0 if place[i] == "INLAND" else 1.0)
        bedrooms = "" if i % 9 == 0 else f"{RNG.integers(100, 900)}"
        where = f"{RNG.uniform(-124, -114):.2f},{RNG.uniform(32, 42):.2f}"
        yield f"{where},30,2000,{bedrooms},900,400,{income[i]:.4f},{value:.1f},{place[i]}"


@pytest.mark.slow
def test_housing(tmp_path):
    with gzip.open(tmp_path / "housing.csv.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join([HOUSE, *houses(600)]) + "\n")
    done = script("scripts/train_housing.py", "--data-dir", tmp_path, "--plot", tmp_path / "p.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("480 districts to learn from, 120 held out\n")
    assert float(re.search(r"R\^2 ([\d.]+)", done.stdout).group(1)) > 0.9
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "housing.csv.gz").write_bytes(b"\x1f\x8b broken")
    assert "housing.csv.gz cannot be read as CSV" in refused(script("scripts/train_housing.py", "--data-dir", tmp_path))


@pytest.mark.slow
def test_iris(tmp_path):
    done = script("scripts/train_iris.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert float(re.search(r"mean accuracy ([\d.]+)%", done.stdout).group(1)) > 93
    rows = [f"{a},1,{a},1,{'big' if a > 5 else 'small'}" for a in range(10)]
    (tmp_path / "iris.data").write_text("\n".join(rows[:6] + rows[6:] + rows[5:6]) + "\n\n", encoding="utf-8")
    done = script("scripts/train_iris.py", "--data-dir", tmp_path)
    assert "fewer than five flowers of a species" in refused(done)
    (tmp_path / "iris.data").write_text("\n".join(rows * 2), encoding="utf-8")
    assert "20 flowers" in script("scripts/train_iris.py", "--data-dir", tmp_path).stdout
    (tmp_path / "iris.data").write_text("1,2,3,4\n", encoding="utf-8")
    assert "row 1 has 4 columns" in refused(script("scripts/train_iris.py", "--data-dir", tmp_path))


# ---- YearPredictionMSD


def songs(n=50):
    table = np.column_stack([RNG.integers(1922, 2011, size=n), RNG.normal(size=(n, 90)).round(3)]).astype(np.float32)
    return table, "".join(",".join([f"{row[0]:.0f}", *(f"{v:.3f}" for v in row[1:])]) + "\n" for row in table)


def put(folder, text, kind=""):
    name = "YearPredictionMSD.txt"
    if kind == ".zip":
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr(name, text)
    elif kind == ".gz":
        (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    else:
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("kind", ["", ".gz", ".zip"])
def test_songs_are_streamed(tmp_path, kind):
    table, text = songs()
    put(tmp_path, text, kind)
    train = list(stream_year_prediction(tmp_path, block=16, train_rows=40))
    assert [x.shape for x, _ in train] == [(16, 90), (16, 90), (8, 90)]
    test = list(stream_year_prediction(tmp_path, "test", block=16, train_rows=40))
    x, y = (np.concatenate(parts) for parts in zip(*train, *test, strict=True))
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_array_equal(y, table[:, 0])
    np.testing.assert_allclose(x, table[:, 1:], atol=1e-6)
    assert YEAR_PREDICTION_TRAIN_ROWS + 51_630 == 515_345


def test_only_a_block_is_in_memory(tmp_path, monkeypatch):
    _, text = songs(3)
    put(tmp_path, text + "not a song\n")
    blocks = stream_year_prediction(tmp_path, block=3, train_rows=4)
    assert next(blocks)[0].shape == (3, 90)  # what is wrong further on has not been read yet
    with pytest.raises(DataError, match="line 4 has 1 columns, and not a year and 90 numbers"):
        next(blocks)


def test_songs_that_are_wrong(tmp_path, monkeypatch):
    monkeypatch.delenv("PORTNN_DATA_DIR", raising=False)
    with pytest.raises(MissingDataError, match="YearPredictionMSD.txt is needed"):
        stream_year_prediction()
    with pytest.raises(MissingDataError, match="there is no YearPredictionMSD.txt"):
        stream_year_prediction(tmp_path)
    _, text = songs(5)
    put(tmp_path, text)
    with pytest.raises(DataError, match="ends within the first 463,715 songs"):
        list(stream_year_prediction(tmp_path))
    with pytest.raises(DataError, match="ends within the first 5 songs"):
        list(stream_year_prediction(tmp_path, "test", train_rows=5))
    with pytest.raises(DataError, match="part must be"):
        stream_year_prediction(tmp_path, "validation")
    cells = text.split(",")
    cells[91] = "soon"
    put(tmp_path, ",".join(cells))
    with pytest.raises(DataError, match="line 2 has 'soon' in the place of a number"):
        list(stream_year_prediction(tmp_path, train_rows=5))
    put(tmp_path, text, ".gz")
    (tmp_path / "YearPredictionMSD.txt").unlink()
    damaged = (tmp_path / "YearPredictionMSD.txt.gz").read_bytes()[:-20]
    (tmp_path / "YearPredictionMSD.txt.gz").write_bytes(damaged)
    with pytest.raises(DataError, match="is damaged, or cannot be read"):
        list(stream_year_prediction(tmp_path, train_rows=5))


@pytest.mark.slow
def test_year_prediction(tmp_path):
    put(tmp_path, songs(300)[1])
    done = script("scripts/train_year_prediction.py", "--data-dir", tmp_path, "--train-rows", "250", "--epochs", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("250 songs to learn from")
    assert re.search(r"^epoch 2/2  RMSE [\d.]+ years on 50 test songs", done.stdout, re.MULTILINE)
    assert "ends within the first 463,715 songs" in refused(
        script("scripts/train_year_prediction.py", "--data-dir", tmp_path)
    )


@pytest.mark.slow
def test_scores_are_those_of_scikit_learn(tmp_path):
    import json

    done = script("benchmarks/compare_sklearn.py", "--json", tmp_path / "r.json")
    assert (done.returncode, done.stderr) == (0, "")
    scores = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["scores"]
    assert len(scores) == 5
    for task, score in scores.items():
        assert score["portnn"] >= score["scikit-learn"] - score["standard error"], task
