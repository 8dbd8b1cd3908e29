"""What one layer installs on one platform: the question to uv, under the layer's policy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stackbuild.lock.explain import check_tags, diagnose
from stackbuild.lock.model import Inherited, LeftOut
from stackbuild.lock.problems import Failure, MissingWheel
from stackbuild.lock.sources import Sources, plain_requirement, source_needed
from stackbuild.lock.uv import UnresolvableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.model import LayerLock
    from stackbuild.lock.uv import Answer, Found, Question, Uv
    from stackbuild.spec.model import Layer, Policy

_TRIALS = 8
"""How many requirements are tried by themselves at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a layer has, and what it does without."""

    own: Sequence[Found] = ()
    inherited: tuple[Inherited, ...] = ()
    skipped: tuple[LeftOut, ...] = ()
    omitted: tuple[LeftOut, ...] = ()


@dataclass(slots=True, kw_only=True)
class Chooser:
    """Makes the choice for one layer on one platform."""

    uv: Uv
    ask: Callable[[Question], Answer]
    """How uv is asked for the whole layer."""
    layer: Layer
    policy: Policy
    lower: Sequence[LayerLock]
    sources: Sources
    omitted: dict[NormalizedName, str] = field(default_factory=dict)

    def choose(self, question: Question) -> Choice | Failure:
        """The answer to `question`, which holds no policy yet, or why there is none."""
        git = self.sources.of(question.requirements)
        question = replace(
            question,
            requirements=tuple(map(plain_requirement, question.requirements)),
            stand_ins={*self.policy.skip, *self.policy.from_source, *git},
            overrides=self.policy.overrides,
            without_dependencies=self.policy.no_deps,
        )
        while True:
            outcome = self._attempt(question, self.ask)
            if not isinstance(outcome, Failure):
                return self._choice(outcome)
            if self.policy.resolution.strict_missing or not outcome.is_missing:
                return outcome
            broken = self._broken(question)
            if not broken:
                return outcome
            self.omitted |= broken
            left = [text for text in question.requirements if _name(text) not in broken]
            question = replace(question, requirements=tuple(left))

    def _attempt(self, question: Question, ask: Callable[[Question], Answer]) -> Answer | Failure:
        try:
            answer = ask(question)
        except UnresolvableError as error:
            failure = diagnose(self.uv, question, error, self.layer, self.lower)
        else:
            built = [name for name in answer.missed if name not in self.policy.skip]
            if built:
                return source_needed(built[0], question, self.layer, self.sources)
            own = split(answer.found, self.lower)[0]
            failed = check_tags(self.layer, question.target, own)
            if failed is None:
                return answer
            failure = failed
        missing = failure.problem
        if isinstance(missing, MissingWheel) and self.policy.may_build(missing.name):
            return source_needed(missing.name, question, self.layer, self.sources)
        return failure

    def _broken(self, question: Question) -> dict[NormalizedName, str]:
        """The requirements that cannot be had by themselves, each with the reason."""

        def reason(text: str) -> str | None:
            outcome = self._attempt(replace(question, requirements=(text,)), self.uv.ask)
            missing = isinstance(outcome, Failure) and outcome.is_missing
            return outcome.in_short() if isinstance(outcome, Failure) and missing else None

        with ThreadPoolExecutor(_TRIALS) as pool:
            reasons = list(pool.map(reason, question.requirements))
        return {
            _name(text): why
            for text, why in zip(question.requirements, reasons, strict=True)
            if why is not None
        }

    def _choice(self, answer: Answer) -> Choice:
        own, inherited = split(answer.found, self.lower)
        skipped = {name: self.policy.skip[name] for name in answer.missed}
        return Choice(
            own=own,
            inherited=inherited,
            skipped=_left_out(skipped),
            omitted=_left_out(self.omitted),
        )


def split(
    found: Sequence[Found], lower: Sequence[LayerLock]
) -> tuple[list[Found], tuple[Inherited, ...]]:
    """What the layer installs itself, and what it takes from the layers below."""
    owners: dict[NormalizedName, str] = {}
    for lock in lower:
        for item in lock.distributions:
            owners.setdefault(item.name, lock.layer)
    own = [item for item in found if item.name not in owners]
    inherited = tuple(
        Inherited(name=item.name, version=item.version, layer=owners[item.name])
        for item in found
        if item.name in owners
    )
    return own, inherited


def _left_out(reasons: Mapping[NormalizedName, str]) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(name=name, reason=reasons[name]) for name in sorted(reasons))


def _name(requirement: str) -> NormalizedName:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return canonicalize_name(Requirement(requirement).name)
