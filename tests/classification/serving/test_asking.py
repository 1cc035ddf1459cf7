"""How a served classifier is asked, on a connection that answers what the test says."""

from pathlib import Path

import numpy as np

from challenges.classification.serving.asking import classify
from tests.common.serving.test_client import connected


def test_classify_sends_padded_batches_and_reads_names(tmp_path: Path) -> None:
    files = []
    for number, length in enumerate((5, 9, 7)):
        files.append(tmp_path / f"{number}.jpg")
        files[-1].write_bytes(bytes([number + 1]) * length)
    entry = np.array([b"0.750000:2:a name: with colons", b"0.25:0"], object)
    client = connected([], {"scores": entry.reshape(1, 2)})
    answers = classify(client, "model", [files[0], str(files[1]), files[2].read_bytes()], top_k=2, batch=2)
    assert answers[0] == [("a name: with colons", 0.75), ("0", 0.25)]
    assert [tensors for tensors, _ in client._connection.sent] == [
        [("encoded", [2, 9], "UINT8")],
        [("encoded", [1, 7], "UINT8")],
    ]
    assert client._connection.sent[0][1]["outputs"][0]._get_tensor()["parameters"]["classification"] == 2
