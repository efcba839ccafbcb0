//! Logs go to stderr, so that stdout stays what a command prints.

use std::io::IsTerminal as _;

use rag_settings::{LogFormat, TelemetrySettings};
use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum LogsError {
    #[error("RUST_LOG is not a log filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("logging is already set up")]
    AlreadySetUp(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets the process-wide subscriber. Call once, before anything logs.
pub fn init_logs(settings: &TelemetrySettings) -> Result<(), LogsError> {
    subscriber(settings, std::io::stderr, std::io::stderr().is_terminal())?.try_init()?;
    Ok(())
}

fn subscriber<W>(
    settings: &TelemetrySettings,
    writer: W,
    colours: bool,
) -> Result<impl Subscriber + Send + Sync + use<W>, LogsError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&settings.log_filter)?;
    let lines = fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.log_format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
    };
    Ok(Registry::default().with(lines).with(filter))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str) -> String {
        let sink = Sink::default();
        let settings = TelemetrySettings {
            log_format: format,
            log_filter: filter.to_owned(),
        };
        let writer = sink.clone();
        let subscriber = subscriber(&settings, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", request_id = "r-1");
            span.in_scope(|| tracing::info!(answer = 42, "hello"));
            tracing::debug!("quiet");
        });
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_lines_carry_fields_and_obey_the_filter() {
        let text = logged(LogFormat::Text, "info");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("hello") && text.contains("answer=42") && text.contains("request_id=\"r-1\""),
            "{text}"
        );
        assert_eq!(logged(LogFormat::Text, "debug").lines().count(), 2);
    }

    #[test]
    fn json_lines_are_flat() {
        let text = logged(LogFormat::Json, "info");
        assert!(text.starts_with('{') && text.trim_end().ends_with('}'), "{text}");
        assert!(
            text.contains(r#""message":"hello""#) && text.contains(r#""answer":42"#),
            "{text}"
        );
        assert!(text.contains(r#""request_id":"r-1""#), "{text}");
    }

    #[test]
    fn a_bad_filter_is_an_error() {
        let settings = TelemetrySettings {
            log_format: LogFormat::Text,
            log_filter: "a=b=c".to_owned(),
        };
        assert!(matches!(
            subscriber(&settings, std::io::stderr, false),
            Err(LogsError::Filter(_))
        ));
    }
}
