"""The same training steps as plain scripts write them: what `benchmarks.speed` compares with.

Same networks (weights go over by name), same losses, same numbers; nothing in it is slowed down on purpose. It does
what the authors' code does and what most scripts of the field do:

- convolutions at full size, then the pool; the enlargement, then convolutions at full size; NCHW memory
- ``backward()`` for a gradient that is wanted in the particles, or in the generator, fills those of the logit too
- spectral norm iterates at every pass, the particle steps' included
- the pool of particles is drawn with its graph
- a loader over single images, made anew for each step of the classifier
- an optimiser, and an average of weights, that go from tensor to tensor; a loss read by ``.item()`` at every step
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu, softplus
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Samples

from wasserflow.method import MonoFlow, VGrow

__all__ = ["Images", "PlainMonoFlow", "PlainVGrow", "resnet", "velocity"]


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return spectral_norm(conv, n_power_iterations=5)


class _Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.skip = _conv(width, width, 3), _conv(width, width, 3), _conv(width, width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = interpolate(relu(x), scale_factor=2)
        return self.conv2(relu(self.norm(self.conv1(x)))) + self.skip(x)


class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, first: bool = False, down: bool = True) -> None:
        super().__init__()
        self.first, self.down = first, down
        self.conv1, self.conv2 = _conv(inputs, outputs, 3), _conv(outputs, outputs, 3)
        self.skip = _conv(inputs, outputs, 1) if down else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else relu(x)
        main, skip = self.conv2(relu(self.conv1(x))), self.skip(x)
        return avg_pool2d(main, 2) + avg_pool2d(skip, 2) if self.down else main + skip


class _Layer(nn.Module):
    """A layer under the name that the weights come with."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class _SumOverSpace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return relu(x).sum((2, 3))


def resnet(channels: int, latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The paper's generator and logit for 32x32, written literally."""
    generator = nn.Sequential(
        spectral_norm(nn.Linear(latent, width * 16), n_power_iterations=5),
        nn.Unflatten(1, (width, 4, 4)),
        *(_Up(width) for _ in range(3)),
        nn.ReLU(),
        _Layer(_conv(width, channels, 3)),
        nn.Tanh(),
    )
    logit = nn.Sequential(
        _Down(channels, width, first=True),
        _Down(width, width),
        _Down(width, width, down=False),
        _Down(width, width, down=False),
        _SumOverSpace(),
        _Layer(spectral_norm(nn.Linear(width, 1), n_power_iterations=5)),
        nn.Flatten(0),
    )
    return generator, logit


def velocity(logit: nn.Module, x: Tensor, batch: int, rate: Callable[[Tensor], Tensor]) -> Tensor:
    """``s(d) grad d`` of all particles, through ``backward()``."""
    velocities = []
    for part in x.split(batch):
        part = part.clone().requires_grad_()
        d = logit(part)
        d.sum().backward()
        assert part.grad is not None
        velocities.append(rate(d.detach()).view(-1, 1, 1, 1) * part.grad)
    return torch.cat(velocities)


class Images(Samples[Tensor]):
    """Images one by one, through Pillow, scaled to [-1, 1]."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = np.array(Image.fromarray(self.images[index]))
        x = torch.from_numpy(image).view(*image.shape[:2], -1).permute(2, 0, 1).contiguous()
        return (x.float().div(255) - 0.5) / 0.5


Model = TypeVar("Model", VGrow, MonoFlow)


class _Plain(Generic[Model]):
    """Networks, optimisers and data of a script, with the settings and the weights of a model of the library.

    It knows what those measured need: the logistic loss, the R1 penalty, networks that are the paper's or have nothing
    to fold.
    """

    def __init__(self, model: Model, images: np.ndarray) -> None:
        c = model.config
        self.model = model
        if c.networks.network == "resnet":
            self.generator, self.logit = resnet(model.shape[0], c.networks.latent, c.networks.width)
        else:
            self.generator, self.logit = deepcopy(model.generator), deepcopy(model.logit)
            for network in (self.generator, self.logit):
                network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        self.generator.load_state_dict(model.generator.state_dict())
        self.logit.load_state_dict(model.logit.state_dict())
        self.average = deepcopy(self.generator.state_dict())
        self.generator_optimizer = self._optimizer(self.generator, c.optimiser.lr_generator)
        self.logit_optimizer = self._optimizer(self.logit, c.optimiser.lr_logit)
        self.images = Images(images)
        self.steps = 0

    def _optimizer(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        c = self.model.config
        if c.optimiser.optimizer == "rmsprop":
            return torch.optim.RMSprop(network.parameters(), lr)
        return torch.optim.Adam(network.parameters(), lr, c.optimiser.betas)

    def learn_ratio(self, q: Tensor) -> float:
        """One step of the logit on a batch of data and as many particles; returns its loss."""
        c = self.model.config
        p = next(iter(DataLoader(self.images, c.batch, shuffle=True)))
        total = loss = softplus(-self.logit(p)).mean() + softplus(self.logit(q)).mean()
        if c.ratio.penalty and self.steps % c.ratio.penalty_every == 0:
            p.requires_grad_()
            (slope,) = torch.autograd.grad(self.logit(p).sum(), p, create_graph=True)
            total = loss + c.ratio.penalty * c.ratio.penalty_every * 0.5 * slope.square().flatten(1).sum(1).mean()
        self.logit_optimizer.zero_grad()
        total.backward()
        self.logit_optimizer.step()
        self.steps += 1
        return loss.item()

    def fit(self, loss: Tensor) -> float:
        """One step of the generator, and of its average; returns the loss."""
        c = self.model.config
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        if c.optimiser.ema:
            decay = 0.5 ** (c.batch / c.optimiser.ema)
            with torch.no_grad():
                for name, value in self.generator.state_dict().items():
                    if value.is_floating_point():
                        self.average[name].copy_(decay * self.average[name] + (1 - decay) * value)
        return loss.item()


class PlainVGrow(_Plain[VGrow]):
    """VGrow, an outer loop per step."""

    def push(self, z: Tensor) -> Tensor:
        """The particles; their graph lives until they are all there."""
        return torch.cat([self.generator(z_b) for z_b in z.split(self.model.config.batch)]).detach()

    def step(self) -> tuple[float, float]:
        """One outer loop; returns the last losses of the logit and of the fit."""
        c = self.model.config
        ratio_loss = fit_loss = 0.0
        z = torch.randn(c.flow.pool * c.batch, c.networks.latent)
        x = self.push(z)
        for _ in range(c.flow.inner_steps):
            for _ in range(c.flow.ratio_steps):
                ratio_loss = self.learn_ratio(x[torch.randperm(len(x))[: c.batch]])
            x = x + c.flow.step_size * velocity(self.logit, x, c.batch, self.model.map.rate)
            x = x.clamp(-1, 1) if c.flow.clamp else x
        for _ in range(c.flow.fit_epochs[0]):
            for rows in torch.randperm(len(x)).split(c.batch):
                fit_loss = self.fit(0.5 * (self.generator(z[rows]) - x[rows]).square().flatten(1).sum(1).mean())
        return ratio_loss, fit_loss


class PlainMonoFlow(_Plain[MonoFlow]):
    """A GAN, one step of each network."""

    def step(self) -> tuple[float, float]:
        """Returns the losses of the logit and of the generator."""
        c = self.model.config
        x = self.generator(torch.randn(c.batch, c.networks.latent))
        ratio_loss = self.learn_ratio(x.detach())
        return ratio_loss, self.fit(-self.model.map.h(self.logit(x)).mean())
