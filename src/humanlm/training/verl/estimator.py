"""Our advantages in verl: they arrive as token-level scores, and the estimator hands them through."""

from typing import Any

from verl.trainer.ppo.core_algos import register_adv_est

from humanlm.training.verl.names import ESTIMATOR


@register_adv_est(ESTIMATOR)  # type: ignore[untyped-decorator]
def hand_through(token_level_rewards: Any, response_mask: Any, **more: Any) -> tuple[Any, Any]:
    """Advantages and returns, both of shape (batch, response length): the scores, 0 where the mask is.

    Args:
        token_level_rewards: Advantages that the agent loop computed, of that shape.
        response_mask: 0 for padding and for groups that are out of the update.
        **more: Whatever else verl gives an estimator.
    """
    advantages = token_level_rewards * response_mask
    return advantages, advantages
