"""The short way: data in, a trained model out that draws samples in the data's own form."""

from pathlib import Path
from typing import Any

from wasserflow._core.device import Precision
from wasserflow.data import DataLike, Dataset, Form
from wasserflow.data import load as load_data
from wasserflow.method import Method, method_named
from wasserflow.run.launch import train
from wasserflow.training.budget import Budget

__all__ = ["Fitted", "fit"]


class Fitted:
    """A trained model, and the form of the data that it was trained on.

    Args:
        model: The trained model, which works in model space.
        form: How the data looked.
    """

    def __init__(self, model: Method, form: Form) -> None:
        self.model = model
        self.form = form

    def sample(self, n: int, *, seed: int = 0, **settings: Any) -> Any:
        """``n`` samples as the data were: arrays of the same layout, type and units, tensors, or a DataFrame.

        Args:
            n: Number of samples.
            seed: Random seed; sample i depends on the seed and on i alone.
            settings: Settings of the method's sampling that differ from its defaults.

        Raises:
            UserError: If a setting is unknown or out of range.
        """
        return self.form.to_user(self.model.sample(n, seed=seed, **settings))

    def __repr__(self) -> str:
        return f"Fitted({type(self.model).__name__}, samples of shape {self.form.shape})"


def fit(
    data: "DataLike | Dataset",
    method: str | type[Method],
    *,
    minutes: float | None = None,
    cpu_minutes: float | None = None,
    images: int | None = None,
    recipe: str = "default",
    seed: int = 0,
    out: str | Path | None = None,
    device: str | None = None,
    precision: Precision = "fp32",
    **settings: Any,
) -> Fitted:
    """Train a method on data, in one call; without a run folder unless ``out`` names one.

    Args:
        data: A `Dataset`, or anything that `wasserflow.data.load` takes: an array, a tensor, a DataFrame, a name or a
            path.
        method: The name of a method, or its class, also of a custom one.
        minutes: Wall time of training.
        cpu_minutes: Process CPU time of training.
        images: Samples to see, each counted as often as it is drawn.
        recipe: Name of the settings to start from.
        seed: Random seed of the initial weights, the data's order and every step.
        out: Folder of a run that keeps everything, as in `train`; by default nothing is kept.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; by default the best one here.
        precision: Numerical precision of the networks: ``fp32``, or ``bf16``.
        settings: Settings of the method that differ from the recipe.

    Returns:
        The trained model, whose ``sample(n)`` gives samples in the data's own form.

    Raises:
        UserError: If an input cannot be used, no budget is given, or the training diverges.
        Interrupted: On Ctrl-C or SIGTERM.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(1000, 2))
        >>> fitted = wf.fit(points, "vgrow", minutes=0.5, divergence="kl")
        >>> fitted.sample(500).shape
        (500, 2)
    """
    kind = method_named(method) if isinstance(method, str) else method
    budget = Budget(images, minutes, cpu_minutes)
    loaded = data if isinstance(data, Dataset) else load_data(data)
    model = kind.for_shape(loaded.form.shape, recipe=recipe, seed=seed, **settings)
    train(model, loaded, budget=budget, out=out, seed=seed, device=device, precision=precision)
    return Fitted(model, loaded.form)
