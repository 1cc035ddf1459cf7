"""Every model learns: one batch, seen again and again, costs less and less."""

import torch

from tests.contracts.line import BATCH


def test_the_loss_falls_on_one_repeated_batch(line):
    torch.manual_seed(0)
    data = line.data()
    task = line.challenge.build_task(line.recipe, data).train()
    batch = task.prepare_batch(next(data.train_batches(0, BATCH, 1)), 0)
    optimizer = torch.optim.Adam(task.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = task(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < sum(losses[:3]), losses
