"""What a process of verl's needs to have groups judged: opened once from the run folder, whatever node it is on."""

import json
import os
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from humanlm.errors import HumanLMError, RunError
from humanlm.files import write_whole
from humanlm.judging import Group, Judge
from humanlm.ledger import Ledger
from humanlm.llm import SpendLimits
from humanlm.prompts import Prompts
from humanlm.training.config import TrainConfig
from humanlm.training.folder import RunFolder
from humanlm.training.opening import alone_if_asked, open_prompts, open_run_judge
from humanlm.training.scoring import Judged, judge_step
from humanlm.training.verl.record import GroupRecord, append_record
from humanlm.training.verl.rows import SCHEDULE, VALIDATION, PromptRow, PromptRows

RUN_VARIABLE = "HUMANLM_RUN"
"""The environment variable that names the run folder to every process."""

_THREADS = 32
_PATIENCE = 2
"""Groups in a row that may fail in a process before it stops sampling failed groups anew."""


class Share(NamedTuple):
    """Which of the judging processes this is, from 0, and how many there are."""

    number: int
    of: int


def work_folder(run: Path) -> Path:
    """Where the verl engine keeps what only it needs."""
    return run / "verl"


def ledger_file(run: Path, number: int) -> Path:
    """The ledger of one judging process. Each has its own: a ledger does not bear to be shared over a network's file system."""
    return work_folder(run) / "ledgers" / f"{number}.sqlite"


def share_limits(run: Path, limits: SpendLimits, processes: int) -> list[SpendLimits]:
    """Divides what is left of a run's limits, and writes it down for the processes, with the folder that paths start from.

    Args:
        run: The run folder; what its ledgers hold is spent already, under whatever number of processes.
        limits: The run's.
        processes: How many will judge.

    Returns:
        For each process its limits, which count what its own ledger holds. They add up to what is left.
    """
    files = sorted({RunFolder(run).ledger, *(work_folder(run) / "ledgers").glob("*.sqlite")})
    spent = {file: Ledger(file).spent() for file in files if file.is_file()}
    calls, cost = sum(one.calls for one in spent.values()), sum(one.cost_usd for one in spent.values())
    left_calls = None if limits.max_calls is None else max(0, limits.max_calls - calls)
    left_cost = None if limits.max_cost is None else max(0.0, limits.max_cost - cost)
    shares = []
    for number in range(processes):
        own = spent.get(ledger_file(run, number))
        shares.append(
            SpendLimits(
                max_calls=None
                if left_calls is None
                else (own.calls if own else 0) + left_calls // processes + (number < left_calls % processes),
                max_cost=None if left_cost is None else (own.cost_usd if own else 0.0) + left_cost / processes,
            )
        )
    told = {"folder": str(Path.cwd()), "limits": [share.model_dump() for share in shares]}
    write_whole(_shares_file(run), json.dumps(told) + "\n")
    return shares


def gather_ledgers(run: Path) -> None:
    """Moves what the processes' ledgers say into the run's own, when no process is left. May be repeated.

    Args:
        run: The run folder.
    """
    files = sorted((work_folder(run) / "ledgers").glob("*.sqlite"))
    if files:
        ledger = Ledger(RunFolder(run).ledger)
        for file in files:
            ledger.absorb(Ledger(file))
        ledger.close()


def _shares_file(run: Path) -> Path:
    return work_folder(run) / "limits.json"


