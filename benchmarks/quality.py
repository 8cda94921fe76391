"""Quality at equal process CPU time: one training per row, its figures stored as JSON, tables made from those alone.

``python -m benchmarks.quality mnist`` trains and evaluates what has no JSON in ``benchmarks/results/`` yet, row by row
(a row that was interrupted resumes), and then writes the tables of docs/results.md. ``--only logd`` takes the rows with
that in their name; ``--tables`` writes the tables and trains nothing.

Rows are trained by the command that stands in their JSON, on one thread. Nothing is chosen by the test split.
"""

import json
import math
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"


@dataclass(frozen=True)
class Row:
    """One training.

    Args:
        name: Of the row in the table.
        words: Of the command, after ``wasserflow train``.
        cpu_minutes: Its budget.
        seeds: One training each.
    """

    name: str
    words: str
    cpu_minutes: float
    seeds: tuple[int, ...] = (0,)


def image_rows(data: str, minutes: float, headline: tuple[int, ...] = (0,)) -> tuple[Row, ...]:
    """The default recipe for every divergence and map, beside MonoFlow's published recipe."""
    vgrow = {name: f"vgrow --data {data} --divergence {name}" for name in ("kl", "js", "logd", "jeffreys")}
    monoflow = {name: f"monoflow --data {data} --h {name}" for name in ("logit", "ns", "arcsinh")}
    return (
        Row("MonoFlow ns, published recipe", f"monoflow --data {data} --h ns --recipe paper", minutes, headline),
        *(Row(f"VGrow {name}", words, minutes, headline if name == "logd" else (0,)) for name, words in vgrow.items()),
        *(Row(f"MonoFlow {name}", words, minutes) for name, words in monoflow.items()),
    )


def potential_rows(data: str, minutes: float, objectives: tuple[str, ...]) -> tuple[Row, ...]:
    """The default recipe of VAPO under several objectives, with what tames or suits each."""
    more = {"vapo": " --weight s", "action-matching": " --weight s", "vapo-tmlr": " --no-preconditioned"}
    return tuple(
        Row(f"VAPO {name}", f"vapo --data {data} --objective {name}{more.get(name, '')}", minutes)
        for name in objectives
    )


def dmmd_rows(data: str, minutes: float, kernels: tuple[str, ...]) -> tuple[Row, ...]:
    """The default recipe of DMMD under several kernels, as published, and with KALE in place of the MMD."""
    published = "--gap 1 --no-standardised --penalty 1 --slope 1 --decay 0"  # those parts of it that decide here
    return (
        *(Row(f"DMMD {name}", f"dmmd --data {data} --kernel {name}", minutes) for name in kernels),
        Row("DMMD linear, from clean data", f"dmmd --data {data} {published}", minutes),
        Row("D-KALE", f"dmmd --data {data} --kernel linear --bound kale", minutes),
    )


THREE = ("fm", "vapo", "vapo-tmlr")

SUITES: dict[str, tuple[Row, ...]] = {
    "mnist": image_rows("mnist", 20, headline=(0, 1, 2)),
    "fashion-mnist": image_rows("fashion-mnist", 20),
    "digits": image_rows("digits", 2),
    "shift": (
        *(
            Row(f"vanilla, C = {c}", f"monoflow --data mnist --h vanilla --shift {c} --recipe paper", 5)
            for c in (0, 1, 3, 5, 10)
        ),
        Row("non-saturating", "monoflow --data mnist --h ns --recipe paper", 5),
    ),
    "ring": tuple(
        Row(f"VGrow {name}", f"vgrow --data wide-ring --divergence {name} --recipe paper", 3)
        for name in ("kl", "js", "logd", "jeffreys")
    ),
    "potential-mnist": potential_rows("mnist", 40, THREE),
    "potential-fashion-mnist": potential_rows("fashion-mnist", 40, THREE),
    "potential-digits": potential_rows("digits", 4, (*THREE, "action-matching")),
    "potential-ring": potential_rows("ring", 2, (*THREE, "action-matching")),
    "potential-checkerboard": potential_rows("checkerboard", 2, (*THREE, "action-matching")),
    "dmmd-mnist": dmmd_rows("mnist", 40, ("linear", "energy")),
    "dmmd-fashion-mnist": dmmd_rows("fashion-mnist", 40, ("linear",)),
    "dmmd-digits": dmmd_rows("digits", 4, ("linear", "energy", "rq")),
    "dmmd-ring": dmmd_rows("ring", 2, ("linear", "energy", "rq", "rbf")),
    "dmmd-checkerboard": dmmd_rows("checkerboard", 2, ("linear", "energy", "rq", "rbf")),
    "particles": (
        Row("residual kl, ring", "residual --data ring", 2),
        Row("residual kl, checkerboard", "residual --data checkerboard", 2),
        Row("residual kl, digits", "residual --data digits", 5),
        Row("residual kl, mnist", "residual --data mnist", 20),
    ),
}


