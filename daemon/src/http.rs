//! The HTTP port: figures for Prometheus, and the kubelet's probes, which know no Unix sockets.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::room::Room;

/// What the port answers from.
#[derive(Clone)]
pub(crate) struct Port {
    /// The state.
    pub keeper: Keeper,
    /// The disk of the state folder.
    pub room: Arc<Room>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Whether calls are served.
    pub serving: watch::Receiver<bool>,
}

/// Serves until `stop` is ready.
pub(crate) async fn serve(
    listener: TcpListener,
    port: Port,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/startupz", get(ready))
        .with_state(port);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn metrics(State(port): State<Port>) -> Response {
    let metrics = Arc::clone(&port.metrics);
    let measure = tokio::task::block_in_place(|| port.room.look());
    let text = port.keeper.look(move |node, _| {
        metrics.observe(node, measure, clock::now());
        metrics.text()
    });
    match text.await {
        Ok(Ok(text)) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(stopped) => (StatusCode::SERVICE_UNAVAILABLE, stopped.to_string()).into_response(),
    }
}

/// The keeper's thread answers: nothing hangs.
async fn alive(State(port): State<Port>) -> (StatusCode, &'static str) {
    match port.keeper.look(|_, _| ()).await {
        Ok(()) => (StatusCode::OK, "alive\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

async fn ready(State(port): State<Port>) -> (StatusCode, &'static str) {
    if *port.serving.borrow() {
        (StatusCode::OK, "serving\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not serving\n")
    }
}
