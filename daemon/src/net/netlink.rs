//! A blocking rtnetlink connection (rtnetlink(7)).
//!
//! The socket belongs to the namespace it was made in, whichever thread uses it. Requests are sent in bursts and
//! answered one by one.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use socket2::SockRef;
use spiderpool_cni::failpoint::{Point, reach};

use super::request::{self, Request};
use super::{NetError, PATIENCE, answer};

/// Greater than any message that the kernel makes (NLMSG_GOODSIZE and dumps of up to 32 KiB).
const BUFFER: usize = 64 << 10;

/// Requests in one burst: their answers must fit the socket's receive buffer. The kernel takes a burst whole, so a test
/// that ends the daemon within one has it sent in parts.
const BURST: usize = if cfg!(feature = "failpoints") { 1 } else { 64 };

/// Attempts at a dump that changes interrupt.
const ATTEMPTS: usize = 5;

/// A connection to the kernel.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// A connection to the namespace that the calling thread is in.
    ///
    /// # Errors
    /// The kernel has no socket to give.
    pub(crate) fn open() -> Result<Connection, NetError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Filters in dumps count only under the strict check; older kernels send more than was asked.
            socket.set_netlink_get_strict_chk(true)?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let socket = open().map_err(NetError::kernel("open a netlink socket"))?;
        Ok(Connection { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// All objects that a request asks for.
    ///
    /// # Errors
    /// The kernel refused, or was too busy to give a consistent answer.
    pub(super) fn dump(&mut self, request: &RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, NetError> {
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            let whole = self.ask(request, NLM_F_DUMP, |message| found.push(message))?;
            if whole {
                return Ok(found);
            }
        }
        Err(NetError::kernel("dump kernel objects, which change all the time")(io::ErrorKind::Interrupted.into()))
    }

    /// The one object that a request asks for; none if the kernel has none.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn get(&mut self, request: &RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>, NetError> {
        let mut found = None;
        match self.ask(request, NLM_F_ACK, |message| found = Some(message)) {
            Ok(_) => Ok(found),
            Err(NetError::Kernel { source, .. }) if is_absent(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The source that the kernel prefers towards an address; none without a route.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn preferred_source(&mut self, towards: IpAddr) -> Result<Option<IpAddr>, NetError> {
        Ok(self.get(&request::route_get(towards))?.as_ref().and_then(answer::preferred_source))
    }

    /// Sends requests in order; an answer for each. A failed one does not stop those after it.
    ///
    /// # Errors
    /// The connection itself failed: what was done is not known.
    pub(super) fn burst(&mut self, requests: Vec<Request>) -> Result<Vec<io::Result<()>>, NetError> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            for Request { message, flags } in requests.by_ref().take(BURST) {
                self.serialize(message, flags | NLM_F_ACK, &mut bytes);
            }
            reach(Point::KernelRequest);
            self.send(&bytes)?;
            for sequence in first..=self.sequence {
                answers.push(self.acknowledgement(sequence)?);
            }
        }
        Ok(answers)
    }

    fn serialize(&mut self, message: RouteNetlinkMessage, flags: u16, bytes: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut whole = NetlinkMessage::new(header, NetlinkPayload::from(message));
        whole.finalize();
        let start = bytes.len();
        // Each message of a burst starts on a boundary of four bytes (NLMSG_ALIGN).
        bytes.resize(start + whole.buffer_len().next_multiple_of(4), 0);
        whole.serialize(&mut bytes[start..]);
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetError> {
        self.socket.send(bytes, 0).map(drop).map_err(NetError::kernel("send to the kernel"))
    }

    fn receive(&mut self) -> Result<(), NetError> {
        self.buffer.clear();
        loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NetError::kernel("wait for the kernel's answer")(error)),
            }
        }
    }

    /// Sends one request and gives each answer to `each` until the last. False: the kernel says that the answers are
    /// not of one moment.
    fn ask(
        &mut self,
        request: &RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<bool, NetError> {
        let mut bytes = Vec::new();
        self.serialize(request.clone(), flags, &mut bytes);
        self.send(&bytes)?;
        let mut whole = true;
        loop {
            self.receive()?;
            let mut rest = self.buffer.as_slice();
            while let Some((frame, after)) = split(rest)? {
                rest = after;
                if frame.sequence_number() != self.sequence {
                    continue;
                }
                whole &= frame.flags() & NLM_F_DUMP_INTR == 0;
                match NetlinkMessage::<RouteNetlinkMessage>::deserialize(frame.into_inner()) {
                    Ok(message) => match message.payload {
                        NetlinkPayload::InnerMessage(inner) => each(inner),
                        NetlinkPayload::Done(done) => return verdict(done.code, &[]).map(|()| whole).map_err(told),
                        NetlinkPayload::Error(error) => {
                            return verdict(error.raw_code(), &error.header).map(|()| whole).map_err(told);
                        }
                        _ => {}
                    },
                    // An object with an attribute of a form that is not known yet is none of ours.
                    Err(error) => tracing::debug!(%error, "skipped a netlink message"),
                }
            }
        }
    }

    /// The answer to the request of a number.
    fn acknowledgement(&mut self, sequence: u32) -> Result<io::Result<()>, NetError> {
        loop {
            self.receive()?;
            let mut rest = self.buffer.as_slice();
            while let Some((frame, after)) = split(rest)? {
                rest = after;
                if frame.sequence_number() != sequence {
                    continue;
                }
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(frame.into_inner())?;
                if let NetlinkPayload::Error(error) = message.payload {
                    return Ok(verdict(error.raw_code(), &error.header));
                }
            }
        }
    }
}