class Desk:
    """One process's judge, prompts and log.

    Args:
        run: The run folder, on a file system that all nodes share.
        share: Which part of the run's limits this process has.
        judge: Who judges; by default the one that the run's configuration names.
    """

    def __init__(self, run: Path, share: Share, judge: Judge | None = None) -> None:
        self.config, self.prompts, used = _opened(run, share, judge)
        self.judge = alone_if_asked(self.config, used)
        self.dimensions = self.config.dimensions(self.prompts.states) if self.config.chosen.credits_states else ()
        self.threads = ThreadPoolExecutor(_THREADS if self.judge.concurrent else 1, "humanlm-judge")
        self.failed_in_row = 0
        self._rows = {False: PromptRows(work_folder(run) / SCHEDULE)}
        validation = work_folder(run) / VALIDATION
        if validation.is_file():
            self._rows[True] = PromptRows(validation)
        self._log = _log_file(run, share.number)
        self._booked = self.judge.tally
        self._lock = threading.Lock()

    def row(self, item: int, validation: bool) -> PromptRow:
        """A prompt of the run."""
        return self._rows[validation][item]

    @property
    def patient(self) -> bool:
        """Whether a failed group is worth sampling anew: not while the judge is down."""
        return self.failed_in_row < _PATIENCE

    def judged(self, group: Group, lengths: Sequence[int]) -> Judged:
        """Has one group judged. Blocks; called from a thread of this process's own.

        What was spent is counted from one group to the next, because several may be judged at once.

        Args:
            group: All rollouts of one prompt.
            lengths: New tokens of each.
        """
        found = judge_step(self.judge, [group], [lengths], self.dimensions)
        with self._lock:
            now = self.judge.tally
            before, self._booked = self._booked, now
        return replace(found, spent=now.minus(before))

    def note(self, record: GroupRecord) -> None:
        """Writes a line of the log."""
        with self._lock:
            append_record(self._log, record)


def _opened(run: Path, share: Share, judge: Judge | None) -> tuple[TrainConfig, Prompts, Judge]:
    try:
        told = json.loads(_shares_file(run).read_text(encoding="utf-8"))
        limits = [SpendLimits.model_validate(one) for one in told["limits"]]
        folder = Path(told["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{_shares_file(run)}: cannot read the judge's limits ({error}): start the run again") from error
    if len(limits) != share.of:
        raise RunError(
            f"{_shares_file(run)} divides the judge's limits by {len(limits)}, but {share.of} processes judge"
        )
    # a process on another machine begins elsewhere, and the configuration's paths are the driver's
    with chdir(folder) if folder.is_dir() else nullcontext():
        config, prompts = open_prompts(TrainConfig.read(run / "config.yaml", out=run))
        return (
            config,
            prompts,
            judge
            or open_run_judge(
                config, prompts, ledger=ledger_file(run, share.number), limits=limits[share.number], processes=share.of
            ),
        )


@lru_cache(maxsize=1)
def process_desk(run: str, number: int, of: int) -> Desk:
    """The desk of this process."""
    return Desk(Path(run), Share(number, of))


def own_desk(workers: int) -> Desk:
    """The desk of the agent-loop worker that asks.

    Args:
        workers: How many agent-loop workers there are.

    Raises:
        RunError: The process was not started by a run of ours.
        HumanLMError: The judge cannot be opened here; the log tells the driver why.
    """
    import ray

    run = os.environ.get(RUN_VARIABLE)
    if not run:
        raise RunError(f"{RUN_VARIABLE} is not set: start training with `humanlm train ... --engine verl`")
    number = _worker_number(ray.get_runtime_context().get_actor_name())
    try:
        return process_desk(run, number, workers)
    except HumanLMError as error:
        told = GroupRecord(item=-1, step=-1, target="", raised=f"{type(error).__name__}: {error}")
        append_record(_log_file(Path(run), number), told)
        raise


def _log_file(run: Path, number: int) -> Path:
    folder = work_folder(run) / "log"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{number}-{socket.gethostname()}-{os.getpid()}.jsonl"


def _worker_number(actor: Any) -> int:
    """The number in the name that verl gives a worker, ``agent_loop_worker_<number>_<random>``."""
    parts = str(actor or "").split("_")
    if len(parts) < 4 or not parts[3].isdigit():
        raise RunError(f"this is no agent-loop worker of verl's: its actor is named {actor!r}")
    return int(parts[3])
