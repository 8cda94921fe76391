"""The floors of the house hold: imports point down, methods are not known by name, flags exist in the command line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from wasserflow.method import METHODS

SOURCE = Path(__file__).parents[1] / "src" / "wasserflow"
MODULES = sorted(SOURCE.rglob("*.py"))

FLOORS = (
    {"_core"},
    {"divergence", "kernel", "path", "data", "plot"},
    {"ratio", "discrepancy", "potential"},
    {"nn", "metric"},
    {"field"},
    {"flows", "solver"},
    {"method"},
    {"training"},
    {"run"},
    {"cli"},
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
MATHEMATICS = {"divergence", "kernel", "path", "ratio", "discrepancy", "potential"}
LEARNING = MATHEMATICS | {"nn", "field", "flows", "solver", "method"}
HEAVY = {"accelerate", "jinja2", "matplotlib", "PIL", "pyarrow", "rich", "sklearn", "tyro"}

modules = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))


def room(module: Path) -> str:
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(module: Path) -> Iterator[str]:
    """Full names of the modules that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module if node.module != "wasserflow" else f"wasserflow.{node.names[0].name}"


def texts(module: Path) -> Iterator[tuple[str, bool]]:
    """Every string in a module, and whether it is a docstring."""
    tree = ast.parse(module.read_text())
    standing = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, id(node) in standing


def test_every_module_has_a_floor():
    assert {room(module) for module in MODULES} == HEIGHT.keys() | {"__init__", "__main__"}


@modules
def test_imports_point_down(module):
    here = room(module)
    if here in ("__init__", "__main__"):
        return
    for name in imports(module):
        if name.startswith("wasserflow."):
            there = name.split(".")[1]
            assert there == here or HEIGHT[there] < HEIGHT[here], f"{here} imports {name}"
            assert not (here in LEARNING and there in ("data", "metric", "plot")), f"{here} imports {name}"
            assert not (here in ("data", "plot") and there != here and there != "_core"), f"{here} imports {name}"
            assert not (here in MATHEMATICS and name == "wasserflow._core.files"), f"{here} reads files"


@modules
def test_what_is_heavy_is_not_asked_of_mathematics(module):
    if room(module) in LEARNING:
        tree = ast.parse(module.read_text())
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {name.name for node in top if isinstance(node, ast.Import) for name in node.names}
        names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & HEAVY


@modules
def test_no_capability_is_sniffed(module):
    called = {node.id for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Name)}
    assert "hasattr" not in called


@modules
def test_no_method_is_known_by_name_outside_its_room(module):
    if room(module) in ("method", "__init__") or module.name == "objective.py":  # an objective has its paper's name
        return
    classes = {method.__name__ for method in METHODS.values()}
    used = {node.id for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Name)}
    assert not used & classes
    names = re.compile(rf"\b({'|'.join(METHODS)})\b")
    assert not [text for text, doc in texts(module) if not doc and names.fullmatch(text)]


@modules
def test_flags_exist_in_the_command_line_alone(module):
    if room(module) not in ("cli", "__init__", "__main__"):
        found = [flag for text, _ in texts(module) for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)]
        assert not found


def test_files_of_one_name_mean_one_thing():
    """Some names are roles that every room may have; any other stands once among the rooms below run and cli."""
    roles = {"__init__", "base", "by_name", "model", "sampler", "settings"}
    names = [module.stem for module in MODULES if room(module) not in ("run", "cli")]
    assert not {name for name in names if names.count(name) > 1} - roles
