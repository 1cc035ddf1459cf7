"""Where a classifier looked: the class activation map of Zhou et al. 2016 (arXiv:1512.04150)."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.vision.resnet import ResNet

STRENGTH = 0.55  # of the colours over the picture where the map is strongest


@torch.no_grad()
def activation_map(model: ResNet, images: Tensor, label: int) -> Tensor:
    """What each place of the last feature map says for a class, before the bias: its mean is the logit's share of it.

    images:  (batch, 3, height, width), normalised; the model is in evaluation mode.
    returns: (batch, height / 32, width / 32)
    """
    features = model.feature_map(images)
    return torch.einsum("bchw,c->bhw", features, model.fc.weight[label])


def overlay(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The picture with the places that speak for the class in warm colours; what speaks against it stays as it is.

    picture: (height, width, 3) uint8. places: (rows, columns) float.
    returns: (height, width, 3) uint8
    """
    from matplotlib import colormaps

    height, width = picture.shape[:2]
    positive = np.maximum(places, 0).astype(np.float32)
    shares = Image.fromarray(positive / max(float(positive.max()), 1e-12))
    strength = np.clip(np.asarray(shares.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)
    colours = colormaps["inferno"](strength)[..., :3] * 255
    weight = STRENGTH * strength[..., None]
    return np.asarray(np.rint(picture * (1 - weight) + colours * weight), np.uint8)
