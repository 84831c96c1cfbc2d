"""A pace for which a larger pass costs nothing: to count passes, and to test what a draft may not change."""

from collections.abc import Sequence

from singlepass_backends.generation.drafting.pace import Pace


class Unlimited(Pace):
    """Drafts all that there is to draft."""

    def __init__(self) -> None:
        super().__init__(slope=0.0)

    def limit(self, n_other: int, n_most: int) -> int:
        """See `Pace`."""
        return max(0, n_most)

    def is_saturated(self, n_other: int, probabilities: Sequence[float], forced: Sequence[bool]) -> bool:
        """See `Pace`."""
        return False

    def best_size(self, n_other: int, probabilities: Sequence[float], forced: Sequence[bool]) -> int:
        """See `Pace`."""
        return len(probabilities)