/// One message of a datagram.
type Frame<'a> = NetlinkBuffer<&'a [u8]>;

/// The first message of a datagram, and the rest of it.
fn split(bytes: &[u8]) -> Result<Option<(Frame<'_>, &[u8])>, NetError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let length = NetlinkBuffer::new_checked(bytes)?.length() as usize;
    let (frame, _) = bytes.split_at(length);
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Ok(Some((NetlinkBuffer::new(frame), after)))
}

/// An error code as the kernel sends it, with its explanation if it gave one.
fn verdict(code: i32, original: &[u8]) -> io::Result<()> {
    /// `NLMSGERR_ATTR_MSG`.
    const TEXT: u16 = 1;
    /// The header of the refused request.
    const HEADER: usize = 16;
    if code == 0 {
        return Ok(());
    }
    let errno = Errno::from_raw(code.saturating_neg());
    let attributes = original.get(HEADER..).unwrap_or_default();
    let text = NlasIterator::new(attributes)
        .flatten()
        .find(|attribute| attribute.kind() == TEXT)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned());
    Err(match text {
        Some(text) => io::Error::new(io::Error::from(errno).kind(), Refusal { errno, text }),
        None => errno.into(),
    })
}

/// An error number with the kernel's own words.
#[derive(Debug, thiserror::Error)]
#[error("{errno} ({text})")]
struct Refusal {
    errno: Errno,
    text: String,
}

/// The number of an error that came from the kernel.
pub(super) fn errno(error: &io::Error) -> Option<Errno> {
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>());
    refusal.map(|refusal| refusal.errno).or_else(|| error.raw_os_error().map(Errno::from_raw))
}

/// Whether the kernel says that what was named is not there.
pub(super) fn is_absent(error: &io::Error) -> bool {
    use Errno::{EADDRNOTAVAIL, EHOSTUNREACH, ENETUNREACH, ENODEV, ENOENT, ENXIO, ESRCH};
    matches!(errno(error), Some(ENODEV | ENOENT | ENXIO | ESRCH | EADDRNOTAVAIL | ENETUNREACH | EHOSTUNREACH))
}

fn told(source: io::Error) -> NetError {
    NetError::Kernel { what: "ask the kernel".into(), source }
}
