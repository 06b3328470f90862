"""An evaluation from generation to scores, written as it goes so that it can be interrupted at any time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from humanlm.errors import JudgeError, RunError, UsageError
from humanlm.evaluation.records import GENERATIONS, Record, append_records, read_records
from humanlm.evaluation.scores import (
    SCORES,
    DataInfo,
    PromptInfo,
    Scores,
    Settings,
    Similarity,
    compute_scores,
    sorted_json,
)
from humanlm.evaluation.steps import Batch, batch_seed, make_batches
from humanlm.example import Example
from humanlm.files import claim_folder, write_whole
from humanlm.judging import Group, Judge
from humanlm.prompts import Prompts
from humanlm.reading import fingerprint, write_examples
from humanlm.reply import Reply
from humanlm.simulation.card import ModelCard
from humanlm.states import RESPONSE

SETTINGS = "settings.json"
EXAMPLES = "examples.jsonl"
REPORT = "report.html"
OWNED = (SETTINGS, EXAMPLES, GENERATIONS, SCORES, REPORT)

PAPER_TEMPERATURE = 0.4

Progress = Callable[[int, int], None]
"""Called with (done, all) generations and real texts."""


class Answers(Protocol):
    """What an evaluation needs of a simulator; :class:`humanlm.simulation.Simulator` has it."""

    name: str
    card: ModelCard
    prompts: Prompts
    think: bool

    def replies(
        self, examples: Sequence[Example], target: str = RESPONSE, *, temperature: float = 0.4, seed: int = 0
    ) -> list[Reply]:
        """One reply an example, in order."""
        ...


def evaluate(
    simulator: Answers,
    examples: Sequence[Example],
    judge: Judge,
    *,
    out: str | Path,
    name: str | None = None,
    model: str | None = None,
    source: str = "",
    temperatures: Sequence[float] = (PAPER_TEMPERATURE,),
    samples: int = 1,
    states: bool = True,
    state_prompts: bool | None = None,
    anchors: bool = True,
    pool: Sequence[Example] | None = None,
    similarity: Similarity | None = None,
    seed: int = 0,
    batch: int = 64,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Scores a simulator on examples: ``OUT/scores.json``, ``generations.jsonl``, ``examples.jsonl``, ``report.html``.

    The same arguments give the same bytes, however often the evaluation was interrupted and resumed.

    Args:
        simulator: Who answers.
        examples: What is answered, with the real responses.
        judge: Who compares. A group it fails on is counted as missing, never as zero, and asked again on ``resume``.
        out: The folder to write; must be empty or absent without ``resume`` or ``overwrite``.
        name: What the simulator is called in tables; by default its method, with ``-think`` for a base that reasons.
        model: What stands for the model in ``scores.json``; by default the name it was loaded as.
        source: What stands for the data there; by default the examples' own source.
        temperatures: Of the replies. The first is the headline: states and anchors are measured there.
        samples: Replies an example, judged as one group. One at temperature 0.
        states: Whether replies are also compared with the real ones along each state dimension.
        state_prompts: Whether the simulator is asked for its states directly; by default if it was trained on them.
        anchors: Whether the judge also scores the truth, other users' replies and replies under another's persona.
        pool: Where other users' replies and personas come from; by default the examples.
        similarity: Measures the likeness of texts; by default the judge's own measure if it is an embedding judge.
        seed: Of generation, anchors and resampling.
        batch: Examples between two writes.
        resume: Go on with what ``out`` holds.
        overwrite: Remove what an evaluation left in ``out``.
        progress: Called after each step.

    Raises:
        UsageError: No examples, a repeated id, a folder in use, or another evaluation's folder to resume.
        RunError: The disk refused to take the results; what was written can be resumed.
    """
    settings = make_settings(
        simulator,
        examples,
        judge,
        name=name,
        model=model,
        source=source,
        temperatures=temperatures,
        samples=samples,
        states=states,
        state_prompts=state_prompts,
        anchors=anchors,
        seed=seed,
        batch=batch,
    )
    folder = Path(out)
    claim_folder(folder, overwrite=overwrite, resume=resume)
    batches = list(make_batches(settings, examples, judge, pool or examples))
    try:
        if overwrite and not resume:
            for file in OWNED:
                (folder / file).unlink(missing_ok=True)
        _agree(folder, settings)
        write_examples(folder / EXAMPLES, examples)
        records = _run(simulator, judge, settings, batches, folder / GENERATIONS, progress)
        scores = compute_scores(settings, examples, records, similarity or getattr(judge, "similarities", None))
        scores.write(folder)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot write the results ({error.strerror or error}): free some space, then add --resume"
        ) from error
    from humanlm.evaluation.page import report

    report([folder], folder / REPORT)
    return scores


