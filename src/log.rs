//! What the courier and the commands for people do, step by step: events and spans of the crate `tracing`, printed through
//! [`say`](crate::say) as far as `--log` wants them. Init has no part in it: it would have to allocate.
//!
//! From `info` upwards a line is the message alone, for operators. At `debug` it also tells in which visit, at which entry,
//! and with what figures.

#![forbid(unsafe_code)]

use crate::say::{self, Level};
use std::fmt::{Debug, Write as _};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// From here on what this process tells is printed. Called once the form of the lines is known; a second time does nothing.
pub fn begin() {
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Printed));
}

/// The layer that prints.
struct Printed;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Printed {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let is_ours = metadata.target().starts_with(env!("CARGO_PKG_NAME"));
        is_ours && (metadata.is_span() || say::wanted(level(metadata.level())))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = level(event.metadata().level());
        if level > Level::Debug {
            return say::say(level, &fields.message);
        }
        let mut line = String::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let inside = span.extensions().get::<Fields>().map(|fields| fields.rest.clone()).unwrap_or_default();
            let _ = write!(line, "{}[{}]: ", span.name(), inside.trim_start());
        }
        line += &fields.message;
        line += &fields.rest;
        say::say(level, &line);
    }
}

fn level(level: &tracing::Level) -> Level {
    match *level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
    }
}

/// The message of an event, and ` name=value` of all else.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.rest, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Collects what the fields of events come to.
    struct Collected(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Collected {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.0.lock().unwrap().push(format!("{}|{}", fields.message, fields.rest));
        }
    }

    #[test]
    fn a_message_stands_alone_and_figures_behind_it() {
        let said = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Collected(Arc::clone(&said)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("the report {} waits", 7);
            tracing::debug!(code = 200, took = ?std::time::Duration::from_millis(3), "answered");
        });
        assert_eq!(*said.lock().unwrap(), ["the report 7 waits|", "answered| code=200 took=3ms"]);
    }
}
