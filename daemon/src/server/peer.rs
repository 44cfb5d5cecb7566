//! Who may call: root alone. The socket's folder and mode keep others out already; this holds if somebody loosens them.

use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

/// Refuses peers that are not root (SO_PEERCRED, unix(7)).
pub(crate) fn only_root(request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match peer.map(|peer| peer.uid()) {
        Some(0) => Ok(request),
        Some(uid) => Err(Status::permission_denied(format!("uid {uid} may not call this daemon; root may"))),
        None => Err(Status::permission_denied("the caller cannot be told; call over the Unix socket")),
    }
}
