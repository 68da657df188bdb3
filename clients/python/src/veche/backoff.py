"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Waits that grow by `factor` from `first` to at most `longest` seconds, each drawn between nothing and the step
    ("full jitter"), so that clients of a server that was restarted do not come back in step.

    After `attempts` waits in a row without a success there are no more; `None`: it never gives up.
    """

    first: float = 1.0
    factor: float = 1.5
    longest: float = 30.0
    attempts: int | None = None
    random: Callable[[], float] = random.random
    #: How many waits were given since the last success.
    made: int = field(default=0, init=False)

    def next(self) -> float | None:
        """The next wait in seconds, or `None` when there are no attempts left."""
        if self.attempts is not None and self.made >= self.attempts:
            return None
        # Beyond some hundred steps the power would overflow; the limit was reached long before.
        step = min(self.longest, self.first * self.factor ** min(self.made, 200))
        self.made += 1
        return step * self.random()

    def reset(self) -> None:
        """After a success."""
        self.made = 0
