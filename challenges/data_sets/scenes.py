"""Published data sets of pictures with boxes."""

from collections.abc import Mapping

from challenges.data_sets.arranging import with_class_names
from challenges.data_sets.entry import DataSet, Part

RECIPES = ("ssd300/small", "ssd300/finetune")
_FLICKR = "Flickr's terms of use: research; no redistribution of the images"
_ULTRALYTICS = "https://github.com/ultralytics/assets/releases/download/v0.0.0"
_BCCD = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"
_COCO = "http://images.cocodataset.org"
_COCO_ON_AWS = "https://fast-ai-coco.s3.amazonaws.com"
"""fast.ai's part of AWS' Open Data, registry.opendata.aws/fast-ai-coco: archives of the same names and lengths."""
_COCO_CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
_PROTECTION = (
    *("helmet", "gloves", "vest", "boots", "goggles", "none", "person"),
    *("no helmet", "no goggles", "no gloves", "no boots"),
)


def _ultralytics(
    name: str, what: str, megabytes: int, unpacked: int, classes: tuple[str, ...], licence: str
) -> DataSet:
    return DataSet(
        what=what,
        parts=(Part(urls=(f"{_ULTRALYTICS}/{name}.zip",), checksum=None, into=name),),
        published="",
        megabytes=megabytes,
        unpacked=unpacked,
        licence=licence,
        citation=f"Ultralytics, docs.ultralytics.com, {name}",
        layout="YOLO",
        root=name,
        recipes=RECIPES,
        arrange=with_class_names(name, classes),
    )


SCENES: Mapping[str, DataSet] = {
    "voc2007": DataSet(
        what="Pascal VOC 2007, training and validation: 5,011 images with boxes of 20 classes",
        parts=(
            Part(
                urls=("http://host.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtrainval_06-Nov-2007.tar",),
                checksum="md5:c52e279531787c972589f7e41ab4ae64",
            ),
        ),
        published="torchvision",
        megabytes=460,
        unpacked=700,
        licence=_FLICKR,
        citation="Everingham et al. 2010, doi 10.1007/s11263-009-0275-4",
        layout="Pascal VOC",
        root="VOCdevkit/VOC2007",
        recipes=RECIPES,
        must_accept=True,
    ),
    "coco": DataSet(
        what="COCO 2017, training and validation: 123,287 images with boxes of 80 classes",
        parts=(
            Part(
                urls=(f"{_COCO}/annotations/annotations_trainval2017.zip",),
                on_aws=f"{_COCO_ON_AWS}/annotations_trainval2017.zip",
                checksum="sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                into="coco",
            ),
            Part(
                urls=(f"{_COCO}/zips/val2017.zip",),
                on_aws=f"{_COCO_ON_AWS}/val2017.zip",
                checksum="sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                into="coco",
            ),
            Part(
                urls=(f"{_COCO}/zips/train2017.zip",),
                on_aws=f"{_COCO_ON_AWS}/train2017.zip",
                checksum="sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                into="coco",
            ),
        ),
        published="TensorFlow Datasets",
        megabytes=20_405,
        unpacked=22_000,
        licence=f"CC BY 4.0 for the annotations; {_FLICKR}",
        citation="Lin et al. 2014, arXiv:1405.0312",
        layout="COCO",
        root="coco",
        recipes=("ssd300/coco",),
        must_accept=True,
    ),
    "coco128": _ultralytics(
        "coco128", "the first 128 images of COCO 2017, for a look at boxes", 7, 30, _COCO_CLASSES, _FLICKR
    ),
    "bccd": DataSet(
        what="blood under the microscope: 364 images with 4,888 boxes of red and white cells and platelets",
        parts=(
            Part(urls=(f"https://github.com/Shenggan/BCCD_Dataset/archive/{_BCCD}.zip",), checksum=None),
        ),
        published="",
        megabytes=8,
        unpacked=30,
        licence="MIT",
        citation="Shenggan 2017, github.com/Shenggan/BCCD_Dataset",
        layout="Pascal VOC",
        root=f"BCCD_Dataset-{_BCCD}/BCCD",
        recipes=RECIPES,
    ),
    "construction-ppe": _ultralytics(
        "construction-ppe", "1,416 pictures of building sites: helmets, gloves, vests, and who lacks them",
        179, 400, _PROTECTION, "AGPL-3.0: what is made of it and offered to others is open, too",
    ),
    "package-seg": _ultralytics(
        "package-seg", "2,197 pictures of parcels in warehouses and at doors, outlined",
        103, 400, ("package",), "AGPL-3.0: what is made of it and offered to others is open, too",
    ),
}  # fmt: skip
