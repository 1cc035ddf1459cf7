"""What `kit` can be asked of a run that is trained: to export it, to serve it, to show it, to search by it."""

import argparse
from collections.abc import Callable

from challenges.flags import add_language, add_precision, add_run, port_number, positive_number, whole_number

RUN = "runs/resnet50-demo-1a2b3c4d"


def add_exports(verb: Callable[..., argparse.ArgumentParser]) -> None:
    export = verb(
        "export",
        "write a run's ONNX graphs in every precision, and TensorRT plans on a GPU",
        f"kit export {RUN}\nkit export {RUN} --embedding",
    )
    add_run(export)
    export.add_argument(
        "--embedding",
        action=argparse.BooleanOptionalAction,
        help="a classifier also answers with what it sees, for a search by picture; left out: as before, at first not",
    )

    parity = verb("parity", "prove that every engine, and Triton, answers as the trained model", f"kit parity {RUN}")
    add_run(parity)
    parity.add_argument("--files", type=whole_number, default=200, help="validation files sent to Triton, at most")
    add_precision(parity)


def add_servers(verb: Callable[..., argparse.ArgumentParser]) -> None:
    serve = verb(
        "serve",
        "serve runs with Triton on this machine; a detector sees whole images, tiles (data.tile) are for kit predict",
        f"kit serve {RUN}\nkit serve {RUN} --precision fp32",
    )
    _add_proven_runs(serve)
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        serve.add_argument(f"--{name}-port", type=port_number, default=port, help=f"default {port}; 0: any free one")
    serve.add_argument("--container", action="store_true", help="with NVIDIA's current Triton image under Docker")
    serve.add_argument(
        "--repository", help="folder of the model repository (default: a private one; with --container RUN/serving)"
    )

    repository = verb(
        "repository",
        "write the model repository that a Triton server of a release serves, with the best engine that it has",
        f"kit repository {RUN}\nkit repository {RUN} --precision fp32 --server 24.10",
    )
    _add_proven_runs(repository)
    repository.add_argument(
        "--server", metavar="VERSION", help="Triton's release, such as 26.07 (default: that of containers/versions.env)"
    )
    repository.add_argument("--repository", help="its folder (default: RUN/serving)")


def _add_proven_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories that passed `kit parity`")
    add_precision(parser)


def add_clients(verb: Callable[..., argparse.ArgumentParser]) -> None:
    client = verb(
        "client",
        "ask a server about images, histories or users: the likeliest classes, what was found where, what comes next",
        "kit client cat.jpg dog.jpg\nkit client street.jpg --model ssd300\n"
        "kit client --model bert4rec --history 12 7 'The Third Title'\nkit client --model ncf --user 196\n"
        "kit client cat.jpg --protocol grpc --url 127.0.0.1:8001",
    )
    client.add_argument("--top-k", type=whole_number, help="classes per image, from a classifier (default: 3)")
    client.add_argument(
        "--threshold",
        type=float,
        help="lowest score shown, from a detector, which searches no tiles here (default: 0.3)",
    )
    load = verb(
        "load",
        "measure a server under load and write a record",
        "kit load cat.jpg --concurrency 1 2 4 8 16\nkit load cat.jpg --rate 50 --seconds 30\n"
        "kit load --model bert4rec --history 12 7",
    )
    load.add_argument(
        "--concurrency", type=whole_number, nargs="*", default=[1, 2, 4, 8], help="closed loop: clients at a time"
    )
    load.add_argument("--rate", type=positive_number, nargs="*", default=[], help="open loop: requests per second")
    load.add_argument("--seconds", type=positive_number, default=10.0, help="of each step")
    load.add_argument("--output", default="runs/load.json", help="the record's file")
    for parser in (client, load):
        parser.add_argument("inputs", nargs="*", default=[], metavar="IMAGE", help="files, for a model of images")
        parser.add_argument(
            "--history", nargs="+", default=[], metavar="ITEM", help="identifiers or titles, oldest first"
        )
        parser.add_argument("--user", help="a user of the training data, for a model that knows only those")
        parser.add_argument("--url", default="127.0.0.1:8000", help="host:port, also with http:// before it")
        parser.add_argument("--protocol", choices=["http", "grpc"], default="http")
        parser.add_argument("--model", default="resnet50", help="name of the served model")
        parser.add_argument("--timeout", type=positive_number, default=30.0, help="seconds for one request")


def add_demo(verb: Callable[..., argparse.ArgumentParser]) -> None:
    demo = verb(
        "demo",
        "try runs in the browser: pictures, histories or rows of your own, and what each answer leans on",
        f"kit demo {RUN}\n"
        "kit demo runs/vae_cf-demo-1a2b3c4d runs/ssd300-demo-1a2b3c4d --port 0\n"
        f"kit demo {RUN} --url 127.0.0.1:8000",
    )
    demo.add_argument(
        "runs", nargs="*", metavar="RUN",
        help="run directories, two of one challenge side by side; left out: the newest of each model under runs/",
    )  # fmt: skip
    demo.add_argument("--url", help="host:port of a server of these runs; left out: an engine in this process")
    demo.add_argument(
        "--corrections", metavar="FOLDER", help="for what people say was right (default: RUN/corrections)"
    )
    add_language(demo, "of the page (default: each browser's own)")
    demo.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine alone)")
    demo.add_argument("--port", type=port_number, default=7860, help="default 7860; 0: any free one")


def add_search(verb: Callable[..., argparse.ArgumentParser]) -> None:
    index = verb(
        "index", "index folders of pictures by what a run's network sees, to find similar ones; again: what is new",
        f"kit index {RUN} ~/photos",
    )  # fmt: skip
    add_run(index)
    index.add_argument("folders", nargs="+", metavar="FOLDER", help="all that the index is to hold")
    similar = verb(
        "similar",
        "find the indexed pictures that are most like others",
        f"kit similar {RUN} cat.jpg --html similar.html",
    )
    add_run(similar)
    similar.add_argument("images", nargs="+", metavar="IMAGE")
    similar.add_argument("--top-k", type=whole_number, default=5, help="pictures for each image (default: 5)")
    similar.add_argument("--html", metavar="PAGE", help="also write a page that shows them")
    for parser in (index, similar):
        parser.add_argument(
            "--url", help="host:port of a server of the run, exported with --embedding; left out: this process"
        )
