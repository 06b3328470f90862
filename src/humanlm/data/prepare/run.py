"""From a raw folder to a dataset: stages of pieces, each a file that appears whole, so that any stop can be gone on from."""

import contextlib
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from humanlm.data.prepare import assemble as last
from humanlm.data.prepare.audit import Audit, Audited, audit_files
from humanlm.data.prepare.card import write_card
from humanlm.data.prepare.config import PrepareConfig, Work, input_key, load_key, private_folder
from humanlm.data.prepare.history import Past, gather_history, pasts, write_personas
from humanlm.data.prepare.persona import VERSION, extract
from humanlm.data.prepare.plan import make_plan, save_plan
from humanlm.data.prepare.pool import Pool
from humanlm.data.prepare.scatter import Layout, plan_layout, scatter
from humanlm.data.prepare.threads import index
from humanlm.data.prepare.write import write_bucket
from humanlm.data.prepare.writer import Cost, Failed, PersonaWriter
from humanlm.errors import DataError, RunError, UsageError
from humanlm.files import appearing_whole, claim_folder, write_whole
from humanlm.ledger import Ledger
from humanlm.llm import LLM, Spending, SpendLimits, resolve

logger = logging.getLogger("humanlm.prepare")

Listener = Callable[[str, int, int], None]
"""Told the stage, how many of its pieces are done, and how many there are."""

SUMMARY = "prepare.json"
_WORK = ".work"


