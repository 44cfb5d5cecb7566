//! A packet socket (packet(7)) on one interface of a namespace.

use std::io::{self, Read as _};
use std::mem::size_of;
use std::os::fd::{AsRawFd, RawFd};
use std::thread;

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::NetError;
use super::frame::{ADVERTISEMENT, ETHERTYPE_ARP, ETHERTYPE_IPV6, ICMPV6, MESSAGE, NEXT_HEADER, SOLICITATION};
use super::namespace::Namespace;

/// Longest frame that says something of an address, and more.
const FRAME: usize = 256;

/// A socket that sends frames, and may hear those that say who has an address. It keeps the namespace it was made in.
#[derive(Debug)]
pub(super) struct Wire {
    /// None only while it is being closed.
    socket: Option<Socket>,
    index: u32,
}

impl Wire {
    /// A socket that sends and hears nothing.
    ///
    /// # Errors
    /// The kernel has no socket to give.
    pub(super) fn open(namespace: &Namespace, index: u32) -> Result<Wire, NetError> {
        // Protocol 0: it receives nothing until it is bound to another.
        let open = || Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)));
        let socket = namespace.enter(open)?.map_err(NetError::kernel("open a packet socket"))?;
        Ok(Wire { socket: Some(socket), index })
    }

    /// From now on ARP and Neighbor Discovery are heard, of every group, and can be waited for. Call it in a runtime.
    ///
    /// # Errors
    /// The kernel refused.
    #[allow(unsafe_code)]
    pub(super) fn listen(self) -> Result<AsyncFd<Wire>, NetError> {
        let listen = || -> io::Result<()> {
            let socket = self.socket()?;
            socket.set_nonblocking(true)?;
            // Before it hears anything, so that nothing else ever lies in its buffer.
            socket.attach_filter(&neighbour_frames())?;
            hear_all_groups(socket.as_raw_fd(), self.index)?;
            socket.bind(&link_address(self.index, libc::ETH_P_ALL as u16)?)
        };
        listen().map_err(NetError::kernel("listen to an interface"))?;
        // SAFETY: the socket is owned, so its descriptor is open, and the same, for as long as the wire is there.
        let waiting = unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) };
        waiting.map_err(|error| NetError::kernel("wait for frames")(error.into()))
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The kernel refused: the interface is down, or gone.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket()?.send_to(frame, &link_address(self.index, 0)?).map(drop)
    }

    /// The next frame, cut to a length that is enough to read it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: none is there. Else the interface went down, or is gone.
    pub(super) fn receive(&self) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; FRAME];
        let length = self.socket()?.read(&mut frame)?;
        frame.truncate(length);
        Ok(frame)
    }

    fn socket(&self) -> io::Result<&Socket> {
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Wire {
    /// The kernel takes milliseconds to close a packet socket: nobody need wait for it, if there is a thread to do it.
    fn drop(&mut self) {
        let socket = self.socket.take();
        let _ = thread::Builder::new().name("wire".into()).spawn(move || drop(socket));
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

/// A program for the kernel (Documentation/networking/filter.rst) that lets ARP, solicitations and advertisements pass,
/// but not those of another VLAN, whose tag the kernel has put aside.
fn neighbour_frames() -> [SockFilter; 13] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const VLAN: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32;
    const IS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // The two numbers of a comparison say how many instructions are left out if it holds, and if not.
    [
        SockFilter::new(LOAD_WORD, 0, 0, VLAN),
        // Without the priority; 0 is no VLAN.
        SockFilter::new(AND, 0, 0, 0xfff),
        SockFilter::new(IS, 0, 9, 0),
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(IS, 6, 0, ETHERTYPE_ARP.into()),
        SockFilter::new(IS, 0, 6, ETHERTYPE_IPV6.into()),
        // With the hop limit behind it.
        SockFilter::new(LOAD_HALF, 0, 0, NEXT_HEADER as u32),
        SockFilter::new(IS, 0, 4, u32::from_be_bytes([0, 0, ICMPV6, 255])),
        SockFilter::new(LOAD_BYTE, 0, 0, MESSAGE as u32),
        SockFilter::new(IS, 1, 0, SOLICITATION.into()),
        SockFilter::new(IS, 0, 1, ADVERTISEMENT.into()),
        SockFilter::new(RETURN, 0, 0, FRAME as u32),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Has the interface take in frames to every group, until the socket is closed.
#[allow(unsafe_code)]
fn hear_all_groups(socket: RawFd, index: u32) -> io::Result<()> {
    let wanted = libc::packet_mreq {
        mr_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        mr_type: libc::PACKET_MR_ALLMULTI as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // SAFETY: the descriptor is open, and the pointer is to a local of the size that the kernel is told.
    let answer = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const wanted).cast(),
            size_of::<libc::packet_mreq>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An interface, for frames of an Ethernet type or, when sending, of the one that they say themselves.
#[allow(unsafe_code)]
fn link_address(index: u32, protocol: u16) -> io::Result<SockAddr> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the storage is zeroed, larger than a sockaddr_ll, aligned for any socket address, and the length that
    // is set is that of the sockaddr_ll written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*link).sll_ifindex = index;
            (*link).sll_protocol = protocol.to_be();
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}
