"""What `kit` can be asked: its verbs and their flags. A verb's name is its function's in challenges/commands."""

import argparse
from collections.abc import Callable

from challenges.flags import (
    Suggestions,
    add_columns,
    add_device,
    add_language,
    add_recipe,
    add_run,
    add_training_options,
    whole_number,
)
from challenges.registry import MODELS
from challenges.renting import add_aws
from challenges.trained_verbs import add_clients, add_demo, add_exports, add_search, add_servers

EXIT_CODES = (
    "exit codes: 0 done, 2 bad input or something to mend, 3 no room on the disk or in memory, or training failed, "
    "4 parity failed, 5 serving failed, 130/143 interrupted, 141 nobody reads the output"
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kit",
        description="Reproduce NVIDIA's deep-learning challenges on a GPU or a CPU, with data of one's own.",
        epilog="kit VERB --help shows examples. --debug anywhere shows tracebacks. " + EXIT_CODES + ".",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(name: str, summary: str, examples: str, *, takes_overrides: bool = False) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name,
            help=summary,
            description=summary,
            epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=not takes_overrides,
        )
        if takes_overrides:
            added.add_argument(
                "-h", "--help", action=_HelpOnARecipe, nargs=0, default=False, help="show this, and a recipe's fields"
            )
        added.set_defaults(verb=name.replace("-", "_"), takes_overrides=takes_overrides, verb_parser=added)
        return added

    verb("list", "list models and recipes with their targets", "kit list")
    verb("doctor", "show what this machine can run, and what stands in the way", "kit doctor")

    _add_check(verb)
    _add_prepare(verb)
    _add_training_verbs(verb)
    _add_run_verbs(verb)
    for add in (add_exports, add_servers, add_clients, add_demo, add_search):
        add(verb)
    _add_data(verb)
    _add_exercise(verb)
    add_aws(verb)
    _add_benchmark(verb)

    completion = verb("completion", "print a shell's tab-completion script", 'eval "$(kit completion bash)"')
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    return parser


def _add_check(verb: Callable[..., argparse.ArgumentParser]) -> None:
    check = verb(
        "check",
        "scan a data folder and say what is wrong with it",
        "kit check ~/photos\nkit check ~/scans --model resnet50\nkit check pets\n"
        "kit check ~/photos --similar runs/resnet50-photos-1a2b3c4d --resplit by-group",
    )
    check.add_argument("data", help="the folder, a recommender's file, or a data set's name: kit data list")
    add_columns(check)
    check.add_argument(
        "--model", choices=list(MODELS), help="whose layout to expect; left out: what the data looks like"
    )
    check.add_argument(
        "--similar", nargs="?", const="", metavar="RUN",
        help="also find photographs that are there more than once, saved again, cut or mirrored: proposed by what a "
        "classifier's run sees, or by thumbnails where no run is named",
    )  # fmt: skip
    check.add_argument(
        "--resplit", choices=["by-group"],
        help="draw the split of photographs anew, so that groups and near-duplicates, and what --similar finds, stay "
        "together",
    )  # fmt: skip