class Prepared(BaseModel):
    """What a preparation came to; ``prepare.json``.

    Attributes:
        source: Where the records came from.
        split: How they were split.
        settings: All settings.
        fingerprint: A digest of settings and input.
        records: Raw records.
        responses: Those that are somebody's answer.
        lost: Responses without a usable context, by cause.
        dropped: Responses that a rule left out, by rule.
        leaked: Held-out examples that the audit had dropped, by split.
        faults: Lines of ``faults.jsonl``.
        personas: How many were made.
        failed_personas: How many users are without, because theirs failed.
        figures: Each split and all in the form of the paper's Table 2.
        audit: What the audit says of the dataset as it lies there.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    split: str
    settings: dict[str, Any]
    fingerprint: str
    records: int
    responses: int
    lost: dict[str, int]
    dropped: dict[str, int]
    leaked: dict[str, int]
    faults: int
    personas: int
    failed_personas: int
    figures: dict[str, last.Figures]
    audit: Audit


def prepare(
    raw: str | Path,
    out: str | Path,
    config: PrepareConfig | None = None,
    *,
    key: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    limits: SpendLimits | None = None,
    listener: Listener | None = None,
) -> Prepared:
    """Makes a dataset of a raw folder: examples, filters, splits, personas, audit, card.

    Args:
        raw: What ``humanlm collect`` wrote.
        out: The dataset's folder.
        config: The settings.
        key: The file with the key of pseudonyms; by default ``OUT.private/key``, made if absent.
        resume: Go on with a preparation that was stopped; it ends with the same bytes.
        overwrite: Start anew where an earlier preparation lies.
        workers: Processes.
        limits: What a persona model may cost.
        listener: Told how far it is.

    Raises:
        UsageError: The folders are not as they should be, or other settings were used before.
        DataError: Nothing is left to make a dataset of, or the audit found leaks that are not allowed.
        RunError: Personas failed; what succeeded is kept for ``resume``.
    """
    config, raw, out = config or PrepareConfig(), Path(raw), Path(out)
    mark = input_key(raw, config.model_copy(update={"allow": ()}))
    done = _claim(out, mark, resume=resume, overwrite=overwrite)
    if done is not None:
        return done
    work = Work(out / _WORK)
    secret = bytes(32) if config.keep_names else load_key(Path(key) if key else private_folder(out) / "key")
    with Pool(workers) as pool:
        steps = _Steps(raw, config, secret, work, pool, listener or (lambda *_: None))
        layout = steps.layout
        facts = steps.read()
        facts |= steps.choose()
        personas, failed = steps.personas(Ledger(work.folder / "ledger.sqlite"), limits)
        reports = steps.write()
        audited, gate = steps.audit()
    buckets, pieces = layout.buckets, len(layout.pieces)
    leaked = {split: sorted(names) for split, names in audited.leaked.items()}
    write_whole(out / "audit.json", gate.model_dump_json(indent=1) + "\n")
    if not gate.passed:
        bad = "; ".join(f"{item.check}: {item.count:,} {item.what}" for item in gate.findings if item.level == "error")
        names = " ".join(f"--allow {item.check}" for item in gate.findings if item.level == "error")
        raise DataError(
            f"{out}: the audit found leaks ({bad}; ids in {out / 'audit.json'}): change the settings, "
            f"or go on with --resume {names}"
        )
    sums = last.assemble(work, out, reports, leaked)
    if config.uses_history:
        last.write_provenance(work, buckets, out)
    if not config.keep_names:
        last.write_mapping(work, pieces, private_folder(out))
    summary = Prepared(
        source=layout.source,
        split=facts["kind"],
        settings=config.model_dump(mode="json"),
        fingerprint=mark,
        records=facts["records"],
        responses=facts["responses"],
        lost=facts["lost"],
        dropped=facts["dropped"] | {"context shows a held-out response": sum(report["visible"] for report in reports)},
        leaked={split: len(names) for split, names in leaked.items()},
        faults=last.write_faults(work, pieces, buckets, out),
        personas=personas,
        failed_personas=failed,
        figures=last.figures(audited.columns, leaked, sums),
        audit=gate,
    )
    write_card(out / "README.md", summary, raw)
    write_whole(out / SUMMARY, summary.model_dump_json(indent=1) + "\n")
    shutil.rmtree(work.folder)
    return summary


def _claim(out: Path, mark: str, *, resume: bool, overwrite: bool) -> Prepared | None:
    """Takes the folder; the summary of a preparation that is already finished."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    work, summary = out / _WORK, out / SUMMARY
    ours = summary.exists() or work.is_dir()
    claim_folder(out, overwrite=overwrite and ours, resume=resume)
    if overwrite and ours:
        _clear(out)
    if summary.exists():
        try:
            done = Prepared.model_validate_json(summary.read_bytes())
        except ValidationError as error:
            raise UsageError(f"{summary}: not what `humanlm prepare` writes: choose another --out") from error
        if done.fingerprint != mark:
            raise UsageError(
                f"{out}: prepared from other records or with other settings: add --overwrite, or another --out"
            )
        shutil.rmtree(work, ignore_errors=True)
        return done
    state = work / "state.json"
    if state.exists() and json.loads(state.read_text())["fingerprint"] != mark:
        raise UsageError(
            f"{out}: begun from other records or with other settings: give the same ones, or --overwrite to start anew"
        )
    work.mkdir(parents=True, exist_ok=True)
    write_whole(state, json.dumps({"fingerprint": mark}))
    return None


def _clear(out: Path) -> None:
    """Removes what an earlier preparation wrote, and nothing else. The key stays: pseudonyms must not change."""
    shutil.rmtree(out / _WORK, ignore_errors=True)
    names = (
        "train*.parquet",
        "val.parquet",
        "test.parquet",
        "personas.parquet",
        "README.md",
        "audit.json",
        "faults.jsonl",
    )
    for pattern in (*names, SUMMARY):
        for file in out.glob(pattern):
            file.unlink()