BESIDE = {
    data: {"VGrow logd": data, "MonoFlow ns": data, "VAPO fm": f"potential-{data}", "DMMD linear": f"dmmd-{data}"}
    for data in ("mnist", "fashion-mnist", "digits")
}
"""A row of each method, for a table of their own, and the suite that trains it."""


@dataclass(frozen=True)
class Flags:
    """Measure quality at equal CPU time, and write docs/results.md.

    Args:
        suites: What to measure.
        only: Take the rows with this in their name.
        runs: Folder for the runs themselves.
        precision: Of the networks; bf16 pays where the hardware computes it fast.
        tables: Write the tables from the stored JSON and train nothing.
    """

    suites: tyro.conf.Positional[tuple[Literal[*SUITES], ...]]  # pyright: ignore[reportInvalidTypeForm]
    only: str = ""
    runs: Path = ROOT / "runs" / "quality"
    precision: Annotated[Literal["fp32", "bf16"], tyro.conf.arg()] = "fp32"
    tables: bool = False


def main() -> None:
    """Measure what is missing, row by row, then write the tables."""
    os.environ["OMP_NUM_THREADS"] = "1"
    flags = tyro.cli(Flags, config=(tyro.conf.FlagCreatePairsOff,))
    if not flags.tables:
        for suite in flags.suites:
            for row in SUITES[suite]:
                for seed in row.seeds if flags.only in row.name else ():
                    measure(suite, row, seed, flags)
    write_tables()