def make_settings(
    simulator: Answers,
    examples: Sequence[Example],
    judge: Judge,
    *,
    name: str | None = None,
    model: str | None = None,
    source: str = "",
    temperatures: Sequence[float] = (PAPER_TEMPERATURE,),
    samples: int = 1,
    states: bool = True,
    state_prompts: bool | None = None,
    anchors: bool = True,
    seed: int = 0,
    batch: int = 64,
) -> Settings:
    """Settles everything an evaluation will do; see :func:`evaluate` for the arguments.

    Raises:
        UsageError: There are no examples, or two have the same id, or a setting is out of range.
    """
    if not examples:
        raise UsageError("no examples to evaluate: check --data, --split and --limit")
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise UsageError(f"example id {example.id!r} occurs twice: `humanlm check` names the rows")
        seen.add(example.id)
    card, prompts = simulator.card, simulator.prompts
    ask_states = bool(card.states) if state_prompts is None else state_prompts
    method = card.method + ("-think" if card.method == "base" and simulator.think else "")
    values = tuple(dict.fromkeys(float(value) for value in temperatures))
    if not values or not all(0 <= value <= 10 for value in values):
        raise UsageError(f"temperatures {values}: give one or more numbers from 0 to 10, e.g. 0.4")
    if samples < 1 or batch < 1:
        raise UsageError(f"samples {samples}, batch {batch}: both must be at least 1")
    return Settings(
        name=name or method,
        method=method,
        think=simulator.think,
        model=model or simulator.name,
        prompts=PromptInfo(name=prompts.name, version=prompts.version, fingerprint=prompts.fingerprint),
        data=DataInfo(
            source=source or examples[0].source,
            fingerprint=fingerprint(examples),
            examples=len(examples),
            users=len({example.user_id for example in examples}),
        ),
        judge=judge.name,
        temperatures=values,
        samples=samples,
        judged_states=tuple(prompts.states) if states else (),
        asked_states=tuple(card.states or prompts.states) if ask_states else (),
        with_anchors=anchors,
        seed=seed,
        batch=batch,
    )


def _run(
    simulator: Answers,
    judge: Judge,
    settings: Settings,
    batches: Sequence[Batch],
    file: Path,
    progress: Progress | None,
) -> list[Record]:
    """Does what is not done yet; returns all records in the order of the batches."""
    kept = {(record.part, record.id, record.sample): record for record in read_records(file)}
    if kept:
        # Without the line that a kill may have cut in two.
        write_whole(file, "".join(record.line() for record in kept.values()))
    total = sum(len(batch.examples) * batch.samples for batch in batches)
    records: list[Record] = []
    for batch in batches:
        keys = [(batch.part, example.id, sample) for example in batch.examples for sample in range(batch.samples)]
        known = [kept[key] for key in keys if key in kept]
        if len(known) < len(keys):
            drafts = _texts(simulator, settings, batch)
            done = _judged(judge, batch, drafts)
            append_records(file, done)
        elif any(record.failed for record in known):
            done = _judged(judge, batch, known)
        else:
            done = known
        records += done
        if progress is not None:
            progress(len(records), total)
    write_whole(file, "".join(record.line() for record in records))
    return records


def _texts(simulator: Answers, settings: Settings, batch: Batch) -> list[Record]:
    """The texts of a batch, unjudged: example by example, sample by sample."""
    by, target, temperature = batch.part
    if temperature is None:
        columns = [[Reply(text=example.response) for example in batch.asked]]
    else:
        columns = [
            simulator.replies(
                batch.asked,
                target,
                temperature=temperature,
                seed=batch_seed(settings.seed, batch.part, batch.number, sample),
            )
            for sample in range(batch.samples)
        ]
    return [
        Record(
            id=example.id,
            user_id=example.user_id,
            by=by,
            target=target,
            temperature=temperature,
            sample=sample,
            text=column[place].text,
            thinking=column[place].thinking,
            states=column[place].states,
            faults=column[place].faults,
            note=note,
        )
        for place, (example, note) in enumerate(zip(batch.examples, batch.notes, strict=True))
        for sample, column in enumerate(columns)
    ]


def _judged(judge: Judge, batch: Batch, records: Sequence[Record]) -> list[Record]:
    """The records with verdicts; those that have all of theirs are not judged again."""
    rows = [records[start : start + batch.samples] for start in range(0, len(records), batch.samples)]
    asked = [
        (place, target, Group(example=example, target=target, replies=tuple(record.reply for record in row)))
        for place, (example, row) in enumerate(zip(batch.examples, rows, strict=True))
        for target in batch.judged
        if any(target not in record.verdicts for record in row) and judge.covers(example, target)
    ]
    verdicts = [[dict(record.verdicts) for record in row] for row in rows]
    failed: list[dict[str, str]] = [{} for _ in rows]
    for (place, target, _), answer in zip(asked, judge.judge_all([group for *_, group in asked]), strict=True):
        if isinstance(answer, JudgeError):
            failed[place][target] = " ".join(str(answer).split())
            continue
        for own, verdict in zip(verdicts[place], answer, strict=True):
            own[target] = verdict
    return [
        record.model_copy(update={"verdicts": verdicts[place][sample], "failed": failed[place]})
        for place, row in enumerate(rows)
        for sample, record in enumerate(row)
    ]


def _agree(folder: Path, settings: Settings) -> None:
    """Writes the settings, or checks that the ones there are the same."""
    file = folder / SETTINGS
    if not file.is_file():
        (folder / GENERATIONS).unlink(missing_ok=True)
        write_whole(file, sorted_json(settings))
        return
    try:
        old = Settings.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise UsageError(f"{file}: not an evaluation's settings: start anew with --overwrite") from error
    for key in Settings.model_fields:
        before, now = getattr(old, key), getattr(settings, key)
        if before != now:
            raise UsageError(
                f"{folder}: cannot resume, {key} was {_short(before)} and is now {_short(now)}: use the same or --overwrite"
            )


def _short(value: object) -> str:
    if isinstance(value, DataInfo):
        return f"{value.source or 'data'} ({value.examples} examples, {value.fingerprint})"
    if isinstance(value, PromptInfo):
        return f"{value.name} {value.version} ({value.fingerprint})"
    return repr(value)
