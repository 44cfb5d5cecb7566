//! The wire and disk formats, a cargo feature each, so that a program carries only the half it speaks:
//!
//! | feature | module | for |
//! |---|---|---|
//! | `node` | [`node`]: messages and clients | the CNI programs, tools |
//! | `node-server` | [`node`]: the server's half, the descriptors of reflection | the daemon |
//! | `journal` | `journal`: rows, and the codec between them and core's types | the daemon, the simulator |
//!
//! The `.proto` files are the reference; what is here is generated from them.

/// The API of the node's daemon: `node.proto`, package `spiderpool.node.v1`.
#[cfg(feature = "node")]
#[allow(missing_docs, unreachable_pub, clippy::all)] // generated
pub mod node {
    tonic::include_proto!("spiderpool.node.v1");

    /// The encoded `FileDescriptorSet` of `node.proto`, comments included: what gRPC server reflection serves.
    #[cfg(feature = "node-server")]
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/node.fds"));
}

#[cfg(feature = "journal")]
pub mod journal;
