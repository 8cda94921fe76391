"""Quality at equal process CPU time: one training per row, its metrics stored as JSON, all tables made from the JSON.

``python -m benchmarks.quality mnist`` trains and evaluates every row that has no JSON in ``benchmarks/results/`` yet
(a row that was interrupted is resumed), and then writes the tables of docs/results.md. ``--only logd`` takes the rows
with that in their name; ``--tables`` writes the tables and trains nothing.

The JSON of a row has the command that trained it, on one thread. Nothing is chosen by the test split.
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
        name: Name of the row in the table.
        words: Arguments of ``wasserflow train``.
        cpu_minutes: Budget of a training.
        seeds: Random seeds, one training each.
    """

    name: str
    words: str
    cpu_minutes: float
    seeds: tuple[int, ...] = (0,)


def image_rows(data: str, minutes: float, headline: tuple[int, ...] = (0,)) -> tuple[Row, ...]:
    """The default recipe for every divergence and map, beside MonoFlow's published recipe."""
    vgrow = {name: f"vgrow --data {data} --divergence {name}" for name in ("kl", "js", "logd", "jeffreys")}
    monoflow = {name: f"monoflow --data {data} --divergence {name}" for name in ("logit", "ns", "arcsinh")}
    return (
        Row(
            "MonoFlow ns, published recipe", f"monoflow --data {data} --divergence ns --recipe paper", minutes, headline
        ),
        *(Row(f"VGrow {name}", words, minutes, headline if name == "logd" else (0,)) for name, words in vgrow.items()),
        *(Row(f"MonoFlow {name}", words, minutes) for name, words in monoflow.items()),
    )


def potential_rows(data: str, minutes: float, objectives: tuple[str, ...]) -> tuple[Row, ...]:
    """The default recipe of VAPO under several objectives, each with the settings that it needs."""
    more = {"vapo": " --weight s", "action-matching": " --weight s", "vapo-tmlr": " --no-preconditioned"}
    return tuple(
        Row(f"VAPO {name}", f"vapo --data {data} --objective {name}{more.get(name, '')}", minutes)
        for name in objectives
    )


def dmmd_rows(data: str, minutes: float, kernels: tuple[str, ...]) -> tuple[Row, ...]:
    """The default recipe of DMMD under several kernels, compared with clean data, and with KALE in place of the MMD."""
    clean = "--gap 1 --no-standardised --penalty 1 --slope 1 --decay 0"  # keeps our weighting and feature penalty
    return (
        *(Row(f"DMMD {name}", f"dmmd --data {data} --kernel {name}", minutes) for name in kernels),
        Row("DMMD linear, from clean data", f"dmmd --data {data} {clean}", minutes),
        Row("D-KALE", f"dmmd --data {data} --kernel linear --bound kale", minutes),
    )


def literal_rows(data: str, minutes: float) -> tuple[Row, ...]:
    """DMMD's loss as published; the network, the batch and the optimiser are those of the default recipe."""
    loss = "--gap 1 --no-standardised --penalty 1 --slope 1 --feature-penalty 0.1 --weighting equal --decay 0"
    return tuple(
        Row(f"DMMD {name}, literal loss", f"dmmd --data {data} --kernel {name} {loss}", minutes)
        for name in ("linear", "rq")
    )


THREE = ("fm", "vapo", "vapo-tmlr")

