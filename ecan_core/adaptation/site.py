"""Run a whole adaptation at one site, in rounds.

What a round learned of the emotions tells the next one how to normalize.

The first round normalizes by the corpus, which needs no guesses. Its guesses of the emotions then show which speakers
are heard in several moods, or which part of the sound is voice and not emotion. Every round starts from the source
model, so that mistakes of earlier rounds do not add up in the weights. A committee of networks, which differ in method,
shuffling and dropout, guesses better than one network. It is also the panel for the verdict
(`ecan_core.adaptation.verdict`). docs/method.md has the measurements.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.loop import Adaptation, EpochRecord, OnEpoch
from ecan_core.adaptation.registry import GUIDED, METHODS
from ecan_core.adaptation.settings import SINGLE_PASS, AdaptSettings
from ecan_core.data.inputs import Inputs, inputs_of
from ecan_core.model.network import Network
from ecan_core.model.predict import committee_scores, mean_scores
from ecan_core.normalization.normalize import Normalizer, fit_normalizer, normalize_by_speakers
from ecan_core.normalization.voices import MIN_GUESSES, Voices, find_voices, normalize_by_voices, voice_columns

LATER_ROUNDS = {"none": 0, "corpus": 0, "speaker": 2, "voice": 2}
"""Rounds after the first, by what the site normalizes by."""


def num_rounds(mode: str, num_utterances: int) -> int:
    """Return the number of rounds of an adaptation.

    One alone where there is nothing to learn, or too little to learn it from.
    """
    return 1 + (LATER_ROUNDS[mode] if num_utterances >= MIN_GUESSES else 0)


def num_epochs(mode: str, num_utterances: int, methods: Sequence[str], settings: AdaptSettings) -> int:
    """Return the number of epochs of all rounds and members together."""
    by_member = [1 if method in SINGLE_PASS else settings.epochs for method in methods]
    return num_rounds(mode, num_utterances) * sum(by_member)


class Finished(Protocol):
    """Keep members that are adapted, for a run that goes on after a kill.

    An adaptation that was killed goes on with the member after them.
    """

    def load(self, round_index: int, member: int, network: Network) -> Adaptation | None:
        """Load a member into a fresh network; None if it was not adapted yet.

        Returns what its method did.
        """

    def keep(self, round_index: int, member: int, network: Network, adaptation: Adaptation) -> None:
        """Keep a member that was just adapted."""


class NothingFinished:
    """Keep nothing, for an adaptation that will not be resumed."""

    def load(self, round_index: int, member: int, network: Network) -> Adaptation | None:
        """Return None: no member is known."""
        return None

    def keep(self, round_index: int, member: int, network: Network, adaptation: Adaptation) -> None:
        """Keep nothing."""


@dataclass(frozen=True, kw_only=True)
class Ear:
    """Hear which voice speaks.

    It uses the committee of the first round and the voices that were found with it.
    """

    networks: tuple[Network, ...]
    corpus: Normalizer
    voices: Voices

    def names(self, features: Sequence[np.ndarray]) -> list[str]:
        """Name the voice of each utterance ``[S]``."""
        normalized = self.corpus.apply(features, [None] * len(features))
        return self.voices.names(np.stack(normalized), committee_scores(self.networks, inputs_of(normalized)))


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Prepare a site's features for a network.

    Attributes:
        normalizer: what they are normalized by.
        ear: hears whose voice it is where the normalizer knows voices; else None.
        guessing: where a speaker encoder hears the voices, the committee of the first round, which guesses the emotions
            that are taken out of them. Nothing is kept of the voices: they are heard anew among each set of utterances.
    """

    normalizer: Normalizer
    ear: Ear | None = None
    guessing: tuple[Network, ...] = ()

    def inputs(self, features: Sequence[np.ndarray], speakers: Sequence[str | None]) -> Inputs:
        """Return the utterances as a network reads them.

        ``speakers`` are the voices that were heard among them if the preparation is guessing.
        """
        if self.guessing:
            rows = self.normalizer.by_corpus().apply(features, speakers)
            return self._without_voices(rows, features, speakers)
        names = speakers if self.ear is None else self.ear.names(features)
        return inputs_of(self.normalizer.knowing(features, names).apply(features, names))

    def _without_voices(
        self, rows: Sequence[np.ndarray], features: Sequence[np.ndarray], voices: Sequence[str | None]
    ) -> Inputs:
        guesses = committee_scores(self.guessing, inputs_of(rows))
        normalizer = normalize_by_voices(self.normalizer.by_corpus(), np.stack(rows), voices, guesses)
        return inputs_of(normalizer.apply(features, voices))


@dataclass(frozen=True, kw_only=True)
class SiteAdaptation:
    """Describe what became of a source model at a site.

    Attributes:
        networks: the committee.
        preparation: how the site's utterances are prepared for it.
        unadapted: how they are prepared for the source model: without anything that an adaptation guessed.
        scores: scores of the committee ``[N, C]``.
        members: what became of each member in the last round.
    """

    networks: tuple[Network, ...]
    preparation: Preparation
    unadapted: Preparation
    scores: np.ndarray
    members: tuple[Adaptation, ...]


