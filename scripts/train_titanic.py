"""Who survived the Titanic? Kaggle's passengers: accuracy over five folds, and a file to submit.

    python scripts/train_titanic.py --data-dir path/to/data
    python scripts/train_titanic.py --device gpu --submission submission.csv

Gaps are filled, words become columns of zeros and ones, and numbers are scaled, all by scikit-learn's
ColumnTransformer, within each fold; then a network with dropout decides. --data-dir holds Kaggle's train.csv and
test.csv, itself or in a folder titanic.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import check_writable, run
from tables import as_float32, demand, find_file, parser, read_table

from portnn import MLPClassifier
from portnn.errors import DataError, PortnnError
from portnn.storage import write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("PassengerId", "Pclass", "Name", "Sex", "Age", "SibSp", "Parch", "Fare", "Cabin", "Embarked")
TEXT = ("Name", "Sex", "Cabin", "Embarked")
NUMBERS = ["Age", "SibSp", "Parch", "Fare", "Family"]
WORDS = ["Pclass", "Sex", "Embarked", "Title", "Deck"]


def features(table: DataFrame) -> DataFrame:
    """Numbers and words of each passenger; what is unknown stays so."""
    made = table[["Age", "SibSp", "Parch", "Pclass", "Sex", "Embarked"]].copy()
    made["Fare"] = np.log1p(table["Fare"])
    made["Family"] = table["SibSp"] + table["Parch"] + 1
    title = table["Name"].str.extract(r", *([^.]*)\.", expand=False)
    made["Title"] = title.replace({"Mlle": "Miss", "Ms": "Miss", "Mme": "Mrs"})
    made["Deck"] = table["Cabin"].str[0]
    # A table with a gap in its classes has 1.0 where the other one has 1: the same word is needed.
    made["Pclass"] = table["Pclass"].map("{:g}".format, na_action="ignore")
    return made.astype(dict.fromkeys(WORDS, object))


def build(device: str, seed: int) -> Any:
    """The pipeline from `features` to a decision."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="unknown", keep_empty_features=True),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10),
    )
    network = MLPClassifier(
        (64, 32),
        dropout=0.5,
        alpha=0.1,
        batch_size=64,
        learning_rate_init=0.005,
        max_iter=60,
        device=device,
        random_state=seed,
    )
    columns = ColumnTransformer([("numbers", numbers, NUMBERS), ("words", words, WORDS)], sparse_threshold=0)
    return make_pipeline(columns, FunctionTransformer(as_float32), network)


def load(data_dir: str | None) -> tuple[DataFrame, DataFrame]:
    """The passengers to learn from, and those to decide on."""
    paths = [find_file(data_dir, "titanic", [name]) for name in ("train.csv", "test.csv")]
    train = read_table(paths[0], (*COLUMNS, "Survived"), TEXT)
    test = read_table(paths[1], COLUMNS, TEXT)
    for path, table in zip(paths, (train, test), strict=True):
        demand(path, table, "Fare", ~(table["Fare"].to_numpy() < 0), "0 or more")
    number = test["PassengerId"].to_numpy()
    whole = (number == np.floor(number)) & (number >= 0) & (number < 2**53)
    demand(paths[1], test, "PassengerId", whole, "a whole number")
    demand(paths[1], test, "PassengerId", ~test["PassengerId"].duplicated().to_numpy(), "another one in each row")
    survived = train["Survived"].to_numpy()
    demand(paths[0], train, "Survived", np.isin(survived, [0, 1]), "0 or 1")
    if min((survived == 0).sum(), (survived == 1).sum()) < 5:
        raise DataError(f"{paths[0]}: the column Survived must have five zeros and five ones or more, for five folds")
    return train, test


def main() -> None:
    arguments = parser(__doc__, "train.csv and test.csv")
    arguments.add_path("--submission", default="submission.csv", metavar="FILE", help="default: submission.csv")
    args = arguments.parse_args()
    check_writable(args.submission)
    train, test = load(args.data_dir)
    y = train["Survived"].to_numpy().astype(int)

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    # 60 epochs are the plan; that the loss still falls, ever more slowly, is no news.
    warnings.simplefilter("ignore", ConvergenceWarning)
    model = build(args.backend or args.device, args.seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=args.seed)
    scores = cross_val_score(model, features(train), y, cv=folds, error_score="raise")
    print(f"{len(train)} passengers, {len(test)} to decide on")
    print(f"accuracy in five folds: {'  '.join(f'{score:.1%}' for score in scores)}")
    print(f"mean accuracy {scores.mean():.2%} (standard error {scores.std(ddof=1) / 5**0.5:.2%})")
    survived = model.fit(features(train), y).predict(features(test))
    write_submission(Path(args.submission), test["PassengerId"].to_numpy(), survived)


def write_submission(path: Path, passengers: Any, survived: Any) -> None:
    """Kaggle's format: a header, and a line for each passenger."""
    lines = [f"{passenger},{fate}\n" for passenger, fate in zip(passengers.astype(int), survived, strict=True)]
    try:
        write_atomically(path, "".join(["PassengerId,Survived\n", *lines]).encode())
    except OSError as error:
        raise PortnnError(f"{path} cannot be written: {error.strerror or error}") from error
    print(f"wrote {path}")


if __name__ == "__main__":
    run(main)