SUITES: dict[str, tuple[Row, ...]] = {
    "mnist": image_rows("mnist", 20, headline=(0, 1, 2)),
    "fashion-mnist": image_rows("fashion-mnist", 20),
    "digits": image_rows("digits", 2),
    "shift": (
        *(
            Row(f"vanilla, C = {c}", f"monoflow --data mnist --divergence vanilla --shift {c} --recipe paper", 5)
            for c in (0, 1, 3, 5, 10)
        ),
        Row("non-saturating", "monoflow --data mnist --divergence ns --recipe paper", 5),
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
    "dmmd-ring": (*dmmd_rows("ring", 2, ("linear", "energy", "rq", "gaussian")), *literal_rows("ring", 1)),
    "dmmd-checkerboard": dmmd_rows("checkerboard", 2, ("linear", "energy", "rq", "gaussian")),
    "particles": (
        Row("residual kl, ring", "residual --data ring", 2),
        Row("residual kl, checkerboard", "residual --data checkerboard", 2),
        Row("residual kl, digits", "residual --data digits", 5),
        Row("residual kl, mnist", "residual --data mnist", 20),
    ),
}


BESIDE = {
    data: {
        "VGrow logd and MonoFlow ns": (data, ("VGrow logd", "MonoFlow ns")),  # one algorithm at their defaults
        "VAPO fm": (f"potential-{data}", ("VAPO fm",)),
        "DMMD linear": (f"dmmd-{data}", ("DMMD linear",)),
    }
    for data in ("mnist", "fashion-mnist", "digits")
}
"""The table of methods side by side: the suite of a line, and the rows of the suite that the line averages."""


@dataclass(frozen=True)
class Flags:
    """Measure quality at equal CPU time, and write docs/results.md.

    Args:
        suites: Suites to measure.
        only: Take the rows with this in their name.
        runs: Folder of the runs.
        precision: Numerical precision of the networks.
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
    """Train and evaluate a row, unless its JSON is there, and store its metrics and receipt."""
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
    tables = {suite: {row.name: (suite, (row.name,)) for row in rows} for suite, rows in SUITES.items()}
    tables |= {f"methods-{data}": lines for data, lines in BESIDE.items()}
    page = PAGE.read_text()
    for mark, lines in tables.items():
        begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
        found = {line: stored(suite, names) for line, (suite, names) in lines.items()}
        found = {line: results for line, results in found.items() if results}
        if not found:
            continue
        if begin not in page or end not in page:
            raise SystemExit(f"{PAGE} has no marks for {mark}: put {begin.strip()} and {end} where its table belongs")
        before, rest = page.split(begin, 1)
        page = before + begin + table(found) + end + rest.split(end, 1)[1]
    PAGE.write_text(page)


def stored(suite: str, names: Iterable[str]) -> list[dict[str, Any]]:
    """The results of rows of a suite, row by row, one for each seed that has been measured."""
    results = [json.loads(path.read_text()) for path in sorted((RESULTS / suite).glob("*.json"))]
    return [result for name in names for result in results if result["name"] == name]


IMAGES = ("frechet", "precision", "recall", "coverage", "memorised")
POINTS = ("energy", "log_chamfer", "precision", "recall", "modes", "high_quality")


def table(lines: dict[str, list[dict[str, Any]]]) -> str:
    """A table in Markdown, one line for each name and its trainings, and its receipt."""
    results = [result for found in lines.values() for result in found]
    names = IMAGES if "frechet" in results[0]["figures"] else ("frechet", *POINTS)
    shown = [name for name in names if _has(results, name)]
    shares = results[0]["class_shares"] is not None
    images = all("frechet" in result["figures"] for result in results)
    heads = ["", "CPU minutes", "images seen" if images else "samples seen"]
    heads += [name.replace("_", " ") for name in shown]
    judged = any(result["ratio_loss"] is not None for result in results)
    heads += ["smallest, largest class"] * shares + ["ratio loss"] * judged + ["seeds"]
    rows = [markdown_row(heads), markdown_row(["---"] * len(heads))]
    for line, found in lines.items():
        minutes = statistics.fmean(_minutes(r) for r in found)
        cells = [line, f"{minutes:g}", f"{statistics.fmean(r['images'] for r in found):,.0f}"]
        for name in shown:
            metrics = [r["figures"][name] for r in found if name in r["figures"]]
            reference = f" ({_number([metrics[0]['reference']])})" if metrics else ""
            cells.append(_number([metric["value"] for metric in metrics]) + reference)
        if shares:
            low = min(share["samples"] for r in found for share in r["class_shares"].values())
            high = max(share["samples"] for r in found for share in r["class_shares"].values())
            cells.append(f"{low:.1%}, {high:.1%}")
        losses = [r["ratio_loss"] for r in found if r["ratio_loss"] is not None]
        cells += [_number(losses) if losses else ""] * judged + [_seeds(found)]
        rows.append(markdown_row(cells))
    receipts = "".join(f"\n{name}: {text}\n" for name, text in _receipts(results))
    return "\n".join(rows) + "\n" + receipts


def _minutes(result: dict[str, Any]) -> float:
    """The budget that the command of a result gives."""
    words = shlex.split(result["command"])
    return float(words[words.index("--cpu-minutes") + 1])


def _seeds(results: Iterable[dict[str, Any]]) -> str:
    """The seeds of a line, those of several rows apart: ``0, 1, 2; 0``."""
    seeds: dict[str, list[str]] = {}
    for result in results:
        seeds.setdefault(result["name"], []).append(str(result["seed"]))
    return "; ".join(", ".join(row) for row in seeds.values())


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
    counts = sorted({r["count"] for r in results})
    yield "Samples", f"{' or '.join(f'{count:,}' for count in counts)} against as many of the test split"
    yield "Commits", ", ".join(sorted({r["commit"] for r in results}))
    yield (
        "Repeat, at a row's commit",
        f"`{results[0]['command']}`, `{results[0]['evaluate']}` and so on: each JSON has its own",
    )


if __name__ == "__main__":
    main()
