"""Files of weights: read without running code, written whole, with facts about the model beside the numbers.

Reads torch's own files (.pth, .pt, .bin, .pth.tar) and safetensors; what a file is, its content says, not its name.
"""

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from common.errors import CheckpointError
from common.files import atomic_writer, sha256
from common.machine.environment import kit_version

_PARTS = (
    # averaged weights before the last ones: they are what their owner evaluated
    *("ema", "model_ema", "state_dict_ema", "ema_state_dict"),
    *("task", "state_dict", "model_state_dict", "model", "module", "weights"),
)
"""entries under which checkpoints keep their weights (this kit, torchvision, timm, NVIDIA, Lightning)"""
_DEEPEST = 4  # entries within entries; a file can refer to itself
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.")
_CODE = re.compile(r"GLOBAL (\S+)")


@dataclass(frozen=True)
class StateFile:
    """What a file of weights holds.

    tensors:  name -> tensor on the CPU, as the file names them.
    part:     the entry of a checkpoint they came from, such as `state_dict_ema`; None where the file is the weights.
    verified: whether the file's name carries the start of its sha256, and it is right.
    """

    tensors: dict[str, Tensor]
    part: str | None
    verified: bool


def read_weights(path: Path) -> StateFile:
    """Read a file of weights onto the CPU.

    Raises CheckpointError when the file is missing, damaged or without weights, needs code to be read, or is not the
    one that the digits in its name (resnet50-0676ba61.pth) promise.
    """
    _require_file(path)
    verified = _verify_name(path)
    part, found = _select(_read(path))
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path} holds no weights (it starts with: {', '.join(map(str, list(found)[:4])) or 'nothing'}).",
            f"Weights are named tensors, alone or under one of: {', '.join(_PARTS)}.",
        )
    return StateFile(tensors, part, verified)


def save_weights(state_dict: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata as safetensors, whole or not at all; equal input gives equal bytes.

    Tensors go from where they lie to the file: tables of gigabytes are not held twice.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    # safetensors itself writes metadata in a random order, and whole files from memory: it tells the tensors' order and
    # the names of their types, as of empty ones
    content = safetensors.torch.save({name: tensor.new_empty(0) for name, tensor in tensors.items()})
    known = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, entry in known.items():
        begin, end = end, end + tensors[name].nbytes
        header[name] = {**entry, "shape": [*tensors[name].shape], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the numbers start at a multiple of eight bytes
    with atomic_writer(path) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in known:
            stream.write(tensors[name].reshape(-1).view(torch.uint8).numpy().data)


def weights_metadata(class_names: Sequence[str], preprocessing: Mapping[str, Any]) -> dict[str, str]:
    """The facts a file of weights needs to be used on its own; class names and preprocessing are JSON."""
    return {
        "class_names": json.dumps(list(class_names)),
        "preprocessing": json.dumps(dict(preprocessing)),
        "kit_version": str(kit_version()["version"]),
    }


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for torch's own files, which carry none.

    Raises CheckpointError when the file is missing or damaged.
    """
    _require_file(path)
    if not _is_safetensors(path):
        return {}
    try:
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"There is no file of weights {path}.", remedy="Check the path.")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"The file of weights {path} may not be read.", remedy="Check its permissions.")


def _verify_name(path: Path) -> bool:
    """Compare the digits at the end of the file's name, where there are eight or more, with its sha256.

    Decimal digits alone may as well be a date or a step; they count only when they match.
    """
    match = _DIGEST.search(path.name)
    if match is None:
        return False
    actual = sha256(path)
    if actual.startswith(match[1]):
        return True
    if match[1].isdecimal():
        return False
    raise CheckpointError(
        f"{path} is not the file its name promises: its sha256 starts with {actual[: len(match[1])]}.",
        f"The digits {match[1]} in the name are the start of the original's sha256.",
        "Fetch the file again; if the digits mean something else, rename the file.",
    )


def _read(path: Path) -> Mapping[Any, Any]:
    try:
        if _is_safetensors(path):
            return safetensors.torch.load_file(path)
        options = torch.serialization.safe_globals([argparse.Namespace])  # torchvision and timm save theirs alongside
        with path.open("rb") as stream, options:
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in the readers
        code = _CODE.search(str(error))
        if code is None:
            raise _damaged(path, error) from error
        raise CheckpointError(
            f"{path} is more than weights: reading it would run code ({code[1]}), so it was not read.",
            "Files of tensors, numbers, text and containers of those are read.",
            "Where it was written, save `model.state_dict()` alone, best as safetensors.",
        ) from error
    return content if isinstance(content, Mapping) else {}


def _is_safetensors(path: Path) -> bool:
    """Safetensors start with the size of a JSON header and the header's brace; pickles and archives do not."""
    with path.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def _select(content: Mapping[Any, Any]) -> tuple[str | None, Mapping[Any, Any]]:
    """The entry that holds the weights and its name, which has dots where entries are nested."""
    path: list[str] = []
    while len(path) < _DEEPEST:
        part = next((part for part in _PARTS if isinstance(content.get(part), Mapping) and content[part]), None)
        if part is None:
            break
        path.append(part)
        content = content[part]
    return ".".join(path) or None, content


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = re.split(r"\.\s|\n", str(error) or type(error).__name__)[0][:160].rstrip(".")
    size = path.stat().st_size
    return CheckpointError(
        f"{path} ({size} bytes) cannot be read as weights: {reason}.",
        "Files of torch (.pth, .pt, .bin) and safetensors are read.",
        "The file is damaged, cut short or of another kind: fetch or save it again.",
    )
