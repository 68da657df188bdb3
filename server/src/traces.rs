//! Traces of requests for OpenTelemetry, sent by OTLP over HTTP.

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use axum::http::HeaderMap;
use bytes::Bytes;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Filter;
use tracing_subscriber::registry::LookupSpan;
use veche_fetch::{Client, Limits};

use crate::config::Telemetry;

/// How we are called among other services.
const SERVICE: &str = "veche";

/// How long the last traces may take to leave.
const END_WAIT: Duration = Duration::from_secs(5);

/// Traces on their way.
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

/// Sends within the runtime, whichever thread asks: traces are gathered in one of their own.
#[derive(Debug)]
struct Sender {
    runtime: Handle,
    client: Client,
}

impl Traces {
    /// Where they are wanted. Call it within the runtime.
    pub(crate) fn start(telemetry: &Telemetry) -> Result<Option<Self>> {
        let endpoint = telemetry.otlp_endpoint.as_str();
        if endpoint.is_empty() {
            return Ok(None);
        }
        let sender = Sender { runtime: Handle::current(), client: Client::new(Limits::default())? };
        let exporter =
            SpanExporter::builder().with_http().with_http_client(sender).with_endpoint(endpoint).build();
        let exporter = exporter.with_context(|| format!("telemetry.otlp_endpoint = \"{endpoint}\""))?;
        // Who asks us may have decided already.
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(telemetry.otlp_sample)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(Resource::builder().with_service_name(SERVICE).build())
            .build();
        Ok(Some(Self(provider)))
    }

    /// What takes spans out of the log.
    pub(crate) fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer().with_tracer(self.0.tracer(SERVICE))
    }

    /// Sends what is left. Not within the runtime, which has to send it.
    pub(crate) fn end(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(END_WAIT) {
            tracing::warn!("the last traces were not sent: {error}");
        }
    }
}

/// Our own spans, whatever the log's filter is.
pub(crate) fn filter<S>() -> impl Filter<S> {
    let is_ours = |about: &Metadata<'_>| about.target().starts_with(SERVICE) && *about.level() <= Level::INFO;
    FilterFn::new(is_ours)
}

/// Continues the trace that the request belongs to, where it names one (W3C Trace Context).
pub(crate) fn adopt(span: &Span, headers: &HeaderMap) {
    if headers.contains_key("traceparent") {
        let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // Where no traces are wanted, there is nobody to tell.
        let _ = span.set_parent(context);
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let headers =
                parts.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
            let headers: Vec<_> = headers.collect();
            client.post(&parts.uri.to_string(), &headers, body).await
        });
        let answer = sent.await??;
        Ok(Response::builder().status(answer.status).body(answer.body)?)
    }
}
