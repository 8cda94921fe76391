"""The order of batches is arithmetic: every epoch holds every sample once, and it can be entered anywhere."""

import torch

from wasserflow.data import Batches, Form, Split

FORM = Form((1, 4, 4), "NHW", ("uint8",))
N = 23


def batches(**settings):
    x = torch.arange(N, dtype=torch.uint8)[:, None, None, None].expand(N, 1, 4, 4).contiguous()
    settings = {"batch": 6, "seed": 0, "device": torch.device("cpu")} | settings
    return Batches(Split(x, torch.arange(N)), FORM, **settings)


def labels(source, count):
    return torch.cat([source.next().label for _ in range(count)])


def test_every_epoch_holds_every_sample_once():
    drawn = labels(batches(), 23)  # six epochs
    for epoch in range(6):
        assert sorted(drawn[epoch * N : (epoch + 1) * N].tolist()) == list(range(N))
    assert not torch.equal(drawn[:N], drawn[N : 2 * N])


def test_it_can_be_entered_anywhere():
    whole = labels(batches(), 12)
    assert torch.equal(labels(batches(seen=36), 6), whole[36:])


def test_a_batch_larger_than_the_set():
    drawn = labels(batches(batch=50), 1)
    assert drawn.bincount(minlength=N).min() >= 2


def test_processes_share_every_batch():
    whole = labels(batches(), 4).view(4, 6)
    parts = [labels(batches(rank=rank, processes=2), 4).view(4, 3) for rank in (0, 1)]
    assert torch.equal(torch.cat(parts, 1), whole)


def test_images_arrive_in_model_space_with_their_labels():
    batch = batches().next()
    assert batch.x.dtype == torch.float32
    assert batch.label is not None
    torch.testing.assert_close(batch.x[:, 0, 0, 0], batch.label / 127.5 - 1)


def test_the_order_depends_on_the_seed():
    assert not torch.equal(labels(batches(seed=1), 4), labels(batches(), 4))
