"""What a run trains with where nothing is set."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from bot.settings import TrainingSettings
from training.lora import Hyperparameters, epochs_for


def test_the_settings_have_the_trainers_defaults() -> None:
    own = asdict(Hyperparameters())
    set_by = {name: field.default for name, field in TrainingSettings.model_fields.items() if name in own}
    assert {"rank", "alpha", "learning_rate", "epochs", "seed"} <= set_by.keys()
    assert set_by == {name: own[name] for name in set_by} | {"epochs": None}


@pytest.mark.parametrize(("examples", "epochs"), [(0, 3.0), (368, 3.0), (800, 2.0), (1600, 1.0), (90_000, 1.0)])
def test_few_examples_are_read_more_often(examples: int, epochs: float) -> None:
    assert epochs_for(examples, per_step=16) == epochs
