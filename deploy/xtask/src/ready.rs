//! Waiting until a program that was just started answers, and what to tell if it does not: the end of its log.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result, Trying};

const LOOK_EVERY: Duration = Duration::from_millis(25);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A program running beside this one.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) child: Rc<RefCell<Child>>,
    pub(crate) log: PathBuf,
}

impl Program {
    /// Looks until `answers` says yes; fails when the program ends or `limit` is over.
    pub(crate) fn wait_until(&mut self, limit: Duration, answers: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        while !answers() {
            if let Some(failure) = self.ended() {
                return Err(failure);
            }
            if started.elapsed() > limit {
                let text = format!("{} does not answer after {} s", self.name, limit.as_secs());
                return Err(Failure::new(format!("{text}{}", end_of_log(&self.log))));
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// A failure if the program is not running any more.
    pub(crate) fn ended(&mut self) -> Option<Failure> {
        match self.child.borrow_mut().try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(Failure::new(format!(
                "{} ended ({status}){}",
                self.name,
                end_of_log(&self.log)
            ))),
            Err(error) => Some(Failure::new(format!("cannot watch {}: {error}", self.name))),
        }
    }
}

/// The last lines of a log, to follow a message.
pub(crate) fn end_of_log(log: &Path) -> String {
    const LINES: usize = 12;
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
    format!("; the end of {}:\n  {}", log.display(), tail.join("\n  "))
}

/// Whether something accepts connections there.
pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, ANSWER_WITHIN).is_ok()
}

/// Whether `GET path` is answered with 200.
pub(crate) fn answers_ok(address: SocketAddr, path: &str) -> bool {
    let get = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut status_line = [0; 12];
        stream.read_exact(&mut status_line)?;
        Ok(status_line.ends_with(b" 200"))
    };
    get().unwrap_or(false)
}

/// A loopback address to listen on: the wished port if it is free, else any. Somebody may take it before our program
/// does, which then fails to start and says so.
pub(crate) fn free_address(wished: u16) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", wished)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    listener
        .and_then(|listener| listener.local_addr())
        .trying(|| "find a free port".to_owned())
}
