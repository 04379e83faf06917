"""Small files in the layouts of the tables that the scripts read."""

import gzip
import zipfile

import numpy as np

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


def houses(n):
    income, place = RNG.uniform(1, 10, size=n), RNG.choice(["INLAND", "NEAR BAY"], size=n)
    for i in range(n):
        value = 20_000 * income[i] * (2.0 if place[i] == "INLAND" else 1.0)
        bedrooms = "" if i % 9 == 0 else f"{RNG.integers(100, 900)}"
        where = f"{RNG.uniform(-124, -114):.2f},{RNG.uniform(32, 42):.2f}"
        yield f"{where},30,2000,{bedrooms},900,400,{income[i]:.4f},{value:.1f},{place[i]}"


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
