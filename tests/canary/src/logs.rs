//! Everything that a test's own process logs, by whatever crate and at whatever level.

use std::io::Write;
use std::sync::Once;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt};

/// Looks at each line from now on. A secret ends the process at once: a panic would be caught where tasks are, and a test
/// that never looks at its logs cannot report it.
pub fn watch_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = fmt::layer().with_ansi(false).with_writer(|| Watch);
        Registry::default()
            .with(lines)
            .try_init()
            .expect("no other subscriber in a test that watches its logs");
    });
}

struct Watch;

impl Write for Watch {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if let Some(leak) = crate::find(line) {
            // Past the capture of tests' output, which would be lost with the process.
            let message = format!("a secret leaked into the log: {leak}\n");
            let _told = std::io::stderr().write_all(message.as_bytes());
            std::process::exit(101);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
