"""What a run trains with where nothing is set."""

from __future__ import annotations

from dataclasses import asdict

from bot.settings import TrainingSettings
from training.lora import Hyperparameters


def test_the_settings_have_the_trainers_defaults() -> None:
    own = asdict(Hyperparameters())
    set_by = {name: field.default for name, field in TrainingSettings.model_fields.items() if name in own}
    assert {"rank", "alpha", "learning_rate", "epochs", "seed"} <= set_by.keys()
    assert set_by == {name: own[name] for name in set_by}
