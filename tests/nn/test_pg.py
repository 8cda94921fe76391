"""Growing networks: what each stage sees and makes, how stages fade into each other, and what keeps them stable."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch.nn.functional import avg_pool2d, leaky_relu
from torch.utils._python_dispatch import TorchDispatchMode

from wasserflow.nn.pg import pg_pair
from wasserflow.training.fit import Average

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 33, 20), (1, 20, 33), (1, 5, 9), (3, 4, 4), (1, 64, 64)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def pair(shape: tuple[int, ...], latent: int = 8, width: int = 6) -> list[Any]:
    """The networks in float64, with weights that hide nothing: biases and the weight of attention start at 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = [network.double().eval() for network in pg_pair(shape, latent, width)]
        for p in (p for network in networks for p in network.parameters()):
            p.data += 0.1 * torch.randn_like(p)
    return networks


def images(shape, n=4):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def latents(n=4, latent=8):
    return torch.randn(n, latent, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def blockwise(x, k):
    """Each pixel replaced with the first of its block of 2^k x 2^k."""
    rows, columns = (torch.arange(side) >> k << k for side in x.shape[2:])
    return x[:, :, rows][:, :, :, columns]


def means(x, k):
    """Each pixel replaced with what k halvings leave of it."""
    small = x
    for _ in range(k):
        small = avg_pool2d(small, 2, ceil_mode=True)
    rows, columns = (torch.arange(side) >> k for side in x.shape[2:])
    return small[:, :, rows][:, :, :, columns]


def at(network, stage, x):
    network.grow(stage)
    return network(x)


def penalty(logit, x):
    """``E |grad_x d(x)|^2``, differentiable in the logit's weights."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(logit(x).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


@shapes
def test_a_new_network_is_fully_grown(shape):
    for network, x in zip(pair(shape), (latents(), images(shape)), strict=True):
        assert torch.equal(network(x), at(network, network.last, x))
        assert torch.equal(network(x), at(network, network.last + 7.5, x))
        assert torch.equal(at(network, -1, x), at(network, 0, x))


@shapes
def test_each_stage_makes_enlarged_small_images(shape):
    generator, _ = pair(shape)
    for stage in range(generator.last + 1):
        x = at(generator, stage, latents())
        k = generator.last - stage
        assert x.shape == (4, *shape)
        assert torch.equal(x, blockwise(x, k))
        assert not torch.equal(x, blockwise(x, k + 1))


@shapes
def test_each_stage_sees_block_means_only(shape):
    _, logit = pair(shape)
    x = images(shape)
    for stage in range(logit.last + 1):
        k = logit.last - stage
        d = at(logit, stage, x)
        assert d.shape == (4,)
        torch.testing.assert_close(d, logit(means(x, k)))
        assert not torch.allclose(d, logit(means(x, k + 1)), atol=1e-4)


@shapes
def test_the_logit_sees_the_small_image_that_the_generator_made(shape):
    generator, logit = pair(shape)
    for stage in range(generator.last + 1):
        x = at(generator, stage, latents())
        k = generator.last - stage
        assert torch.equal(logit.reduce[:k](x), x[:, :, :: 2**k, :: 2**k])


@shapes
def test_fading_images_are_mixtures(shape):
    generator, _ = pair(shape)
    z = latents()
    for stage in range(generator.last):
        a, b = at(generator, stage, z), at(generator, stage + 1, z)
        for alpha in (0.25, 0.625):
            torch.testing.assert_close(at(generator, stage + alpha, z), (1 - alpha) * a + alpha * b)


@shapes
@pytest.mark.parametrize("which", [0, 1], ids=["generator", "logit"])
def test_fades_are_continuous(shape, which):
    network, x = pair(shape)[which], (latents(), images(shape))[which]
    for stage in range(network.last):
        before, after = at(network, stage, x), at(network, stage + 1, x)
        torch.testing.assert_close(at(network, stage + 1e-5, x), before, rtol=0, atol=2e-4)
        torch.testing.assert_close(at(network, stage + 1 - 1e-5, x), after, rtol=0, atol=2e-4)
        half = at(network, stage + 0.5, x)
        for end in (before, after):
            assert not torch.allclose(half, end, rtol=0, atol=2e-3)


def test_a_stage_trains_what_it_uses():
    generator, logit = pair((1, 28, 28))
    for network, x in ((generator, latents()), (logit, images((1, 28, 28)))):
        used = []
        for stage in range(network.last + 1):
            network.zero_grad()
            at(network, stage, x).sum().backward()
            used.append(sum(p.grad is not None for p in network.parameters()))
        assert used[1] - used[0] == used[2] - used[1] == used[3] - used[2] == 4  # two convolutions more


def test_parameters_are_the_published_ones():
    conv, w = 9 * 256 * 256 + 256, 256
    generator, logit = pg_pair((3, 32, 32), 512, w)
    count = [sum(p.numel() for p in network.parameters()) for network in (generator, logit)]
    assert count[0] == 513 * w * 16 + 7 * conv + 4 * (3 * w + 3)
    assert count[1] == 4 * (3 * w + w) + 7 * conv + 9 * w + (w * 16 * w + w) + (w + 1)


def attention_of(network: Any) -> list[Any]:
    return [module for module in network.modules() if hasattr(module, "gamma")]


@pytest.mark.parametrize(("side", "size"), [(63, None), (64, 32), (96, 24), (128, 32)])
def test_large_images_have_attention_at_32_pixels(side, size):
    for network, x in zip(
        pg_pair((1, side, side), 4, 8), (torch.randn(1, 4), torch.randn(1, 1, side, side)), strict=True
    ):
        found, seen = attention_of(network), []
        for module in found:
            module.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].shape[2:]))
        network(x)
        assert len(found) == (size is not None)
        assert seen == [(size, size)] * len(found)


def test_attention_is_a_mean_of_values():
    """Where all pixels ask alike, each gets the plain mean; with gamma = 0 nothing is added."""
    (attention,) = attention_of(pg_pair((1, 64, 64), 4, 8)[1])
    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(attention(x), x)
    attention.gamma.data.fill_(1.0)
    assert (attention(x) - x).flatten(2).std(2).min() > 1e-3
    attention.fgh.get_parameter("parametrizations.weight.original").data[:2] = 0  # f and g: all scores are equal
    mean = attention.o(attention.fgh(x)[:, 2:].mean((2, 3), keepdim=True))
    torch.testing.assert_close(attention(x) - x, mean.expand_as(x), rtol=0, atol=1e-5)


def test_attention_looks_where_the_scores_are():
    """Scores that single out one pixel give its value to all."""
    (attention,) = attention_of(pg_pair((1, 64, 64), 4, 8)[1])
    attention.gamma.data.fill_(1.0)
    weight = attention.fgh.get_parameter("parametrizations.weight.original").data
    weight[:2] = 0
    weight[1, 0] = 1e4
    attention.fgh.bias.data[0] = 1.0  # f is 1 everywhere, g large where the first feature is
    x = torch.randn(1, 8, 5, 6)
    x[:, 0] = 0
    x[:, 0, 2, 3] = 1
    value = attention.o(attention.fgh(x)[:, 2:])[:, :, 2:3, 3:4]
    torch.testing.assert_close(attention(x) - x, value.expand_as(x), rtol=0, atol=1e-5)


def test_equalised_layers_keep_the_scale_and_have_unit_weights():
    """The mean square is 1 after the leaky ReLU, or where none follows: images, logits, attention."""
    layers = {}
    for network in pg_pair((3, 64, 64), 512, 64):
        found = network.named_modules(prefix=type(network).__name__)
        layers |= {name: m for name, m in found if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)}
    assert len(layers) == 10 + 5 + 2 + 9 + 5 + 2 + 2
    for name, layer in layers.items():
        dense = isinstance(layer, torch.nn.Linear)
        x = torch.randn(4000, layer.in_features) if dense else torch.randn(8, layer.in_channels, 24, 24)
        y = layer(x) if dense else layer(x)[:, :, 1:-1, 1:-1]  # padding lowers the scale at the border
        linear = name.endswith((".layer", ".fgh", ".o"))
        error = 0.02 + 5 * layer.weight.numel() ** -0.5
        assert (y if linear else leaky_relu(y, 0.2)).square().mean().item() == pytest.approx(1, abs=error), name
        assert layer.get_parameter("parametrizations.weight.original").std().item() == pytest.approx(1, abs=error)
        assert not layer.bias.any()


@shapes
def test_features_of_the_generator_are_pixel_normalised(shape):
    generator, _ = pair(shape)
    for attention in attention_of(generator):
        attention.gamma.data.zero_()
    seen = []
    generator.blocks.get_submodule("0.1").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for block in generator.blocks:
        block.register_forward_hook(lambda _, args, out: seen.append(out))
    generator(5 * latents())
    assert len(seen) == generator.last + 2
    for x in seen:  # the latent and every size
        torch.testing.assert_close(x.square().mean(1), torch.ones_like(x[:, 0]), rtol=1e-4, atol=0)


def test_features_are_normalised_right_after_the_dense_layer():
    generator, _ = pair((1, 8, 8))
    dense = torch.nn.Sequential(*list(generator.blocks[0])[:5])
    x = dense(latents())
    assert x.shape == (4, 6, 4, 4)
    torch.testing.assert_close(x.square().mean(1), torch.ones(4, 4, 4).double(), rtol=1e-4, atol=0)


def test_samples_are_those_of_the_direction_of_z():
    generator, _ = pair((1, 28, 28))
    torch.testing.assert_close(generator(latents()), generator(3 * latents()))


@shapes
def test_each_sample_stands_alone_in_evaluation(shape):
    for network, x in zip(pair(shape), (latents(), images(shape)), strict=True):
        one_by_one = torch.cat([network(row) for row in x.split(1)])
        torch.testing.assert_close(network(x), one_by_one)


def test_the_logit_sees_the_spread_of_its_batch_in_training():
    _, logit = pair((1, 28, 28))
    x = images((1, 28, 28))
    d = logit.train()(x)
    assert not torch.allclose(d[:1], logit(x[:1].repeat(4, 1, 1, 1)), atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_training_pulls_at_the_spread(training):
    """A sample's logit has a gradient in the others of its batch where it sees their spread."""
    _, logit = pair((1, 28, 28))
    x = images((1, 28, 28)).requires_grad_()
    (gradient,) = torch.autograd.grad(logit.train(training)(x)[0], x)
    assert gradient[0].any()
    assert bool(gradient[1:].any()) is training


def test_bfloat16_leaves_logits_and_images_exact():
    for network, x in zip(pair((1, 28, 28)), (latents(), images((1, 28, 28))), strict=True):
        network.float().train().grow(2.5)
        with torch.autocast("cpu", torch.bfloat16):
            out = network(x.float())
        assert out.dtype == torch.float32
        assert not torch.equal(out, out.bfloat16().float()), "the values have bfloat16's digits only"
        assert (out - network(x.float())).abs().mean() < 0.05


def test_in_evaluation_the_spread_is_the_running_mean_of_training():
    _, logit = pair((1, 28, 28))
    x = images((1, 28, 28))
    before = logit(x)
    d = logit.train()(x)
    for _ in range(200):
        logit(x)
    torch.testing.assert_close(logit.eval()(x), d)
    assert not torch.allclose(before, d, atol=1e-4)


def test_the_spread_is_the_mean_standard_deviation():
    _, logit = pair((1, 8, 8))
    deviation = logit.blocks[-1][0]
    a = torch.rand(6, 4, 4).double()
    x = torch.stack([1 - a, 1 + a, 1 - a, 1 + a])
    y = deviation.train()(x)
    assert torch.equal(y[:, :-1], x)
    torch.testing.assert_close(y[:, -1], a.mean().expand(4, 4, 4), rtol=1e-4, atol=0)


@pytest.mark.parametrize("stage", [0, 1.25, 3])
def test_the_state_holds_the_stage(stage):
    for network, fresh, x in zip(
        pair((1, 28, 28)), pg_pair((1, 28, 28), 8, 6), (latents(), images((1, 28, 28))), strict=True
    ):
        expected = at(network, stage, x)
        fresh.double().load_state_dict(network.state_dict())
        assert torch.equal(fresh.eval()(x), expected)
        copy = deepcopy(network)
        assert torch.equal(copy(x), expected)
        copy.grow(network.last if stage == 0 else 0)
        assert torch.equal(network(x), expected)


def test_an_average_of_weights_is_at_the_stage_of_its_source():
    generator, _ = pair((1, 28, 28))
    copy = deepcopy(generator)
    average = Average(generator, copy, half_life=1000)
    for stage in (0, 0.3, 1):
        generator.grow(stage)
        for p in generator.parameters():
            p.data += 1
        average.update(10, seen=1_000_000)
        assert copy.finest() == generator.finest()
        assert not torch.equal(copy(latents()), generator(latents()))


def test_the_stage_stays_on_the_host():
    generator, _ = pair((1, 28, 28))
    generator.grow(1.5)
    torch.nn.Sequential(generator).to("meta")
    assert all(p.is_meta for p in generator.parameters())
    assert generator.finest() == (2, 0.5)


class NoWaiting(TorchDispatchMode):
    """Fails where the host reads a value that a device may still be computing."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_back_from_the_device():
    generator, logit = pair((1, 28, 28))
    with NoWaiting():
        for stage in (0, 1.5, 3):
            generator.grow(stage)
            logit.train().grow(stage)
            penalty(logit, generator(latents()))


@pytest.mark.parametrize(("shape", "stage"), [((1, 9, 6), 0), ((1, 9, 6), 1.5), ((3, 64, 64), 3.5)], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_the_penalty_has_its_derivative(shape, stage, training):
    """The gradient of a function of grad_x d, against a difference quotient along itself."""
    logit = pair(shape)[1].train(training)
    logit.grow(stage)
    x = images(shape, 3)
    weights = list(logit.parameters())
    gradients = torch.autograd.grad(penalty(logit, x), weights, allow_unused=True)
    gradients = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, gradients, strict=True)]
    slope = torch.stack([g.square().sum() for g in gradients]).sum()
    step = 1e-6 / slope.sqrt()
    values = []
    for sign in (1, -2):
        for w, g in zip(weights, gradients, strict=True):
            w.data += sign * step * g
        values.append(penalty(logit, x).detach())
    assert ((values[0] - values[1]) / (2 * step)).item() == pytest.approx(slope.item(), rel=1e-3)