def measure(suite: str, row: Row, seed: int, flags: Flags) -> None:
    """Train and evaluate a row, unless its JSON is there, and store its figures and receipt."""
    slug = f"{row.name.replace(', ', ' ').replace(' = ', '').replace(' ', '-').lower()}-{seed}"
    path = RESULTS / suite / f"{slug}.json"
    if path.exists():
        return
    out = flags.runs / suite / slug
    words = [*row.words.split(), "--seed", str(seed), "--cpu-minutes", f"{row.cpu_minutes:g}"]
    words += ["--precision", flags.precision]
    unfinished = any((out / "checkpoint").glob("*.safetensors"))
    command = ["resume", str(out)] if unfinished else ["train", *words, "--out", str(out)]
    print(f"{suite}: {row.name}, seed {seed}: wasserflow {shlex.join(command)}", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".commits").open("a") as file:  # a row may be begun at one and resumed at another
        file.write(commit_id() + "\n")
    done = subprocess.run([sys.executable, "-m", "wasserflow", *command], stdout=subprocess.DEVNULL, check=False)
    if not out.exists():  # it could not even begin, and has said why
        raise SystemExit(done.returncode)

    import wasserflow as wf
    from wasserflow.run.store import Run

    run = Run.open(out)
    trained = run.progress().cpu_seconds / 60
    if trained < row.cpu_minutes:  # else it is done, now or before; resume refuses what is
        raise SystemExit(
            f"{out} is trained for {trained:.1f} of {row.cpu_minutes:g} minutes (exit code {done.returncode})"
        )
    images = run.form.is_image
    report = wf.evaluate(out, features="classifier" if images else "pixels", device="cpu").to_json()
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    result = {
        "suite": suite,
        "name": row.name,
        "seed": seed,
        "command": f"OMP_NUM_THREADS=1 wasserflow train {shlex.join(words)} --out RUN",
        "evaluate": "wasserflow evaluate RUN" + (" --features classifier" if images else ""),
        "commit": ", ".join(dict.fromkeys(out.with_suffix(".commits").read_text().split())),
        "hardware": hardware() | run.record["machine"],
        "images": last["images"],
        "cpu_seconds": last["cpu_seconds"],
        "ratio_loss": _tail(out / "log.jsonl", "ratio_loss"),
        "figures": {figure["name"]: figure for figure in report["rows"]},
        "class_shares": report["class_shares"],
        "protocol": report["protocol"],
        "count": report["count"],
        "settings": run.record["config"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def _tail(log: Path, name: str) -> float | None:
    """The mean of a logged value over the last tenth of a run."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    values = [line[name] for line in lines[-max(1, len(lines) // 10) :] if name in line]
    return statistics.fmean(values) if values else None


def commit_id() -> str:
    """The commit that is measured, marked where the sources differ from it."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)

    commit = git("rev-parse", "--short", "HEAD").stdout.strip()
    return (
        commit + ("-dirty" if git("diff", "--quiet", "HEAD", "--", "src").returncode else "") if commit else "unknown"
    )


def hardware() -> dict[str, Any]:
    """The processor and those of its instructions that decide the speed of networks."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return {"cpu": model[0] if model else "unknown", "cores": os.cpu_count(), "instructions": known}


# Tables


def write_tables() -> None:
    """Replace, in docs/results.md, what stands between the marks of each table that has results."""
    tables = {suite: [(row, suite) for row in rows] for suite, rows in SUITES.items()}
    for data, names in BESIDE.items():
        rows = [(row, suite) for name, suite in names.items() for row in SUITES[suite] if row.name == name]
        tables[f"methods-{data}"] = rows
    page = PAGE.read_text()
    for mark, rows in tables.items():
        begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
        results = [result for row, suite in rows for result in stored(row, suite)]
        if not results:
            continue
        if begin not in page or end not in page:
            raise SystemExit(f"{PAGE} has no marks for {mark}: put {begin.strip()} and {end} where its table belongs")
        before, rest = page.split(begin, 1)
        page = before + begin + table([row for row, _ in rows], results) + end + rest.split(end, 1)[1]
    PAGE.write_text(page)


def stored(row: Row, suite: str) -> list[dict[str, Any]]:
    """The results of a row, one for each seed that has been measured."""
    results = [json.loads(path.read_text()) for path in sorted((RESULTS / suite).glob("*.json"))]
    return [result for result in results if result["name"] == row.name]


IMAGES = ("frechet", "precision", "recall", "coverage", "memorised")
POINTS = ("energy", "log_chamfer", "precision", "recall", "modes", "high_quality")


def table(rows: Iterable[Row], results: list[dict[str, Any]]) -> str:
    """A table in Markdown, one line per row that has results, and its receipt."""
    names = IMAGES if "frechet" in results[0]["figures"] else ("frechet", *POINTS)
    shown = [name for name in names if _has(results, name)]
    shares = results[0]["class_shares"] is not None
    heads = ["", "CPU minutes", "images seen", *(name.replace("_", " ") for name in shown)]
    judged = any(result["ratio_loss"] is not None for result in results)
    heads += ["smallest, largest class"] * shares + ["ratio loss"] * judged + ["seeds"]
    lines = [markdown_row(heads), markdown_row(["---"] * len(heads))]
    for row in rows:
        found = [result for result in results if result["name"] == row.name]
        if not found:
            continue
        cells = [row.name, f"{row.cpu_minutes:g}", f"{statistics.fmean(r['images'] for r in found):,.0f}"]
        for name in shown:
            figures = [r["figures"][name] for r in found if name in r["figures"]]
            floor = f" ({_number([figures[0]['floor']])})" if figures else ""
            cells.append(_number([figure["value"] for figure in figures]) + floor)
        if shares:
            low = min(share["samples"] for r in found for share in r["class_shares"].values())
            high = max(share["samples"] for r in found for share in r["class_shares"].values())
            cells.append(f"{low:.1%}, {high:.1%}")
        losses = [r["ratio_loss"] for r in found if r["ratio_loss"] is not None]
        cells += [_number(losses) if losses else ""] * judged + [", ".join(str(r["seed"]) for r in found)]
        lines.append(markdown_row(cells))
    receipts = "".join(f"\n{name}: {commands}\n" for name, commands in _receipts(results))
    return "\n".join(lines) + "\n" + receipts


def _has(results: Iterable[dict[str, Any]], name: str) -> bool:
    return any(name in result["figures"] for result in results)


def markdown_row(cells: Iterable[str]) -> str:
    """A line of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def _number(values: list[float]) -> str:
    """The mean, to three digits, and the standard deviation over seeds."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    digits = max(0, 2 - math.floor(math.log10(abs(mean)))) if mean else 0
    spread = f" ± {statistics.stdev(values):.{min(digits, 4)}f}" if len(values) > 1 else ""
    return f"{mean:.{min(digits, 4)}f}{spread}"


def _receipts(results: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    """Machines and commits, and how a row is repeated."""
    machines = {
        f"{r['hardware']['cores']} cores of {r['hardware']['cpu']} ({', '.join(r['hardware']['instructions'])}), "
        f"one thread, torch {r['hardware']['torch']}"
        for r in results
    }
    yield "Machine", "; ".join(sorted(machines))
    yield "Commits", ", ".join(sorted({r["commit"] for r in results}))
    yield (
        "Repeat, at a row's commit",
        f"`{results[0]['command']}`, `{results[0]['evaluate']}` and so on: each JSON has its own",
    )


if __name__ == "__main__":
    main()
