"""Published data sets of photographs by class."""

from collections.abc import Mapping

from challenges.data_sets.arranging import PICTURES, of_idx, pets, ppm_as_png
from challenges.data_sets.entry import DataSet, Part

RECIPES = ("resnet50/photos", "resnet50/finetune")
TORCHVISION = "torchvision"
_PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
_CLOTHES = (
    *("T-shirt or top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_IDX = tuple(f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def _idx_parts(addresses: tuple[str, ...], md5s: tuple[str, ...]) -> tuple[Part, ...]:
    return tuple(
        Part(urls=tuple(f"{address}/{file}" for address in addresses), checksum=f"md5:{md5}", into="idx", packed=False)
        for file, md5 in zip(_IDX, md5s, strict=True)
    )


PHOTOGRAPHS: Mapping[str, DataSet] = {
    "imagenette": DataSet(
        what="ten easy classes of ImageNet, 13,394 photographs of 160 pixels",
        parts=(
            Part(
                urls=("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",),
                checksum="md5:e793b78cc4c9e9a4ccc0c1155377a412",
            ),
        ),
        published=TORCHVISION,
        megabytes=99,
        unpacked=250,
        licence="Apache-2.0 for the list; the photographs are ImageNet's: research, no redistribution",
        citation="Howard 2019, github.com/fastai/imagenette",
        layout="train and val folders of classes",
        root="imagenette2-160",
        recipes=RECIPES,
    ),
    "pets": DataSet(
        what="Oxford-IIIT Pet: 7,349 photographs of 37 breeds of cats and dogs",
        parts=(
            Part(urls=(f"{_PETS}/images.tar.gz",), checksum="md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            Part(urls=(f"{_PETS}/annotations.tar.gz",), checksum="md5:95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
        published=TORCHVISION,
        megabytes=811,
        unpacked=1000,
        licence="CC BY-SA 4.0: shared under the same licence",
        citation="Parkhi et al. 2012, doi 10.1109/CVPR.2012.6248092",
        layout="made here: train and test folders of breeds, by the publisher's lists",
        root=PICTURES,
        recipes=RECIPES,
        arrange=pets,
    ),
    "flowers": DataSet(
        what="3,670 photographs of five kinds of flowers",
        parts=(
            Part(
                urls=("http://download.tensorflow.org/example_images/flower_photos.tgz",),
                checksum="sha256:4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
            ),
        ),
        published="TensorFlow Datasets",
        megabytes=229,
        unpacked=300,
        licence="CC BY 2.0, each photograph's author in LICENSE.txt",
        citation="The TensorFlow Team 2019, tensorflow.org/datasets/catalog/tf_flowers",
        layout="folders of classes",
        root="flower_photos",
        recipes=RECIPES,
    ),
    "gtsrb": DataSet(
        what="German traffic signs, 43 classes: 26,640 pictures, thirty of each sign that a car drove by",
        parts=(
            Part(
                urls=("https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/GTSRB-Training_fixed.zip",),
                checksum="md5:513f3c79a4c5141765e10e952eaa2478",
            ),
        ),
        published=TORCHVISION,
        megabytes=187,
        unpacked=600,
        licence="none is named: its authors ask to be cited",
        citation="Stallkamp et al. 2012, doi 10.1016/j.neunet.2012.02.016",
        layout="folders of classes; PPM becomes PNG here",
        root="GTSRB/Training",
        recipes=RECIPES,
        arrange=ppm_as_png,
    ),
    "eurosat": DataSet(
        what="27,000 satellite pictures of ten kinds of land: rivers, motorways, forests, towns, seas",
        parts=(
            Part(
                urls=(
                    "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
                    "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                    "https://madm.dfki.de/files/sentinel/EuroSAT.zip",
                ),
                checksum="md5:c8fa014336c82ac7804f0398fcb19387",
            ),
        ),
        published=TORCHVISION,
        megabytes=94,
        unpacked=200,
        licence="MIT",
        citation="Helber et al. 2019, doi 10.1109/JSTARS.2019.2918242",
        layout="folders of classes",
        root="2750",
        recipes=RECIPES,
    ),
    "fashion-mnist": DataSet(
        what="70,000 small grey pictures of ten kinds of clothes, as a shop shows them",
        parts=_idx_parts(
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
            (
                *("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
                *("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
            ),
        ),
        published=TORCHVISION,
        megabytes=31,
        unpacked=400,
        licence="MIT",
        citation="Xiao et al. 2017, arXiv:1708.07747",
        layout="made here: train and test folders of classes",
        root=PICTURES,
        recipes=RECIPES,
        arrange=of_idx("idx", _CLOTHES),
    ),
    "kmnist": DataSet(
        what="70,000 characters cut out of old Japanese books, ten kinds",
        parts=_idx_parts(
            ("http://codh.rois.ac.jp/kmnist/dataset/kmnist",),
            (
                *("bdb82020997e1d708af4cf47b453dcf7", "e144d726b3acfaa3e44228e80efcd344"),
                *("5c965bf0a639b31b8f53240b1b52f4d7", "7320c461ea6c1c855c0b718fb2a4b134"),
            ),
        ),
        published=TORCHVISION,
        megabytes=21,
        unpacked=400,
        licence="CC BY-SA 4.0: shared under the same licence",
        citation="Clanuwat et al. 2018, arXiv:1812.01718",
        layout="made here: train and test folders of classes",
        root=PICTURES,
        recipes=RECIPES,
        arrange=of_idx("idx", _KUZUSHIJI),
    ),
}
