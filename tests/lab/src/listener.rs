//! A TCP server that hears what is said and closes without an answer, as a DNS server does to HTTP.

use anyhow::{Context, Result};
use nix::sys::socket::{Shutdown, shutdown};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::namespace::Namespace;

/// Listens until it is dropped.
#[derive(Debug)]
pub struct SilentListener {
    socket: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl SilentListener {
    /// Listens on `port` of all addresses in `namespace`.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let socket = namespace
            .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?
            .with_context(|| format!("listen on port {port} in {}", namespace.name()))?;
        let socket = Arc::new(socket);
        let accepting = Arc::clone(&socket);
        let thread = thread::spawn(move || {
            // Ends with the error that `shutdown` below brings about.
            while let Ok((mut stream, _)) = accepting.accept() {
                // Closing with unread bytes would reset the connection: the client must see an orderly end.
                drop(stream.set_read_timeout(Some(Duration::from_secs(1))));
                drop(stream.read(&mut [0; 4096]));
            }
        });
        Ok(Self { socket, thread: Some(thread) })
    }
}

impl Drop for SilentListener {
    fn drop(&mut self) {
        // Wakes the thread that accepts; a socket that is closed already has none.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
