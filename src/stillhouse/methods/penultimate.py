"""Features by a trained network: what it makes of an example before its last layer. For methods that choose examples by them.

Zhao, Mopuri, Bilen (2021) choose their coresets by features of a network and do not say which; here it is a teacher, trained on
the whole real set, of the set's own seed. Features are those that its classifier sees: after the last activation and pooling.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field, PlainValidator
from torch import nn

from stillhouse import settings, spaces
from stillhouse.data import whitening
from stillhouse.features import identity
from stillhouse.methods import selection
from stillhouse.methods.matching import parts
from stillhouse.methods.selection import Embedding
from stillhouse.models import fitting, layers, training
from stillhouse.run import Run
from stillhouse.sets import RealSet

_READER = settings.plugin("models")


def _settings(raw: Any) -> Any:
    """Settings of a model, or None."""
    return None if raw is None else _READER.func(raw)


Model = Annotated[
    Any,
    PlainValidator(_settings),
    Field(
        description="a network, trained on the whole real set, whose values before the last layer are the features: a name under "
        "models; absent: `features` in `space`"
    ),
]


def check(model: Any, features: Any, space: Any) -> None:
    """Raise ValueError for a model that is no network, and for one beside a feature map or space that it would not use."""
    if model is None:
        return
    training.check_network(model)
    if features != identity.Params() or space != whitening.Standardised():
        raise ValueError("model has features and a space of its own. Take out features and space, or the model")


def teachers(model: Any) -> tuple[Any, ...]:
    """The models that must be trained on the real set first."""
    return () if model is None else (model,)


def embed(model: Any, features: Any, space: Any, real: RealSet, run: Run) -> Embedding:
    """How examples become rows: by a network that was trained as `model` says, or where there is none by a feature map."""
    return selection.embed(features, space, real, run) if model is None else trained(model, real, run)


def trained(model: Any, real: RealSet, run: Run) -> Embedding:
    """Features of the run's teacher of this model, seed and data, or of one trained here.

    They are computed in float32; layers that normalise over a batch use what they gathered in training.
    """
    network = training.build(model, real.shape, real.width)
    teacher = run.find_teacher(settings.dump(model), run.seed, real.fingerprint)
    if teacher is None:
        teacher = fitting.fit_real(network, real, model, run, layers.AT_ONCE)
    network.load_state_dict({name: each.to(run.device) for name, each in teacher.weights.items()}, assign=True)
    network.eval()
    before, last = nn.Sequential(*list(network)[:-1]), network[-1]
    assert isinstance(last, nn.Linear)
    space = spaces.from_settings(teacher.space)

    @torch.no_grad()
    def features(inputs: torch.Tensor) -> torch.Tensor:
        images = space.forward(inputs).to(torch.float32)
        return torch.cat([before(part) for part in parts(images)]).to(inputs.dtype)

    return Embedding(space, last.in_features, features)
