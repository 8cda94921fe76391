"""``wasserflow info``."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version

import tyro

from wasserflow._core.errors import install
from wasserflow.data import available, data_folder

__all__ = ["run"]


@dataclass(frozen=True)
class InfoFlags:
    """Versions, devices, data sets and extras on this machine."""


def run(argv: Sequence[str]) -> None:
    """Print versions, devices, data sets and extras."""
    tyro.cli(InfoFlags, args=argv, prog="wasserflow info")
    import torch

    print(f"wasserflow {version('wasserflow')}, Python {platform.python_version()}, torch {torch.__version__}")
    print(f"devices    cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads, {_bf16()})")
    for i in range(torch.cuda.device_count()):
        print(f"           cuda:{i} ({torch.cuda.get_device_name(i)})")
    if torch.backends.mps.is_available():
        print("           mps")
    print(f"data       {data_folder()} (WASSERFLOW_DATA)")
    for name, where in available().items():
        print(f"           {name:15}{where}")
    for name, there in _extras().items():
        print(f"extra      {name:15}{'installed' if there else f'absent: {install(name)}'}")


def _bf16() -> str:
    import torch

    flags = torch.backends.cpu.get_cpu_capability()
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public word for it
    native = any(getattr(torch.cpu, name, bool)() for name in names)
    return f"{flags}, bf16 {'fast' if native else 'slow'}"


def _extras() -> dict[str, bool]:
    """Each optional group of packages, and whether all of it is installed."""
    from packaging.requirements import Requirement

    about = metadata("wasserflow")
    needs: dict[str, list[str]] = {extra: [] for extra in about.get_all("Provides-Extra") or []}
    for line in about.get_all("Requires-Dist") or []:
        requirement = Requirement(line)
        for extra in needs:
            if requirement.marker and requirement.marker.evaluate({"extra": extra}):
                needs[extra].append(requirement.name)
    return {extra: all(map(_installed, names)) for extra, names in needs.items()}


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
