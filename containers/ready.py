"""Exit with 0 when every model that the server offers answers a real request: the containers' health check.

Triton's own readiness stays true after a Python stub died, so a server counts as ready only when it infers. Nothing but
the standard library is needed, so that the serving image installs nothing.

    python3 containers/ready.py [--url http://127.0.0.1:8000] [--repository /models] [--timeout 10]
"""

import argparse
import json
import math
import re
import struct
import sys
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Any

BYTES_PER_VALUE = {"BOOL": 1, "UINT8": 1, "INT8": 1, "FP16": 2, "BF16": 2, "INT32": 4, "FP32": 4, "INT64": 8, "FP64": 8}
UNAVAILABLE = 503
OVERLOADED = (
    "maximum queue size",
    "timeout expired",
)  # a full queue shows a busy server, which a restart would only hurt
ENCODED = "encoded"  # input that takes an image file's bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--repository", type=Path, default=Path("/models"))
    parser.add_argument("--timeout", type=float, default=10.0)
    options = parser.parse_args()
    models = offered_models(options.repository)
    if not models:
        print(f"no model in {options.repository}", file=sys.stderr)
        return 1
    for model in models:
        try:
            infer(options.url, model, options.timeout)
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")
            if error.code == UNAVAILABLE and any(words in reason for words in OVERLOADED):
                continue
            print(f"{model} answers {error.code}: {reason}", file=sys.stderr)
            return 1
        except (OSError, ValueError, KeyError) as error:
            print(f"{model} does not answer: {error}", file=sys.stderr)
            return 1
    return 0


def offered_models(repository: Path) -> list[str]:
    """The models clients call: those that no ensemble has as a part."""
    configurations = {path.parent.name: path.read_text() for path in repository.glob("*/config.pbtxt")}
    parts = {part for text in configurations.values() for part in re.findall(r'model_name:\s*"([^"]+)"', text)}
    return sorted(set(configurations) - parts)


def infer(url: str, model: str, timeout: float) -> dict[str, Any]:
    """One request in Triton's binary form: a JSON header, then the tensors' bytes."""
    metadata = json.loads(_read(f"{url}/v2/models/{model}", None, {}, timeout))
    inputs, bodies = [], []
    for spec in metadata["inputs"]:
        shape, body = example(spec["name"], spec["datatype"], [int(size) for size in spec["shape"]])
        parameters = {"binary_data_size": len(body)}
        inputs.append({"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "parameters": parameters})
        bodies.append(body)
    header = json.dumps({"inputs": inputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
    answer = json.loads(_read(f"{url}/v2/models/{model}/infer", b"".join([header, *bodies]), headers, timeout))
    if not answer["outputs"]:
        raise ValueError("an answer without outputs")
    return answer


def example(name: str, datatype: str, shape: list[int]) -> tuple[list[int], bytes]:
    """A shape and bytes that an input accepts: a small PNG file for images, zeros for everything else."""
    if name == ENCODED and datatype == "UINT8":
        image = example_image()
        return [1, len(image)], image
    sizes = [1 if size < 0 else size for size in shape]
    if datatype == "BYTES":
        return sizes, struct.pack("<I", 0) * math.prod(sizes)
    return sizes, bytes(BYTES_PER_VALUE[datatype] * math.prod(sizes))


def example_image(side: int = 64) -> bytes:
    """A grey square as a PNG file."""
    rows = (b"\0" + bytes([128]) * side) * side
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _read(url: str, body: bytes | None, headers: dict[str, str], timeout: float) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=timeout) as answer:
        return answer.read()


if __name__ == "__main__":
    sys.exit(main())
