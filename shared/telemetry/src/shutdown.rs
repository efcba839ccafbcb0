//! The signals that ask a program to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Registers for SIGTERM and SIGINT at once, then answers a future that ends with the first of them and says which.
///
/// Registering is separate from waiting so that a signal during start-up is not lost.
pub fn shutdown_signal() -> io::Result<impl Future<Output = &'static str> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_signal_sent_before_waiting_is_seen() {
        let signal = shutdown_signal().unwrap();
        let status = Command::new("kill")
            .args(["-TERM", &std::process::id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        let name = tokio::time::timeout(Duration::from_secs(5), signal)
            .await
            .unwrap();
        assert_eq!(name, "SIGTERM");
    }
}