def adapt_site(
    build: Callable[[], Network],
    features: Sequence[np.ndarray],
    speakers: Sequence[str | None],
    feature_names: Sequence[str],
    *,
    mode: str,
    methods: Sequence[str],
    settings: AdaptSettings,
    seed: int,
    on_epoch: OnEpoch | None = None,
    finished: Finished | None = None,
    heard: Sequence[str | None] | None = None,
    given: GivenLabels | None = None,
) -> SiteAdaptation:
    """Adapt a source model to a site's unlabelled utterances.

    Args:
        build: makes a fresh copy of the source model.
        features: front-end output per utterance, ``[S]`` or ``[F, M]``.
        speakers: who speaks, None where unknown; counts in the mode ``speaker`` alone.
        feature_names: what each of the S numbers is; counts in the mode ``voice`` alone.
        mode: ``none``, ``corpus``, ``speaker`` or ``voice``.
        methods: names in ``METHODS``, one for each member of the committee.
        settings: how to adapt.
        seed: seed of shuffling, dropout and of the search for voices.
        on_epoch: called after each epoch of each member and round, epochs numbered through.
        finished: what an earlier run that was killed has adapted already; this one goes on with the same numbers.
        heard: the voice of each utterance as a speaker encoder heard it; counts in the mode ``voice`` alone, where
            None has the voices estimated from the statistics. The preparation is then given such names as speakers, and
            the scores are those that it gives: what later calls will see.
        given: classes of some of the utterances, where an operator gave them; every method must be in ``GUIDED``.

    Raises:
        UsageError: speaker normalization without a known speaker, or voices in frames.
    """
    columns = voice_columns(feature_names) if mode == "voice" else None
    unadapted = Preparation(normalizer=fit_normalizer("corpus" if mode == "voice" else mode, features, speakers))
    num_done = 0
    done = finished or NothingFinished()

    def epoch_done(record: EpochRecord, scores: np.ndarray) -> None:
        nonlocal num_done
        num_done += 1
        if on_epoch is not None:
            on_epoch(replace(record, epoch=num_done), scores)

    def adapt_to(inputs: Inputs, round_index: int) -> _Committee:
        networks, adaptations = [], []
        for member, method in enumerate(methods):
            networks.append(build())
            adaptation = done.load(round_index, member, networks[-1])
            if adaptation is None:
                own_seed = len(methods) * seed + member
                run = METHODS[method] if given is None else partial(GUIDED[method], given=given)
                adaptation = run(networks[-1], inputs, settings, seed=own_seed, on_epoch=epoch_done)
                done.keep(round_index, member, networks[-1], adaptation)
            else:
                for record in adaptation.records:
                    epoch_done(record, adaptation.scores)
            adaptations.append(adaptation)
        return _Committee(tuple(networks), tuple(adaptations), given)

    if set(methods) == {"none"} or num_rounds(mode, len(features)) == 1:
        return adapt_to(unadapted.inputs(features, speakers), 0).at_site(unadapted, unadapted)
    corpus = unadapted.normalizer.by_corpus()
    normalized = corpus.apply(features, speakers)
    committee = adapt_to(inputs_of(normalized), 0)
    if not np.isfinite(committee.scores).all():  # it diverged: nothing was learned that a next round could use
        return committee.at_site(unadapted, unadapted)
    ear, names, rows = None, speakers, None
    guessing: tuple[Network, ...] = ()
    if columns is not None and heard is not None:
        names, rows, guessing = heard, np.stack(normalized), committee.networks
    elif columns is not None:
        rows = np.stack(normalized)
        voices = find_voices(rows, committee.guesses, columns, seed=seed)
        ear = Ear(networks=committee.networks, corpus=corpus, voices=voices)
        names = voices.names(rows, committee.scores)
    for round_index in range(1, num_rounds(mode, len(features))):
        if rows is None:
            normalizer = normalize_by_speakers(corpus, features, names, committee.guesses)
        else:
            normalizer = normalize_by_voices(corpus, rows, names, committee.scores)
        committee = adapt_to(inputs_of(normalizer.apply(features, names)), round_index)
    if guessing:
        normalizer = replace(corpus, mode="voice")
    return committee.at_site(Preparation(normalizer=normalizer, ear=ear, guessing=guessing), unadapted)


class _Committee(NamedTuple):
    """Hold networks that were adapted alike, and what became of each."""

    networks: tuple[Network, ...]
    adaptations: tuple[Adaptation, ...]
    given: GivenLabels | None

    @property
    def scores(self) -> np.ndarray:
        return mean_scores([adaptation.scores for adaptation in self.adaptations])

    @property
    def guesses(self) -> np.ndarray:
        """Return what is known of the emotions: scores and given labels."""
        return self.scores if self.given is None else self.given.known(self.scores)

    def at_site(self, preparation: Preparation, unadapted: Preparation) -> SiteAdaptation:
        return SiteAdaptation(
            networks=self.networks,
            preparation=preparation,
            unadapted=unadapted,
            scores=self.scores,
            members=self.adaptations,
        )
