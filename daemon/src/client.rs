//! The verbs that ask a running daemon: over its socket, with a time limit, and with an error that says what to do.

use std::error::Error;
use std::future::Future;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use spiderpool_cni::cause::{innermost, io_error};
use spiderpool_proto::node::inspect_client::InspectClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon's operators' views.
pub(crate) type Inspect = InspectClient<Channel>;

/// Asks the daemon behind a socket and prints what came of it.
pub(crate) fn ask<F: Future<Output = anyhow::Result<String>>>(
    socket: &Path,
    questions: impl FnOnce(Inspect) -> F,
) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let answered = async { questions(connect(socket).await?).await };
    let text = runtime.block_on(async { tokio::time::timeout(PATIENCE, answered).await }).map_err(|_| {
        let (socket, seconds) = (socket.display(), PATIENCE.as_secs());
        anyhow!("the daemon at {socket} did not answer within {seconds} s; see its log: journalctl -u spiderpool-agent")
    })??;
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// A call of the service in one line: the answer, or its refusal in words for people.
pub(crate) fn told<T>(answer: Result<Response<T>, Status>) -> anyhow::Result<T> {
    let status = match answer {
        Ok(answer) => return Ok(answer.into_inner()),
        Err(status) => status,
    };
    match status.code() {
        Code::Unimplemented => Err(anyhow!("the daemon is of another version than this program; restart it")),
        Code::NotFound | Code::InvalidArgument => Err(anyhow!("{}", status.message())),
        code => Err(anyhow!("the daemon refused: {code}: {}", status.message())),
    }
}

/// The views of a daemon that answers there.
async fn connect(socket: &Path) -> anyhow::Result<Inspect> {
    let shown = socket.display();
    let refused = |error: &(dyn Error + 'static)| {
        let reason = innermost(error);
        match io_error(error).map(io::Error::kind) {
            Some(ErrorKind::PermissionDenied) => anyhow!("cannot open {shown}: {reason}; only root may: use sudo"),
            _ => anyhow!(
                "no daemon serves {shown}: {reason}; start it (systemctl start spiderpool-agent; its log: journalctl -u \
                 spiderpool-agent), or name its socket with --socket"
            ),
        }
    };
    let endpoint = Endpoint::from_shared(format!("unix://{shown}")).map_err(|error| refused(&error))?;
    let channel = endpoint.connect().await.map_err(|error| refused(&error))?;
    // An answer is bounded by the daemon; a plan with many interfaces is the largest one.
    Ok(InspectClient::new(channel).max_decoding_message_size(64 << 20))
}