class _Steps:
    """The stages in their order; each does only what an earlier run has not done."""

    def __init__(
        self, raw: Path, config: PrepareConfig, key: bytes, work: Work, pool: Pool, listener: Listener
    ) -> None:
        self.config, self.key, self.work, self.pool, self.listener = config, key, work, pool, listener
        self.layout: Layout = plan_layout(raw)

    def _each(self, stage: str, function: Callable[..., Any], jobs: Sequence[tuple[Any, Path]]) -> None:
        """Runs a function on the jobs whose file is not there yet; the file holds what it returned."""
        left = [(job, file) for job, file in jobs if not file.exists()]
        done = len(jobs) - len(left)
        self.listener(stage, done, len(jobs))
        for (_, file), result in zip(left, self.pool.map(function, [job for job, _ in left]), strict=True):
            write_whole(file, json.dumps(result))
            done += 1
            self.listener(stage, done, len(jobs))

    def _load(self, stage: str, count: int) -> list[Any]:
        return [json.loads(self.work.file(stage, number, "json").read_text()) for number in range(count)]

    def read(self) -> dict[str, Any]:
        """Straightens, scrubs and lays out the records; finds chains and names."""
        work, layout, config = self.work, self.layout, self.config
        pieces, buckets = len(layout.pieces), layout.buckets
        step = partial(scatter, buckets=buckets, config=config, key=self.key, work=work)
        self._each("reading", step, [(piece, work.file("read", piece.number, "json")) for piece in layout.pieces])
        chains = partial(index, pieces=pieces, keep_names=config.keep_names, work=work)
        self._each("threads", chains, [(bucket, work.file("counts", bucket, "json")) for bucket in range(buckets)])
        counts: Counter[str] = Counter()
        for report in self._load("counts", buckets):
            counts.update(report)
        records, responses = counts.pop("records", 0), counts.pop("responses", 0)
        return {
            "records": records,
            "responses": responses,
            "lost": {name: count for name, count in counts.items() if count},
        }

    def choose(self) -> dict[str, Any]:
        """Filters and splits."""
        file = self.work.file("plan", 0, "json")
        if not file.exists():
            plan = make_plan(self.layout.buckets, self.config, self.layout.source, self.work)
            save_plan(plan, self.layout.buckets, self.work)
            write_whole(file, json.dumps({"kind": plan.kind, "dropped": plan.dropped}))
        facts: dict[str, Any] = json.loads(file.read_text())
        return facts

    def gather(self) -> None:
        """Brings histories to their users."""
        buckets, work = self.layout.buckets, self.work
        step = partial(gather_history, pieces=len(self.layout.pieces), buckets=buckets, work=work)
        self._each("histories", step, [(bucket, work.file("gathered", bucket, "json")) for bucket in range(buckets)])

    def personas(self, ledger: Ledger, limits: SpendLimits | None) -> tuple[int, int]:
        """Makes the personas; how many, and how many failed."""
        if not self.config.uses_history:
            return 0, 0
        self.gather()
        buckets, work = self.layout.buckets, self.work
        jobs = [(bucket, work.file("personas", bucket, "json")) for bucket in range(buckets)]
        if self.config.persona == "extractive":
            self._each("personas", partial(extract_bucket, buckets=buckets, work=work), jobs)
            return sum(self._load("personas", buckets)), 0
        writer = open_writer(self.config, ledger, limits)
        failed: list[Failed] = []
        made = 0
        for bucket, file in jobs:
            self.listener("personas", bucket, buckets)
            if not file.exists():
                wanted = list(pasts(bucket, buckets, work))
                answers = writer.write(wanted)
                failed += [answer for answer in answers if isinstance(answer, Failed)]
                good = [(past, answer) for past, answer in zip(wanted, answers, strict=True) if isinstance(answer, str)]
                made += len(good)
                write_personas(bucket, good, writer.made_by, work)
                if len(good) == len(wanted):
                    write_whole(file, json.dumps(len(good)))
            else:
                made += json.loads(file.read_text())
        ledger.close()
        self.listener("personas", buckets, buckets)
        if failed and "missing-persona" not in self.config.allow:
            causes = ", ".join(
                f"{cause}: {count}" for cause, count in Counter(item.cause for item in failed).most_common()
            )
            raise RunError(
                f"{len(failed):,} of {made + len(failed):,} personas failed ({causes}; e.g. {failed[0].detail}): "
                "the others are kept; "
                "--resume asks for these again, --allow missing-persona goes on without them"
            )
        return made, len(failed)

    def write(self) -> list[dict[str, Any]]:
        """Writes the examples, bucket by bucket."""
        layout, work = self.layout, self.work
        step = partial(
            write_bucket,
            pieces=len(layout.pieces),
            buckets=layout.buckets,
            source=layout.source,
            config=self.config,
            work=work,
        )
        self._each(
            "examples", step, [(number, work.file("written", number, "json")) for number in range(layout.buckets)]
        )
        return self._load("written", layout.buckets)

    def audit(self) -> tuple[Audited, Audit]:
        """Audits what was written: as it lies there, and as it will be without the held-out examples that leaked."""
        import pickle

        file, work, config = self.work.file("audited", 0, "pickle"), self.work, self.config
        self.listener("audit", 0, 1)
        if not file.exists():
            files = {
                split: [path for path in paths if path.exists()]
                for split, paths in last.split_files(work, self.layout.buckets).items()
            }
            found = self._audit(files)
            with appearing_whole(file) as part:
                part.write_bytes(pickle.dumps(found))  # our own work file, never one from elsewhere
        found = pickle.loads(file.read_bytes())
        self.listener("audit", 1, 1)
        return found, _after_dropping(found, config.allow)

    def _audit(self, files: dict[str, list[Path]]) -> Audited:
        provenance = None
        if self.config.uses_history:
            last.write_provenance(self.work, self.layout.buckets, self.work.folder)
            provenance = self.work.folder / "personas.parquet"
        return audit_files(
            files,
            self.choose()["kind"],
            near=self.config.near,
            threshold=self.config.near_threshold,
            mapper=self.pool.map,
            provenance=provenance,
        )


