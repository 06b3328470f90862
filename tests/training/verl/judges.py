"""Judges that verl's processes open by name."""

from tests.training.conftest import WordJudge


class Words(WordJudge):
    """Scores the share of one word."""

    def __init__(self) -> None:
        super().__init__()


class NoGoals(WordJudge):
    """Fails for one target."""

    def __init__(self) -> None:
        super().__init__(lambda call, place, group: group.target == "goal")


class Down(WordJudge):
    """Fails always."""

    def __init__(self) -> None:
        super().__init__(lambda call, place, group: True)
