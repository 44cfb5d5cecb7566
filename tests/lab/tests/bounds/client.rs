//! A gRPC client on bare HTTP/2: as many calls at once as one likes, and answers that nobody reads. A call's message is
//! written field by field, since the lab shares no code with the product.

use anyhow::{Context, Result, anyhow, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// One connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection(SendRequest<Bytes>);

/// The outcome of a call of the service `Cni`.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A CNI result, as JSON text; empty for verbs that print nothing.
    Result(String),
    /// A CNI error, as JSON text.
    Error(String),
}

impl Connection {
    /// Connects; a full queue is waited for, as the programs do.
    pub(crate) async fn open(socket: &Path) -> Result<Self> {
        let stream = loop {
            match UnixStream::connect(socket).await {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                connected => break connected.with_context(|| format!("connect to {}", socket.display()))?,
            }
        };
        let (sender, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(sender))
    }

    /// Sends a call and leaves its answer where it is.
    pub(crate) async fn send(&self, method: &str, message: &[u8]) -> Result<ResponseFuture> {
        let request = http::Request::post(format!("http://lab/spiderpool.node.v1.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut framed = BytesMut::with_capacity(message.len() + 5);
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len())?);
        framed.put_slice(message);
        let (response, mut body) = self.0.clone().ready().await?.send_request(request, false)?;
        body.send_data(framed.freeze(), true)?;
        Ok(response)
    }

    /// Carries out a call of the service `Cni`.
    pub(crate) async fn cni(&self, verb: &str, message: &[u8]) -> Result<Reply> {
        let response = self.send(&format!("Cni/{verb}"), message).await?.await?;
        let message = read(response.into_body()).await?;
        let (field, text) = message.get(5..).and_then(<[u8]>::split_first).context("an empty answer")?;
        let length = text.iter().position(|byte| byte & 0x80 == 0).context("a message that ends early")?;
        let text = String::from_utf8(text[length + 1..].to_vec())?;
        match field {
            0x0a => Ok(Reply::Result(text)),
            0x12 => Ok(Reply::Error(text)),
            _ => Err(anyhow!("field {field:x} of an answer: {text}")),
        }
    }
}

/// The whole answer of a call that ended well.
async fn read(mut body: RecvStream) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        message.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len())?;
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let status = trailers.get("grpc-status").context("no grpc-status")?;
    ensure!(status == "0", "grpc-status {status:?}: {:?}", trailers.get("grpc-message"));
    Ok(message)
}

/// A text as field `number` of a message (protobuf, wire type 2).
pub(crate) fn text(message: &mut Vec<u8>, number: u8, value: impl AsRef<[u8]>) {
    message.push(number << 3 | 2);
    varint(message, value.as_ref().len() as u64);
    message.extend_from_slice(value.as_ref());
}

/// A number as field `number` of a message (protobuf, wire type 0).
pub(crate) fn number(message: &mut Vec<u8>, number: u8, value: u64) {
    message.push(number << 3);
    varint(message, value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
