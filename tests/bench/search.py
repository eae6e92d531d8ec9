"""The loss-free rate: a binary search over trials, each of which is repeated before it is believed.

The method is CSIT's for its NDR and PDR (no-drop and partial-drop rate): trials of a fixed length at a fixed rate; a rate is good
where at most the tolerated share of the packets is lost; the interval between the highest good and the lowest bad rate is halved
until it is narrow. Nothing here knows what a trial is made of.
"""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

# How near an offered rate has to come to the one that is wanted, and how often it is tried.
NEAR, AIMS = 0.05, 4
# The lowest rate that is looked at, as a share of the highest.
FLOOR = 1 / 64


class Search:
    """What is known of a device, by asked rate. `trial(rate)` returns an object with the rate that was `asked`, which may be
    only near it, the rate that was `offered`, and the share of packets `lost`."""

    def __init__(self, trial, highest, width, repeats=2):
        self.trial, self.highest, self.width, self.repeats = trial, highest, width, repeats
        self.trials = defaultdict(list)

    def rate(self, tolerance):
        """The highest rate at which at most that share is lost, as a `Found`."""
        good, bad = self._known(tolerance)
        if good is None and bad is None:
            good, bad = self._look(self.highest, tolerance)
        while bad is not None and (good is None or bad - good > self.width * bad):
            if good is None and bad <= self.highest * FLOOR:
                break
            middle = bad / 2 if good is None else (good + bad) / 2
            asked = self._believed(middle, tolerance)
            if asked in (good, bad):
                # No rate that the peer can offer lies between.
                break
            good, bad = self._known(tolerance)
        return Found(tolerance, good, bad, *self._offered(tolerance, bad))

    def _look(self, rate, tolerance):
        self._believed(rate, tolerance)
        return self._known(tolerance)

    def _believed(self, rate, tolerance):
        """Tries the rate until `repeats` trials agree, and returns the rate that was asked for in them."""
        while True:
            trial = self.trial(rate)
            self.trials[trial.asked].append(trial)
            if self._verdict(trial.asked, tolerance) is not None:
                return trial.asked

    def _verdict(self, asked, tolerance):
        """Whether the rate is good; `None` while too few trials agree."""
        outcomes = [trial.lost <= tolerance for trial in self.trials[asked]]
        for outcome in (False, True):
            if outcomes.count(outcome) >= self.repeats and outcomes.count(outcome) * 2 > len(outcomes):
                return outcome
        return None

    def _known(self, tolerance):
        """The lowest bad rate, and the highest good one below it; `None` where there is none."""
        verdicts = {asked: self._verdict(asked, tolerance) for asked in list(self.trials)}
        bad = min((asked for asked, good in verdicts.items() if good is False), default=None)
        below = (asked for asked, good in verdicts.items() if good and (bad is None or asked < bad))
        return max(below, default=None), bad

    def _offered(self, tolerance, bad):
        """The highest rate that was offered in the trials of a good rate, and the lowest in those of a bad one, each the median of its
        trials: a peer whose core changes its speed offers more for one asked rate than for a higher one."""
        good, lossy = [], []
        for asked, trials in self.trials.items():
            verdict = self._verdict(asked, tolerance)
            if verdict is False or verdict and (bad is None or asked < bad):
                (good if verdict else lossy).append(median(trial.offered for trial in trials))
        return max(good, default=None), min(lossy, default=None)


def aim(offered, asked, wanted):
    """The rate to ask for so that about the wanted one is offered; `offered(asked)` says what is, and `asked` is the first guess."""
    for _ in range(AIMS):
        found = offered(asked)
        if abs(found / wanted - 1) <= NEAR:
            break
        # No more than halved or doubled at once: what is offered beyond the limit is far off.
        asked *= min(2.0, max(0.5, wanted / found))
    return asked


@dataclass(frozen=True)
class Found:
    """What was found, in packets a second."""

    tolerance: float
    # The asked rates at the ends of the interval; no `bad`: the peer offers no rate that is.
    good: float | None
    bad: float | None
    # What was really offered, at most in the trials of good rates and at least in those of bad ones.
    offered: float | None
    refused: float | None

    @property
    def limited(self):
        """What ended the search: "device" or "peer"; `None` where no good rate was found."""
        if self.good is None:
            return None
        return "peer" if self.bad is None else "device"