def _add_prepare(verb: Callable[..., argparse.ArgumentParser]) -> None:
    prepare = verb(
        "prepare",
        "turn a click log of any size into what the click models read",
        "kit prepare criteo ~/criteo --out ~/criteo-prepared --threshold 10\n"
        "kit prepare csv clicks.csv --out prepared --label bought\n"
        "kit prepare synthetic --rows 1000000 --out made-up\n"
        "kit prepare criteo /data/days --out /data/prepared --engine dask://scheduler:8786",
    )
    kinds = ["criteo", "adult", "movielens", "movielens-autoint", "csv", "parquet", "synthetic"]
    prepare.add_argument("kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
    prepare.add_argument("data", nargs="?", help="the file or folder; none for synthetic")
    prepare.add_argument("--out", required=True, metavar="PREPARED", help="a new or an empty folder")
    prepare.add_argument("--threshold", type=whole_number, help="rarer values share one id; left out: as KIND has it")
    prepare.add_argument("--hash-above", type=whole_number, help="columns of more values are hashed into so many ids")
    prepare.add_argument("--max-rows", type=whole_number, help="ids of a column at most: the commonest values")
    prepare.add_argument("--engine", default="local", help="local, dask, or dask://HOST:PORT of a scheduler")
    prepare.add_argument("--label", metavar="NAME[=VALUE]", help="the label of csv and parquet, and what stands for 1")
    prepare.add_argument(
        "--like", metavar="SPEC", help="a features.json, or a folder with one, that says what columns are"
    )
    prepare.add_argument("--rows", type=whole_number, default=1_000_000, help="of synthetic")
    prepare.add_argument("--seed", type=int, default=0, help="of synthetic")


def _add_training_verbs(verb: Callable[..., argparse.ArgumentParser]) -> None:
    walk = verb(
        "challenge",
        "walk the whole line: check, train, evaluate, export, parity, serve, report",
        "kit challenge resnet50\nkit challenge resnet50 --data ~/photos\n"
        "kit challenge resnet50 --data ~/photos --weights resnet50-11ad3fa6.pth --training.epochs 5",
        takes_overrides=True,
    )
    walk.add_argument("model", nargs="*", choices=Suggestions(MODELS), metavar="MODEL", help=", ".join(MODELS))
    walk.add_argument("--recipe", help="recipe name; by default demo, photos with --data, finetune with --weights")
    walk.add_argument("--weights", help="a weights file to start from")
    add_training_options(walk)

    for name, summary, examples in (
        ("train", "train a recipe, or resume it",
         "kit train resnet50/demo\nkit train resnet50/photos --data ~/photos --training.epochs 40\n"
         "torchrun --nproc-per-node 8 -m -- challenges train resnet50/imagenet-90e --data /imagenet"),
        ("lr-find", "sweep the learning rate once and suggest one", "kit lr-find resnet50/photos --data ~/photos"),
    ):  # fmt: skip
        added = verb(name, summary, examples, takes_overrides=True)
        add_recipe(added)
        add_training_options(added)


def _add_run_verbs(verb: Callable[..., argparse.ArgumentParser]) -> None:
    evaluate = verb(
        "evaluate",
        "evaluate a run and decide about its target, or judge it on other data",
        "kit evaluate runs/resnet50-demo-1a2b3c4d\nkit evaluate runs/resnet50-demo-1a2b3c4d --data ~/test-photos",
    )
    add_run(evaluate)
    add_language(evaluate)
    evaluate.add_argument("--data", help="labelled data of the run's classes or items; left out: its validation split")
    evaluate.add_argument("--precision", choices=["fp32", "tf32", "bf16", "fp16"], default="fp32")
    add_device(evaluate)

    predict = verb(
        "predict",
        "answer for images, videos or histories of your own: a table and annotated copies",
        "kit predict runs/resnet50-demo-1a2b3c4d cat.jpg holiday/\n"
        "kit predict runs/ssd300-demo-1a2b3c4d street.jpg drive.mp4 --threshold 0.5\n"
        "kit predict runs/bert4rec-demo-1a2b3c4d --history 12 7 'The Third Title'",
    )
    add_run(predict)
    predict.add_argument("inputs", nargs="*", default=[], metavar="FILE", help="images, videos, or folders of them")
    predict.add_argument("--history", nargs="+", default=[], metavar="ITEM", help="what a user had, oldest first")
    predict.add_argument("--user", help="a user of the training data, for a recommender that knows only those")
    predict.add_argument("--threshold", type=float, help="lowest score shown, from a detector")
    predict.add_argument("--output", help="folder for annotated copies (default: RUN/predictions)")
    add_device(predict)

    report = verb(
        "report",
        "write a run's page again",
        "kit report runs/resnet50-demo-1a2b3c4d\nkit report runs/resnet50-demo-1a2b3c4d --lang es",
    )
    add_run(report)
    add_language(report)


def _add_benchmark(verb: Callable[..., argparse.ArgumentParser]) -> None:
    benchmark = verb(
        "benchmark",
        "measure every model on this machine and say what limits each",
        "kit benchmark\nkit benchmark resnet50 --minutes 5\nkit benchmark ncf dlrm --gpus 1,2,4,8\n"
        "kit benchmark --like lambda/resnet50-h200\nkit benchmark ncf --against HEAD~3\nkit benchmark --quick",
    )
    benchmark.add_argument(
        "models", nargs="*", choices=Suggestions(MODELS), metavar="MODEL", help="all where none is named"
    )
    benchmark.add_argument(
        "--gpus", metavar="N,N,...", help="how many processes share a step (default: 1, 2, 4 … all GPUs; 1 on a CPU)"
    )
    benchmark.add_argument(
        "--minutes", type=float, help="of everything together (default: 15; --against: 0.4, of steps)"
    )
    benchmark.add_argument("--like", metavar="ROW", help="measure as a row of benchmarks/published.csv was measured")
    benchmark.add_argument(
        "--against", metavar="COMMIT", help="one model's training step in turns with another commit's: slower or not"
    )
    benchmark.add_argument("--quick", action="store_true", help="everything, shrunk: shows that it works")
    benchmark.add_argument("--recipe", help="recipe name; by default the first with a published target")
    benchmark.add_argument("--data", help="data of one model; left out: generated demo data")
    benchmark.add_argument("--prices", help="a table of instances as benchmarks/prices.csv is one")
    benchmark.add_argument("--output", help="folder of the records (default: benchmarks/results/<device>)")
    add_device(benchmark)


def _add_data(verb: Callable[..., argparse.ArgumentParser]) -> None:
    data = verb(
        "data", "list published data sets with their terms, or fetch one by name",
        "kit data list\nkit data get imagenette\nkit data get ml-1m --accept",
    )  # fmt: skip
    data.add_argument("action", choices=["list", "get"])
    data.add_argument("name", nargs="?", help="of those that are listed")
    data.add_argument("--out", metavar="FOLDER", help="where data sets lie (default: data)")
    data.add_argument("--accept", action="store_true", help="agree to its licence and its size")


def _add_exercise(verb: Callable[..., argparse.ArgumentParser]) -> None:
    exercise = verb(
        "exercise", "list exercises that go further, show one at length, or judge whether a run does what it asks",
        "kit exercise list\nkit exercise list ssd300 --lang es\nkit exercise show halve-learning-rate\n"
        "kit exercise check halve-learning-rate runs/halve-learning-rate",
    )  # fmt: skip
    exercise.add_argument("action", choices=["list", "show", "check"])
    exercise.add_argument("name", nargs="?", help="of those that are listed; with list: a model, whose alone are shown")
    exercise.add_argument("run", nargs="?", metavar="RUN", help="with check: the run that is to show it")
    add_language(exercise, "of titles and texts (default: LANG's)")


class _HelpOnARecipe(argparse.Action):
    """Asks for help, for which no model or recipe has to be named."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> None:
        setattr(namespace, self.dest, True)
        for action in parser._actions:
            action.required = False