def _after_dropping(found: Audited, allow: Sequence[str]) -> Audit:
    """The report on the dataset without the examples that the gate drops."""
    from humanlm.data.prepare.audit import DROPPABLE, HELD

    findings = []
    for item in found.report.findings:
        if item.check in DROPPABLE:
            splits = {split: count for split, count in item.splits.items() if split not in HELD}
            count = sum(splits.values())
            item = item.model_copy(
                update={
                    "splits": splits,
                    "count": count,
                    "level": "warning" if count else "ok",
                    "examples": item.examples if splits == item.splits else (),
                }
            )
        elif item.level == "error" and item.check in allow:
            item = item.model_copy(update={"level": "warning"})
        findings.append(item)
    rows = {split: count - len(found.leaked.get(split, ())) for split, count in found.report.rows.items()}
    return found.report.model_copy(update={"findings": tuple(findings), "rows": rows})


def extract_bucket(bucket: int, buckets: int, work: Work) -> int:
    """Makes the extractive personas of a bucket of users."""
    made = [(past, extract(past)) for past in pasts(bucket, buckets, work)]
    write_personas(bucket, made, VERSION, work)
    return len(made)


def open_writer(config: PrepareConfig, ledger: Ledger | None, limits: SpendLimits | None) -> PersonaWriter:
    """The model that writes personas.

    Raises:
        UsageError: There is no such model, or its key is not set.
    """
    endpoint = resolve(config.persona_model or "", url=config.persona_url, kind="persona model")
    return PersonaWriter(LLM(endpoint, ledger=ledger, spending=Spending(limits, ledger)))


def persona_cost(raw: str | Path, config: PrepareConfig, *, workers: int = 1) -> Cost:
    """What the personas of a preparation would cost; works on a copy that is thrown away, and sends nothing.

    Raises:
        UsageError: There is no such model, or its key is not set.
    """
    writer = open_writer(config, None, None)
    with tempfile.TemporaryDirectory(prefix="humanlm-prepare-") as folder, Pool(workers) as pool:
        steps = _Steps(Path(raw), config, bytes(32), Work(Path(folder)), pool, lambda *_: None)
        steps.read()
        steps.choose()
        steps.gather()
        cost = Cost(cost_usd=0.0 if writer.llm.endpoint.price else None)
        for past in _all_pasts(steps):
            cost = writer.cost(past, cost)
    return cost


def _all_pasts(steps: _Steps) -> Iterator[Past]:
    with contextlib.suppress(StopIteration):
        for bucket in range(steps.layout.buckets):
            yield from pasts(bucket, steps.layout.buckets, steps.work)
