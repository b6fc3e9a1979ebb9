"""Where models come from. A new scheme is one module here and one line in SCHEMES."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nereus.api.protocol import SCHEME_ENSEMBLE, SCHEME_MEMBER, ModelPlan
from nereus.sidecar.fetch import configmap, https, member, nothing, pvc, remote
from nereus.sidecar.fetch.base import FetchContext, FetchError, Limits, Progress, Source, SourceFactory
from nereus.sidecar.logs import redact

__all__ = ["SCHEMES", "FetchContext", "FetchError", "Limits", "Progress", "Source", "source_of"]

SCHEMES: Mapping[str, SourceFactory] = MappingProxyType(
    {
        "configmap": configmap.ConfigMapSource,
        "https": https.HttpsSource,
        "pvc": pvc.ClaimSource,
        "s3": remote.RemoteSource,
        "gs": remote.RemoteSource,
        "hf": remote.RemoteSource,
        SCHEME_ENSEMBLE: nothing.NoSource,
        SCHEME_MEMBER: member.MemberSource,
    }
)


def source_of(model: ModelPlan, context: FetchContext) -> Source:
    """The source that a model's plan names. Raises FetchError for a scheme that this sidecar does not know."""
    scheme = model.source.partition("://")[0]
    factory = SCHEMES.get(scheme)
    if factory is None:
        known = ", ".join(f"{name}://" for name in SCHEMES if name not in (SCHEME_ENSEMBLE, SCHEME_MEMBER))
        raise FetchError(
            f"{redact(model.source)}: this sidecar fetches from {known} only; is it older than the operator?"
        )
    return factory(model, context)
