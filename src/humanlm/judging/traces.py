"""Traces: the tagged states of a group's reasoning and its replies, judged together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from humanlm.errors import JudgeError
from humanlm.judging.base import Group, Verdict
from humanlm.judging.rules import rule_out_segment
from humanlm.reply import Reply

if TYPE_CHECKING:
    from humanlm.judging.base import Judge


@dataclass(frozen=True)
class TraceVerdicts:
    """What a judge says of a group whose rollouts reason in tagged states.

    Attributes:
        replies: One verdict a rollout on its reply.
        states: For each dimension that the judge covers one verdict a rollout on that tagged state, or the failure. A state
            that is missing, named twice, or stands in a malformed output is scored 0 by rule; ``Verdict.rule`` says which.
    """

    replies: tuple[Verdict, ...]
    states: Mapping[str, tuple[Verdict, ...] | JudgeError] = field(default_factory=dict)


def segment_verdict(reply: Reply, dimension: str) -> Verdict | None:
    """The verdict on a tagged state that needs no judge; None if it does."""
    reason = rule_out_segment(reply, dimension)
    return None if reason is None else Verdict(rationale=f"scored by rule: {reason}", rule=reason)


def segment_group(group: Group, dimension: str) -> Group | None:
    """The tagged states of one dimension as a group of their own, equal ones once; None if no reply has one to judge."""
    texts = [reply.states[dimension] for reply in group.replies if segment_verdict(reply, dimension) is None]
    replies = tuple(Reply(text=text, states={dimension: text}) for text in dict.fromkeys(texts))
    return group.model_copy(update={"target": dimension, "replies": replies}) if replies else None


def judge_each(judge: "Judge", groups: Sequence[Group], dimensions: Sequence[str]) -> list[TraceVerdicts | JudgeError]:
    """Judges traces one dimension after the other, by what every judge can do: a group a dimension, and one for the replies."""
    asked: list[Group] = list(groups)
    places: dict[tuple[int, str], int] = {}
    for number, group in enumerate(groups):
        for dimension in dimensions:
            part = segment_group(group, dimension) if judge.covers(group.example, dimension) else None
            if part is not None:
                places[number, dimension] = len(asked)
                asked.append(part)
    found = judge.judge_all(asked)
    results: list[TraceVerdicts | JudgeError] = []
    for number, group in enumerate(groups):
        replies = found[number]
        if isinstance(replies, JudgeError):
            results.append(replies)
            continue
        states = {
            dimension: _spread(group, dimension, asked, found, places.get((number, dimension)))
            for dimension in dimensions
            if judge.covers(group.example, dimension)
        }
        results.append(TraceVerdicts(replies, states))
    return results


def _spread(
    group: Group,
    dimension: str,
    asked: Sequence[Group],
    found: Sequence[tuple[Verdict, ...] | JudgeError],
    place: int | None,
) -> tuple[Verdict, ...] | JudgeError:
    """Verdicts on distinct segments, given back to every rollout that has them."""
    known: dict[str, Verdict] = {}
    if place is not None:
        answer = found[place]
        if isinstance(answer, JudgeError):
            return answer
        known = {reply.text: verdict for reply, verdict in zip(asked[place].replies, answer, strict=True)}
    return tuple(segment_verdict(reply, dimension) or known[reply.states[dimension]] for reply in group.replies)
