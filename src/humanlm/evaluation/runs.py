"""An evaluation from generation to scores, written as it goes so that it can be interrupted at any time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from humanlm.errors import RunError, UsageError, unknown_name
from humanlm.evaluation.compute import compute_scores
from humanlm.evaluation.pipeline import Progress, Workplace, work
from humanlm.evaluation.population import Labeller, label, labeller_of
from humanlm.evaluation.records import ANCHORS, GENERATIONS, write_records
from humanlm.evaluation.scores import SCORES, SETTINGS, DataInfo, PromptInfo, Scores, Settings, Similarity, sorted_json
from humanlm.evaluation.sources import Answers, Recorded, ask
from humanlm.evaluation.steps import Batch, make_batches
from humanlm.example import Example
from humanlm.files import claim_folder, write_whole
from humanlm.judging import Group, Judge
from humanlm.judging.llm import HUMAN_LIKENESS
from humanlm.reading import fingerprint, write_examples
from humanlm.reply import Reply
from humanlm.states import RESPONSE

EXAMPLES = "examples.jsonl"
REPORT = "report.html"
MARKDOWN = "report.md"
OWNED = (SETTINGS, EXAMPLES, GENERATIONS, SCORES, REPORT, MARKDOWN)

PAPER_TEMPERATURE = 0.4


def evaluate(
    simulator: Answers | Recorded,
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
    anchors: bool | Sequence[str] = True,
    anchor_states: bool | None = None,
    human_likeness: bool = False,
    population: bool | None = None,
    pool: Sequence[Example] | None = None,
    similarity: Similarity | None = None,
    seed: int = 0,
    batch: int = 64,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Scores a simulator on examples, into ``OUT``: ``scores.json``, ``generations.jsonl``, ``examples.jsonl`` and the reports.

    The same arguments give the same bytes, however often the evaluation was interrupted and resumed.

    Args:
        simulator: Who answers; or texts that are there already, which are then only judged.
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
        anchors: What calibrates the judge and shows how personal the replies are: all of ``truth``, ``other_user``,
            ``other_persona``, ``no_persona``, ``mismatched``, or those named.
        anchor_states: Whether truth and other users' replies are compared along the states too; by default if that costs nothing.
        human_likeness: Whether the judge, a language model, also says how human the replies read, and the real ones.
        population: Whether replies are sorted by stance and emotion, to compare crowds; by default if that costs nothing.
        pool: Where other users' replies and personas come from; by default the examples.
        similarity: Measures the likeness of texts; by default the judge's own measure if it is an embedding judge.
        seed: Of generation, anchors and resampling.
        batch: Examples between two writes.
        resume: Go on with what ``out`` holds.
        overwrite: Remove what an evaluation left in ``out``.
        progress: Called after each step.

    Raises:
        UsageError: No examples, a repeated id, a folder in use, or another evaluation's folder to resume.
        RunError: The disk refused to take the results, or a server is gone; what was written can be resumed.
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
        anchor_states=anchor_states,
        human_likeness=human_likeness,
        population=population,
        seed=seed,
        batch=batch,
    )
    folder = Path(out)
    claim_folder(folder, overwrite=overwrite, resume=resume)
    batches = batches_of(simulator, settings, examples, judge, pool)
    labeller = labeller_of(judge) if settings.population else None
    place = Workplace(
        simulator.texts if isinstance(simulator, Recorded) else partial(ask, simulator, seed),
        judge,
        folder / GENERATIONS,
        remote_writer=hasattr(simulator, "llm"),
        remote_judge=asks_a_server(judge, examples),
        progress=progress,
    )
    try:
        if overwrite and not resume:
            for file in OWNED:
                (folder / file).unlink(missing_ok=True)
        _agree(folder, settings)
        write_examples(folder / EXAMPLES, examples)
        records = work(place, batches)
        if labeller is not None:
            records = label(labeller, records, examples, settings.temperatures[0], place.file)
            write_records(place.file, records)
        scores = compute_scores(
            settings,
            examples,
            records,
            similarity or getattr(judge, "similarities", None),
            ordered=_scales(labeller),
            remarks=_remarks(simulator),
        )
        scores.write(folder)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot write the results ({error.strerror or error}): free some space, then add --resume"
        ) from error
    from humanlm.evaluation.page import report

    report([folder], folder / REPORT)
    return scores


def batches_of(
    simulator: Answers | Recorded,
    settings: Settings,
    examples: Sequence[Example],
    judge: Judge,
    pool: Sequence[Example] | None = None,
) -> list[Batch]:
    """All steps of an evaluation; of recorded texts only the series that are there."""
    batches = list(make_batches(settings, examples, judge, pool or examples))
    if not isinstance(simulator, Recorded):
        return batches
    found: list[Batch] = []
    for batch in batches:
        if batch.part.temperature is None or batch.part.by == "mismatched":
            found.append(batch)
        elif batch.part in simulator.parts:
            found.append(batch._replace(samples=simulator.parts[batch.part]))
    return found


def asks_a_server(judge: Judge, examples: Sequence[Example]) -> bool:
    """Whether a judge sends requests, which cost time or money."""
    first = Group(example=examples[0], target=RESPONSE, replies=(Reply(text="x"),))
    return judge.estimate([first]).calls > 0


def _scales(labeller: Labeller | None) -> dict[str, tuple[str, ...]]:
    return dict(labeller.ordered) if labeller is not None else {}


def _remarks(simulator: Answers | Recorded) -> tuple[str, ...]:
    if not isinstance(simulator, Recorded) or simulator.known:
        return ()
    remarks = [f"The replies were read from {simulator.file.name}; how they were made and sampled is not known here."]
    if simulator.strangers:
        remarks.append(f"{simulator.strangers} of its rows are about other examples and were left out.")
    return tuple(remarks)


def make_settings(
    simulator: Answers | Recorded,
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
    anchors: bool | Sequence[str] = True,
    anchor_states: bool | None = None,
    human_likeness: bool = False,
    population: bool | None = None,
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
    values = tuple(dict.fromkeys(float(value) for value in temperatures))
    if not values or not all(0 <= value <= 10 for value in values):
        raise UsageError(f"temperatures {values}: give one or more numbers from 0 to 10, e.g. 0.4")
    if samples < 1 or batch < 1:
        raise UsageError(f"samples {samples}, batch {batch}: both must be at least 1")
    chosen = (ANCHORS if anchors else ()) if isinstance(anchors, bool) else tuple(anchors)
    for anchor in chosen:
        if anchor not in ANCHORS:
            raise unknown_name("anchor", anchor, ANCHORS)
    if human_likeness and not any(judge.covers(example, HUMAN_LIKENESS) for example in examples):
        raise UsageError(f"judge {judge.name!r} cannot say how human a text reads: use a language model as the judge")
    ask_states = bool(card.states) if state_prompts is None else state_prompts
    free = not asks_a_server(judge, examples)
    labeller = labeller_of(judge) if population or (population is None and free) else None
    if population and labeller is None:
        raise UsageError(
            f"judge {judge.name!r} cannot sort replies by stance and emotion: use a language model as the judge"
        )
    method = card.method + ("-think" if card.method == "base" and simulator.think else "")
    return Settings(
        name=name or (simulator.name if isinstance(simulator, Recorded) else method),
        method=method,
        think=simulator.think,
        model=model or simulator.name,
        step=card.step,
        model_seed=card.seed,
        prompts=simulator.info
        if isinstance(simulator, Recorded)
        else PromptInfo(name=prompts.name, version=prompts.version, fingerprint=prompts.fingerprint),
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
        anchors=tuple(anchor for anchor in ANCHORS if anchor in chosen),
        anchor_states=states and (free if anchor_states is None else anchor_states),
        with_human_likeness=human_likeness,
        population=labeller.name if labeller is not None else "",
        seed=seed,
        batch=batch,
    )


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
