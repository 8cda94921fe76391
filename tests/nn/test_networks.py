"""The published networks are the published ones."""

import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.nn import build_pair
from wasserflow.nn.resnet import resnet_pair, resnet_plain_pair
from wasserflow.nn.sizes import ladder


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_resnet_is_spectrally_normalised():
    for network, shape in zip(build_pair("resnet", (1, 32, 32), 128, 32), ((128,), (1, 32, 32)), strict=True):
        for _ in range(10):
            network.train()(torch.randn(2, *shape))
        weights = [m.weight for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
        assert len(weights) >= 10
        for weight in weights:
            assert torch.linalg.svdvals(weight.flatten(1))[0].item() == pytest.approx(1, abs=0.05)


def test_resnet_skips_see_the_rectified_input():
    _, logit = build_pair("resnet", (1, 32, 32), 8, 4)
    block = logit.eval().get_submodule("1")
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(x), block(x.clamp(min=0)))


@pytest.mark.parametrize(
    ("shape", "width", "generator", "logit"),
    [
        # 100 x 256 x 16 + 16 x (256 x 128 + 128 x 64 + 64 x 32) + 2 x (256 + 128 + 64 + 32) + 32 + 1
        ((1, 28, 28), 32, 1_098_721, 165_921),
        # 100 x 512 x 16 + 16 x (512 x 256 + 256 x 128 + 128 x 3) + 2 x (512 + 256 + 128)
        ((3, 32, 32), 64, 3_448_576, None),
    ],
)
def test_dcgan_has_the_published_size(shape, width, generator, logit):
    pair = build_pair("dcgan", shape, 100, width)
    assert count(pair[0]) == generator
    assert logit is None or count(pair[1]) == logit


def test_dcgan_refuses_what_it_would_halve_to_nothing():
    with pytest.raises(UserError, match="images of 64x1 are too narrow"):
        build_pair("dcgan", (1, 64, 1), 8, 4)


def test_dcgan_starts_at_the_published_scale():
    for network in build_pair("dcgan", (3, 32, 32), 100, 64):
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d) and module.weight.numel() > 5000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1, abs=0.02)


def test_ladder_halves_down_to_four():
    assert ladder((28, 28)) == [(28, 28), (14, 14), (7, 7), (4, 4)]
    assert ladder((64, 48)) == [(64, 48), (32, 24), (16, 12), (8, 6), (4, 3)]
    assert ladder((4, 4)) == [(4, 4)]


@pytest.mark.parametrize(("build", "norms"), [(resnet_pair, 3 * 2 * 128), (resnet_plain_pair, 0)])
def test_resnet_has_the_published_size(build, norms):
    """1.20 and 1.05 million parameters for 32x32 in colour."""
    generator, logit = build((3, 32, 32), 128, 128)
    block = 2 * 9 * 128 * 128 + 128 * 128  # two convolutions and a skip
    assert count(generator) == (128 + 1) * 128 * 16 + 3 * block + norms + 9 * 128 * 3
    assert count(logit) == (9 + 1) * 3 * 128 + 9 * 128 * 128 + block + 2 * 2 * 9 * 128 * 128 + 128 + 1
