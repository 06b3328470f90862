import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from humanlm.errors import UsageError
from humanlm.quickstart import QuickstartConfig, quickstart
from humanlm.world.generator import WorldConfig

TINY = QuickstartConfig(steps=3, groups=2, base_steps=(4, 2), world=WorldConfig(users=6), temperatures=(0.4,))
NAMES = {"base", "base-think", "sft", "grpo", "grpo-think", "humanlm"}


def test_a_folder_in_use_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        quickstart(tmp_path, TINY)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_going_on_with_another_config_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("seed: 3\n")
    with pytest.raises(UsageError, match="another seed"):
        quickstart(tmp_path, TINY, resume=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tour_runs_whole_and_gives_the_same_bytes_again(tmp_path: Path) -> None:
    seen: set[str] = set()
    first = quickstart(
        tmp_path / "a", TINY, progress=lambda what, done, total: seen.add(what) if done == total else None
    )
    again = quickstart(tmp_path / "b", TINY)
    assert first.scores.read_bytes() == again.scores.read_bytes()
    scores = json.loads(first.scores.read_text())
    assert set(scores["methods"]) == NAMES
    page = first.report.read_text()
    assert all(name in page for name in NAMES)
    assert {"world", "base", "report", "humanlm: evaluation"} <= seen
    assert 0 <= first.faithfulness <= 1
    changed = quickstart(tmp_path / "a", TINY.model_copy(update={"seed": 1}), overwrite=True)
    assert changed.scores.read_bytes() != again.scores.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_tour_goes_on_to_the_same_scores(tmp_path: Path, stop: signal.Signals) -> None:
    words = [sys.executable, "-m", "humanlm", "quickstart", "--steps", "40", "--users", "6", "--base-steps", "4", "2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run(
        [*words, "--out", str(whole)], check=True, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    process = subprocess.Popen([*words, "--out", str(parts)], stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = parts / "runs" / "humanlm" / "metrics.jsonl"
    until = time.monotonic() + 200
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.1)
    os.killpg(process.pid, stop) if stop == signal.SIGKILL else process.send_signal(stop)
    errors = process.communicate(timeout=120)[1]
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert "--resume" in errors
    subprocess.run([*words, "--out", str(parts), "--resume"], check=True, capture_output=True)
    assert (parts / "scores.json").read_bytes() == (whole / "scores.json").read_bytes()
