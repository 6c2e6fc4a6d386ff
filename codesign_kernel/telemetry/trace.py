"""Traces for an OpenTelemetry collector, where one is named and the packages of the extra ``trace`` are there.

Without an endpoint every span is nothing at all. A request that brings a ``traceparent`` goes on in its trace; jobs and
kernels get one to go on with. Attributes are numbers and words of ours: routes, states, random names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codesign_kernel.errors import MissingPackageError
from codesign_kernel.telemetry.log import scrub

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_PARENT = "traceparent"


class Tracer:
    """Makes spans and sends them off.

    Args:
        endpoint: the collector's address for OTLP over HTTP, such as ``http://127.0.0.1:4318/v1/traces``; "" for none.
        version: of this release.
        exporter: where spans go instead of an endpoint.

    Raises:
        MissingPackageError: an endpoint is named, and OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str = "", version: str = "", exporter: SpanExporter | None = None) -> None:
        self._provider: Any = None
        if not endpoint and exporter is None:
            return
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        except ImportError as error:
            raise MissingPackageError(
                "otlp_endpoint is set, and traces need OpenTelemetry, which is not installed: "
                'pip install -c constraints.txt -e ".[trace]", or leave otlp_endpoint empty'
            ) from error
        about = Resource.create({"service.name": "codesign-gateway", "service.version": version})
        self._provider = TracerProvider(resource=about)
        self._provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint)) if exporter is None else SimpleSpanProcessor(exporter)
        )
        self._tracer = self._provider.get_tracer("codesign_kernel")

    @property
    def on(self) -> bool:
        """Whether spans are made."""
        return self._provider is not None

    @contextmanager
    def span(self, name: str, parent: Mapping[str, str] | None = None, **attributes: Any) -> Iterator[Span | None]:
        """A span around what is done inside; ``None`` where there is no tracing.

        Args:
            name: a word of ours: a route pattern, ``job explore``, ``kernel start``.
            parent: headers of a request, or what :meth:`carried` gave: the trace goes on from there.
            attributes: numbers and words; texts are scrubbed.
        """
        if not self.on:
            yield None
            return
        from opentelemetry.trace import SpanKind

        kind = SpanKind.SERVER if parent is not None else SpanKind.INTERNAL
        with self._tracer.start_as_current_span(name, _context(parent), kind, _words(attributes)) as span:
            yield span

    def begin(self, name: str, parent: Mapping[str, str] | None = None, *, inside: bool = False) -> Span | None:
        """A span that :meth:`end` ends, for what begins and ends in different calls.

        With ``inside``, what follows in this task or thread is inside of it: for a task that ends with the span.
        """
        if not self.on:
            return None
        from opentelemetry.context import attach
        from opentelemetry.trace import SpanKind, set_span_in_context

        span: Span = self._tracer.start_span(name, _context(parent), SpanKind.SERVER)
        if inside:
            attach(set_span_in_context(span))
        return span

    def end(self, span: Span | None, *, failed: bool = False, name: str = "", **attributes: Any) -> None:
        """End it; ``None`` is no span."""
        if span is None:
            return
        from opentelemetry.trace import StatusCode

        span.set_attributes(_words(attributes))
        if name:
            span.update_name(name)
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end()

    def past(
        self, name: str, seconds: float, parent: Mapping[str, str], *, failed: bool = False, **attributes: Any
    ) -> None:
        """A span of what has just ended, and took so long."""
        if not self.on:
            return
        began_ns = time.time_ns() - int(1e9 * seconds)
        self.end(self._tracer.start_span(name, _context(parent), start_time=began_ns), failed=failed, **attributes)

    def carried(self, span: Span | None = None) -> dict[str, str]:
        """``{"traceparent": ...}`` of a span, or of the one that we are in, to hand to another process."""
        if not self.on:
            return {}
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        context = None if span is None else set_span_in_context(span)
        TraceContextTextMapPropagator().inject(carrier, context)
        return carrier

    def close(self) -> None:
        """Send what is left, and stop."""
        if self._provider is not None:
            self._provider.shutdown()


def _context(parent: Mapping[str, str] | None) -> Any:
    """The context that a ``traceparent`` names; a malformed one names none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if parent is None:
        return None  # inside the span that we are in
    given = parent.get(_PARENT) or parent.get("Traceparent") or ""
    return TraceContextTextMapPropagator().extract({_PARENT: given}, context=Context()) if given else Context()


def _words(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, (bool, int, float)) else scrub(str(value)) for key, value in attributes.items()
    }
