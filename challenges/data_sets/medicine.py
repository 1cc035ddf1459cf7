"""MedMNIST's pictures at 64 pixels, those that have one label each.

ChestMNIST, whose pictures have several, and the volumes of three dimensions are left out: no recipe reads them.
"""

from collections.abc import Mapping

from challenges.data_sets.arranging import PICTURES, of_arrays
from challenges.data_sets.entry import DataSet, Part
from challenges.data_sets.photographs import RECIPES

SIDE = 64
_RECORD = "https://zenodo.org/records/10519652/files"
_ORGANS = (
    *("bladder", "left femur", "right femur", "heart", "left kidney", "right kidney"),
    *("liver", "left lung", "right lung", "pancreas", "spleen"),
)
FREE = "CC BY 4.0; not for clinical use"


def _medmnist(
    name: str, md5: str, what: str, pictures: int, colours: int, classes: tuple[str, ...], licence: str = FREE
) -> DataSet:
    megabytes = -(-pictures * SIDE * SIDE * colours // 1_000_000)  # as arrays; the archive has fewer
    return DataSet(
        what=f"MedMNIST: {pictures:,} pictures of 64 pixels, {what}",
        parts=(Part(urls=(f"{_RECORD}/{name}_64.npz?download=1",), checksum=f"md5:{md5}", into="arrays"),),
        published="MedMNIST",
        megabytes=megabytes,
        unpacked=megabytes + 10,  # the labels, and the arrays' heads
        licence=licence,
        citation="Yang et al. 2023, doi 10.1038/s41597-022-01721-8",
        layout="made here: train, val and test folders of classes",
        root=PICTURES,
        recipes=RECIPES,
        arrange=of_arrays("arrays", classes),
        must_accept="no commercial" in licence,
    )


MEDICINE: Mapping[str, DataSet] = {
    "medmnist-blood": _medmnist(
        "bloodmnist", "2b94928a2ae4916078ca51e05b6b800b", "blood cells of eight kinds", 17_092, 3,
        ("basophil", "eosinophil", "erythroblast", "immature granulocyte",
         "lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
    "medmnist-breast": _medmnist(
        "breastmnist", "742edef2a1fd1524b2efff4bd7ba9364", "ultrasound of the breast: malignant or not", 780, 1,
        ("malignant", "normal or benign"),
    ),
    "medmnist-derma": _medmnist(
        "dermamnist", "b70a2f5635c6199aeaa28c31d7202e1f", "changes of the skin, seven kinds", 10_015, 3,
        ("actinic keratosis", "basal cell carcinoma", "benign keratosis", "dermatofibroma",
         "melanoma", "melanocytic nevus", "vascular lesion"),
        "CC BY-NC 4.0: no commercial use; not for clinical use",
    ),
    "medmnist-oct": _medmnist(
        "octmnist", "e229e9440236b774d9f0dfef9d07bdaf", "optical sections of the retina, four findings", 109_309, 1,
        ("choroidal neovascularisation", "diabetic macular oedema", "drusen", "normal"),
    ),
    "medmnist-organa": _medmnist(
        "organamnist", "2dcccc29b88e6da5a01161ef20cda288", "eleven organs in axial sections", 58_830, 1, _ORGANS,
    ),
    "medmnist-organc": _medmnist(
        "organcmnist", "3ce34a8724ea6f548e6db4744d03b6a9", "eleven organs in coronal sections", 23_583, 1, _ORGANS,
    ),
    "medmnist-organs": _medmnist(
        "organsmnist", "53a6d115339d874c25e309a994ff46d3", "eleven organs in sagittal sections", 25_211, 1, _ORGANS,
    ),
    "medmnist-path": _medmnist(
        "pathmnist", "55aa9c1e0525abe5a6b9d8343a507616", "tissue of the bowel, nine kinds", 107_180, 3,
        ("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal mucosa", "stroma",
         "adenocarcinoma"),
    ),
    "medmnist-pneumonia": _medmnist(
        "pneumoniamnist", "8f4eceb4ccffa70c672198ea285246c6", "X-rays of children's lungs: pneumonia or not", 5_856, 1,
        ("normal", "pneumonia"),
    ),
    "medmnist-retina": _medmnist(
        "retinamnist", "afda852cc34dcda56f86ad2b2457dbcc", "the back of the eye, five grades of retinopathy", 1_600, 3,
        ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"),
    ),
    "medmnist-tissue": _medmnist(
        "tissuemnist", "123ece2eba09d0aa5d698fda57103344", "cells of the kidney, eight kinds", 236_386, 1,
        ("collecting duct", "distal convoluted tubule", "glomerular endothelium", "interstitial endothelium",
         "leukocyte", "podocyte", "proximal tubule", "thick ascending limb"),
    ),
}  # fmt: skip
