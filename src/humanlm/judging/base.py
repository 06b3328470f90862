"""What a judge is: it sees all replies of a group at once and says of each how far it matches the real response."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from humanlm.errors import JudgeError
from humanlm.example import Example
from humanlm.judging.rules import rule_out
from humanlm.llm import Tally
from humanlm.reply import Reply
from humanlm.states import RESPONSE

if TYPE_CHECKING:
    from humanlm.judging.traces import TraceVerdicts

_A_STATE = "agrees for the greater part, with a doubt about the cost"
"""Stands for a state in estimates."""


class Group(BaseModel):
    """The rollouts of one prompt, judged together.

    Attributes:
        example: Context and real response.
        target: The dimension on which the replies are compared with the real response, or ``response``.
        replies: The parsed rollouts, in the order in which verdicts are wanted.
        repeat: Which of several judgements of the same group this is; part of the order's seed.
    """

    model_config = ConfigDict(frozen=True)

    example: Example
    target: str
    replies: tuple[Reply, ...] = Field(min_length=1)
    repeat: int = 0


class Verdict(BaseModel):
    """The judge's word on one rollout. The score is computed here, because arithmetic is no language model's job.

    Attributes:
        key_points: What the real response says along the target dimension.
        matches: How far the rollout meets each key point, in [0, 1]; one number a key point.
        penalty: For what the rollout adds without support or against the real response, in [0, 1].
        rationale: Why, in a sentence.
        rule: The rule that scored the rollout without asking the judge; empty if the judge was asked.
    """

    model_config = ConfigDict(frozen=True)

    key_points: tuple[str, ...] = ()
    matches: tuple[float, ...] = ()
    penalty: float = 0.0
    rationale: str = ""
    rule: str = ""

    @property
    def score(self) -> float:
        """Coverage minus penalty, within [0, 1] (paper, section 3.3)."""
        coverage = sum(self.matches) / len(self.matches) if self.matches else 0.0
        return min(1.0, max(0.0, coverage - self.penalty))


class Voiced(NamedTuple):
    """How many states a response voices, and how many of those its own reasoning names."""

    states: int
    thought: int


class Estimate(BaseModel):
    """What judging would take at most; tokens are guessed from characters.

    Attributes:
        calls: Requests to a language model, without retries.
        input_tokens: About four characters each.
        output_tokens: As many as verdicts of the usual length take.
        cost_usd: None if a price is unknown.
    """

    model_config = ConfigDict(frozen=True)

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0

    def plus(self, other: "Estimate") -> "Estimate":
        """Both together."""
        known = self.cost_usd is not None and other.cost_usd is not None
        return Estimate(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
        )

    def times(self, factor: float) -> "Estimate":
        """The same for so many times as much."""
        return Estimate(
            calls=round(self.calls * factor),
            input_tokens=round(self.input_tokens * factor),
            output_tokens=round(self.output_tokens * factor),
            cost_usd=None if self.cost_usd is None else self.cost_usd * factor,
        )


def expected_cost(
    judge: "Judge", pairs: Sequence[tuple[Example, str]], size: int, total: int, dimensions: Sequence[str] = ()
) -> Estimate:
    """What a judge would take for groups that do not exist yet; their replies are taken to be as long as the real response.

    Args:
        judge: The judge.
        pairs: Some of the examples and targets that will be judged.
        size: Replies a group.
        total: Groups that will be judged.
        dimensions: States of the reasoning that are judged with each response.
    """
    if not pairs:
        return Estimate()
    groups = [
        Group(
            example=example,
            target=target,
            replies=tuple(
                Reply(text=f"{example.response} {number}", states=dict.fromkeys(dimensions, f"{_A_STATE} {number}"))
                for number in range(size)
            ),
        )
        for example, target in pairs
    ]
    if not dimensions:
        return judge.estimate(groups).times(total / len(pairs))
    traces = [group for group in groups if group.target == RESPONSE]
    others = [group for group in groups if group.target != RESPONSE]
    parts = judge.estimate_traces(traces, dimensions), judge.estimate(others)
    return parts[0].plus(parts[1]).times(total / len(pairs))


class Judge(ABC):
    """Base of all judges. A subclass says how to assess groups; what needs no judge is settled here.

    Attributes:
        name: As it stands in run folders and reports.
        concurrent: Whether several threads may call it at once.
    """

    name: str
    concurrent: bool = False

    def covers(self, example: Example, target: str) -> bool:
        """Whether the real response can be judged on this target at all; such pairs are neither trained on nor scored."""
        return True

    @property
    def tally(self) -> Tally:
        """What it has asked and spent so far; all zeros for a judge that needs no calls."""
        return Tally()

    def voiced(self, reply: Reply) -> Voiced | None:
        """How many states a response voices and its own reasoning names; None for judges that would have to be asked."""
        return None

    def estimate(self, groups: Sequence[Group]) -> Estimate:
        """What judging these groups would take at most; nothing for a judge that needs no calls."""
        return Estimate()

    def estimate_traces(self, groups: "Sequence[Group]", dimensions: Sequence[str]) -> Estimate:
        """The same for :meth:`judge_traces`."""
        from humanlm.judging.traces import segment_group

        parts = [
            segment_group(group, name) for group in groups for name in dimensions if self.covers(group.example, name)
        ]
        return self.estimate([*groups, *(part for part in parts if part is not None)])

    def shown_order(self, group: Group) -> tuple[int, ...]:
        """Places in the group of the candidates in the order in which the judge looks at them."""
        return tuple(range(len(group.replies)))

    def judge(self, group: Group) -> tuple[Verdict, ...]:
        """Judges one group: one verdict a reply, in the order of the replies.

        Raises:
            JudgeError: No verdict could be had. A failure is never a score.
        """
        (result,) = self.judge_all([group])
        if isinstance(result, JudgeError):
            raise result
        return result

    def judge_all(self, groups: Sequence[Group]) -> list[tuple[Verdict, ...] | JudgeError]:
        """Judges many groups; a group that fails is a :class:`JudgeError` in its place and leaves the others alone.

        Malformed, empty and context-copying replies are scored by rule, equal texts of a group are asked once.
        """
        settled = [[rule_verdict(group, reply) for reply in group.replies] for group in groups]
        asked: list[Group] = []
        places: list[int] = []
        for place, (group, verdicts) in enumerate(zip(groups, settled, strict=True)):
            unique = {
                reply.text: reply for reply, verdict in zip(group.replies, verdicts, strict=True) if verdict is None
            }
            if unique:
                asked.append(group.model_copy(update={"replies": tuple(unique.values())}))
                places.append(place)
        answers = dict(zip(places, self._checked(asked), strict=True))
        return [
            _merge(group, verdicts, asked_group=answers.get(place))
            for place, (group, verdicts) in enumerate(zip(groups, settled, strict=True))
        ]

    def judge_traces(self, groups: Sequence[Group], dimensions: Sequence[str]) -> "list[TraceVerdicts | JudgeError]":
        """Judges rollouts that reason in tagged states: each state by itself, and the reply.

        A group whose replies could not be judged is a :class:`JudgeError` in its place; a dimension that alone failed is one in
        ``TraceVerdicts.states``. This way asks about a group and dimension at a time; a judge may know a cheaper one.

        Args:
            groups: Their target is the response.
            dimensions: Which tagged states to judge; those that the judge does not cover for an example are left out.
        """
        from humanlm.judging.traces import judge_each

        return judge_each(self, groups, dimensions)

    @abstractmethod
    def _assess(self, groups: Sequence[Group]) -> Sequence[Sequence[Verdict] | JudgeError]:
        """Assesses groups of well-formed, distinct replies: for each group one verdict a reply, in order, or the failure."""

    def _checked(self, groups: Sequence[Group]) -> list[dict[str, Verdict] | JudgeError]:
        """Verdicts by reply text. A judge that answers for the wrong number of replies has failed, whatever it says."""
        if not groups:
            return []
        answers = self._assess(groups)
        if len(answers) != len(groups):
            raise RuntimeError(
                f"judge {self.name!r} answered {len(answers)} of {len(groups)} groups: this is a bug in the judge"
            )
        checked: list[dict[str, Verdict] | JudgeError] = []
        for group, answer in zip(groups, answers, strict=True):
            if isinstance(answer, JudgeError):
                checked.append(answer)
            elif len(answer) != len(group.replies):
                checked.append(
                    JudgeError(
                        f"judge {self.name!r}: {len(answer)} verdicts for {len(group.replies)} replies of {group.example.id!r}"
                    )
                )
            else:
                checked.append({reply.text: verdict for reply, verdict in zip(group.replies, answer, strict=True)})
        return checked


def rule_verdict(group: Group, reply: Reply) -> Verdict | None:
    """The verdict on a reply that needs no judge; None if it does."""
    reason = rule_out(reply, group.example, group.target)
    return None if reason is None else Verdict(rationale=f"scored by rule: {reason}", rule=reason)


def _merge(
    group: Group, verdicts: Sequence[Verdict | None], *, asked_group: dict[str, Verdict] | JudgeError | None
) -> tuple[Verdict, ...] | JudgeError:
    if isinstance(asked_group, JudgeError):
        return asked_group
    known = asked_group or {}
    return tuple(
        known[reply.text] if verdict is None else verdict
        for reply, verdict in zip(group.replies, verdicts, strict=True)
    )
