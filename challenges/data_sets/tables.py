"""Published data sets of users and items, and of clicks."""

from collections.abc import Mapping

from challenges.data_sets.entry import DataSet, Part

HISTORIES = ("ncf/own", "vae_cf/own", "bert4rec/own")
_RANKED = ("vae_cf/ml-1m", "vae_cf/ml-1m-dae", "bert4rec/ml-1m-50", "bert4rec/ml-1m-200", "bert4rec/sasrec-ml-1m-50")
CLICKS_OF_ML_1M = (
    "dlrm/own",
    "wide_and_deep/own",
    "dlrm/ml-1m-clicks",
    "wide_and_deep/ml-1m-clicks",
    "wide_and_deep/ml-1m-autoint",
)
_ADULT = "https://archive.ics.uci.edu/ml/machine-learning-databases/adult"
_AMAZON = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark/5core/rating_only"
_AMAZON_FACE = (
    "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/benchmark/5core/rating_only"
)


def _movielens(archive: str, md5: str, megabytes: int, unpacked: int, recipes: tuple[str, ...]) -> DataSet:
    return DataSet(
        what=f"MovieLens, {archive.removeprefix('ml-')} of ratings",
        parts=(Part(urls=(f"https://files.grouplens.org/datasets/movielens/{archive}.zip",), checksum=f"md5:{md5}"),),
        published="GroupLens",
        megabytes=megabytes,
        unpacked=unpacked,
        licence="GroupLens' own: research, acknowledged; no redistribution, no commercial use without permission",
        citation="Harper and Konstan 2015, doi 10.1145/2827872",
        layout="MovieLens",
        root=archive,
        recipes=recipes,
        must_accept=True,
    )


def _amazon(name: str, what: str, urls: tuple[str, ...], sha256: str, published: str, megabytes: int) -> DataSet:
    part = Part(urls=urls, checksum=f"sha256:{sha256}", into=name, packed=False)
    return DataSet(
        what=f"Amazon reviews of 2023, {what}: who rated what and when, everybody and everything five times or more",
        parts=(part,),
        published=published,
        megabytes=megabytes,
        unpacked=megabytes,
        licence="none is named: gathered from Amazon's pages for research",
        citation="Hou et al. 2024, arXiv:2403.03952",
        layout="CSV with named columns",
        root=f"{name}/{part.file}",
        recipes=HISTORIES,
    )


TABLES: Mapping[str, DataSet] = {
    "ml-100k": _movielens("ml-100k", "0e33842e24a9c977be4e0107933c0723", 5, 30, HISTORIES),
    "ml-1m": _movielens(
        "ml-1m", "c4d9eecfca2ab87c1945afe126590906", 6, 40, (*HISTORIES, *_RANKED, *CLICKS_OF_ML_1M)
    ),
    "ml-20m": _movielens("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3", 199, 1200, (*HISTORIES, "vae_cf/ml-20m")),
    "ml-25m": _movielens("ml-25m", "6b51fb2759a8657d3bfcbfc42b592ada", 262, 1500, HISTORIES),
    "amazon-games": _amazon(
        "amazon-games", "video games", (f"{_AMAZON}/Video_Games.csv.gz",),
        "a2bde5f3b945960d161538c200dd87845e6ee471b46da96410dde61613c6901c", "two studies' notes", 48,
    ),
    "amazon-beauty": _amazon(
        "amazon-beauty", "beauty and care", (f"{_AMAZON_FACE}/Beauty_and_Personal_Care.csv",),
        "14a2bacd6b4e18521ba45705d0a0e672ea82d2878fff2c8897ec8056c24cd6c1", "a study's script", 390,
    ),
    "amazon-toys": _amazon(
        "amazon-toys", "toys and games", (f"{_AMAZON_FACE}/Toys_and_Games.csv",),
        "64c2e01a0402010477fb5fc35b43508a8df9e2bb208e0e6f763d93477bfb7a07", "a study's script", 230,
    ),
    "criteo-kaggle": DataSet(
        what="Criteo's clicks of the Kaggle contest: 45.8 million adverts shown, whether each was clicked",
        parts=(
            Part(
                urls=(
                    "https://go.criteo.net/criteo-research-kaggle-display-advertising-challenge-dataset.tar.gz",
                    "https://criteostorage.blob.core.windows.net/criteo-research-datasets/"
                    "kaggle-display-advertising-challenge-dataset.tar.gz",
                ),
                checksum="md5:df9b1b3766d9ff91d5ca3eb3d23bed27",
                into="criteo-kaggle",
            ),
        ),
        published="Figshare, doi 10.6084/m9.figshare.5732310",
        megabytes=4577,
        unpacked=12_700,
        licence="Criteo's own: research; no commercial use",
        citation="Criteo Labs 2014, Display Advertising Challenge",
        layout="Criteo",
        root="criteo-kaggle",
        recipes=("dlrm/criteo-kaggle", "wide_and_deep/criteo-kaggle"),
        must_accept=True,
    ),
    "adult": DataSet(
        what="a census of 1994: 48,842 people, and who of them earns more than 50,000 dollars",
        parts=(
            Part(
                urls=(f"{_ADULT}/adult.data",),
                checksum="sha256:5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
                into="adult",
                packed=False,
            ),
            Part(
                urls=(f"{_ADULT}/adult.test",),
                checksum="sha256:a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
                into="adult",
                packed=False,
            ),
        ),
        published="TensorFlow Datasets",
        megabytes=6,
        unpacked=10,
        licence="CC BY 4.0",
        citation="Becker and Kohavi 1996, doi 10.24432/C5XW20",
        layout="Adult",
        root="adult",
        recipes=("wide_and_deep/adult",),
    ),
}  # fmt: skip
