//! One connection: perhaps a handshake, then hyper, the watch, and the end of both.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;
use tracing::debug;

use super::HttpConfig;
use super::listener::Arrived;
use super::routes::ArrivedAt;
use super::watch::{Busy, Watch};
use crate::limits;

/// Serves a connection until it ends, is overdue, or has finished its request while the server drains.
pub(super) async fn serve_connection(
    arrived: Arrived,
    router: Router,
    config: &HttpConfig,
    draining: watch::Receiver<bool>,
) {
    let Arrived { stream, at, tls } = arrived;
    if let Err(error) = stream.send_at_once() {
        debug!(%error, "failed to switch off write coalescing of a connection");
    }
    let (socket, watch) = Watch::over(stream, config.head_timeout, config.write_stall_max);
    let Some(tls) = tls else { return speak(socket, watch, at, router, config, draining).await };
    // It counts as a connection from its first byte on, so that as many are under way as may be open.
    let handshake = TlsAcceptor::from(Arc::clone(&tls.0)).accept(socket);
    match tokio::time::timeout(config.handshake_timeout, handshake).await {
        Ok(Ok(stream)) => {
            watch.greeted();
            speak(stream, watch, at, router, config, draining).await;
        }
        Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
        Err(_elapsed) => debug!("a TLS handshake took too long"),
    }
}

/// Speaks HTTP on what `watch` looks after.
async fn speak(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    watch: Watch,
    arrived_at: ArrivedAt,
    router: Router,
    config: &HttpConfig,
    mut draining: watch::Receiver<bool>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let busy = watch.busy();
        let mut request = request.map(|body| watch.body(body));
        request.extensions_mut().insert(arrived_at);
        // A router is always ready, and cheap to clone.
        let response = router.clone().call(request);
        async move {
            let response: Response<Body> = response.await?;
            Ok::<_, Infallible>(response.map(|body| Watched { body, _busy: busy }))
        }
    });
    // hyper closes a connection that has carried nothing yet when told to shut down: one that comes during the drain,
    // a probe's, is not told but gets one answer.
    let mut is_draining = *draining.borrow();
    let connection = http1::Builder::new()
        .keep_alive(!is_draining)
        .timer(TokioTimer::new())
        .header_read_timeout(config.idle_timeout)
        .max_headers(limits::HEADERS_MAX)
        .max_header_size(limits::HEAD_BYTES_MAX)
        .max_buf_size(limits::CONNECTION_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);

    loop {
        tokio::select! {
            ended = &mut connection => {
                match ended {
                    Ok(()) => watch.linger().await,
                    Err(error) => debug!(%error, "a connection ended early"),
                }
                return;
            }
            // Dropping the connection drops what it was answering, and that gives the slot back.
            why = watch.overdue() => {
                debug!(?why, "a connection was given up");
                return;
            }
            () = told_to_drain(&mut draining), if !is_draining => {
                is_draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn told_to_drain(draining: &mut watch::Receiver<bool>) {
    // An error says that the server is gone, which comes to the same.
    let _told = draining.wait_for(|is_draining| *is_draining).await;
}

/// A response's body, during which the connection is busy.
struct Watched {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
