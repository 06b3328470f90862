import pytest

from humanlm.world.generator import WorldConfig, make_world


@pytest.fixture(scope="session")
def examples():
    """Thirty examples of ten people."""
    config = WorldConfig(users=10, train_posts=1, val_posts=1, test_posts=3, test_combinations=6)
    return make_world(config).examples["test"]
