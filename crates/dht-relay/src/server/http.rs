//! HTTP connections.

use core::convert::Infallible;
use core::net::IpAddr;
use core::pin::pin;
use core::time::Duration;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use async_io::{Async, Timer};
use dht_pkarr::{PublicKey, SignedPacket};
use futures_lite::{FutureExt as _, future};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::patience::Patience;
use super::stream::Stream;
use super::turns::Turns;
use super::{PAUSE, Shared, Tasks};
use crate::backend::Backend;
use crate::http::{MAX_BODY_LEN, Publication, Reply, Step, user};

/// A client may take this long for the head of a request, or to begin the next one.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// And this long for its body.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// A connection is closed after this time, at the end of a request: whoever reads nothing of what is
/// sent to him would keep it for ever.
const LIFETIME: Duration = Duration::from_secs(600);
/// The last request of a connection may take this long.
const CLOSE_PATIENCE: Duration = Duration::from_secs(60);
/// Headers of a request, at most.
const MAX_HEADERS: usize = 64;
/// What is read ahead of a connection; a request's head is shorter.
const MAX_BUFFER: usize = 16 * 1024;
/// Takes connections until it is dropped.
pub(super) async fn accept<B: Backend>(
    shared: Arc<Shared<B>>,
    tasks: Tasks,
    listener: Async<TcpListener>,
    metrics: bool,
) {
    let mut turns = Turns::default();
    loop {
        turns.took_one().await;
        let Ok((stream, peer)) = listener.accept().await else {
            Timer::after(PAUSE).await;
            continue;
        };
        let slot =
            if metrics { shared.metrics.take() } else { shared.http.take_for(peer.ip().into()) };
        // Closing at once costs least.
        let Some(slot) = slot else { continue };
        let (shared, stopped) = (Arc::clone(&shared), tasks.stopped.clone());
        tasks.begin(async move {
            let stop = async {
                let _closed = stopped.recv().await;
            };
            serve(shared, stream, peer.ip(), metrics, stop).await;
            drop(slot);
        });
    }
}

/// Serves a connection until it ends; after `stop`, until its present request is answered.
async fn serve<B: Backend>(
    shared: Arc<Shared<B>>,
    stream: Async<TcpStream>,
    peer: IpAddr,
    metrics: bool,
    stop: impl Future<Output = ()>,
) {
    drop(stream.get_ref().set_nodelay(true));
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let reply = if metrics {
                measure(&shared, &request).await
            } else {
                respond(&shared, peer, request).await
            };
            Ok::<_, Infallible>(reply.map(|body| Full::new(Bytes::from(body))))
        }
    });
    let patience = Patience::new(HEAD_PATIENCE);
    let connection = http1::Builder::new()
        .timer(patience.clone())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(Stream::new(stream), service);
    let mut connection = pin!(connection);
    let ended = async {
        // How a connection ends is its client's business.
        let ended = async { drop(connection.as_mut().await) };
        future::or(ended, patience.watch()).await;
        true
    };
    let stopped = async {
        future::or(stop, after(LIFETIME)).await;
        false
    };
    if !future::or(ended, stopped).await {
        connection.as_mut().graceful_shutdown();
        let ended = async { drop(connection.await) };
        let late = future::or(patience.watch(), after(CLOSE_PATIENCE));
        future::or(ended, late).await;
    }
}

async fn after(time: Duration) {
    Timer::after(time).await;
}

async fn measure<B: Backend>(shared: &Shared<B>, request: &Request<Incoming>) -> Reply {
    let mut reply = Response::new(Vec::new());
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    match request.uri().path() {
        "/metrics" if reads => {
            *reply.body_mut() = shared.metrics().await.into_bytes();
            let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            reply.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        }
        "/metrics" => *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED,
        _ => *reply.status_mut() = StatusCode::NOT_FOUND,
    }
    reply
}

async fn respond<B: Backend>(
    shared: &Arc<Shared<B>>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Reply {
    let (parts, body) = request.into_parts();
    let admitted = {
        let mut front = shared.front();
        let user = user(peer, &parts.headers, front.options().behind_proxy);
        front.admit_http(shared.now(), user, &parts.method, &parts.headers)
    };
    // Whoever is over his quota is not waited for.
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(reply) => return *reply,
    };
    let takes_body = [Method::PUT, Method::POST].contains(&parts.method);
    let Some(body) = (if takes_body { read(body).await } else { Some(Vec::new()) }) else {
        return shared.front().handle_http_late(admitted);
    };
    let request = Request::from_parts(parts, &*body);
    let mut step = {
        let cached = |key: &PublicKey| shared.known(key);
        shared.handle(|front| front.handle_http(shared.now(), admitted, &request, &cached))
    };
    if let Step::Read(unread) = step {
        let cached = shared.read(unread.key()).await;
        step =
            shared.handle(|front| front.handle_http_read(shared.now(), &request, *unread, &cached));
    }
    match step {
        Step::Reply(reply) => reply,
        // There is one key in a request.
        Step::Read(_) => unreachable!("the key of the request has been read"),
        Step::Resolve(lookup) => {
            let result = shared.resolving.wait(Some(lookup.ticket())).await;
            shared.front().handle_http_found(shared.now(), *lookup, result)
        }
        Step::Publish(publication) => publish(shared, *publication).await,
        Step::Dns(request, step) => {
            let reply = shared.answer(step).await;
            shared.front().handle_http_answered(*request, reply.as_deref())
        }
    }
}

/// The body of a request, or as much of it as shows that it is too long; `None` if it does not come.
async fn read(mut body: Incoming) -> Option<Vec<u8>> {
    let whole = async {
        let mut bytes = Vec::new();
        while bytes.len() <= MAX_BODY_LEN {
            let Some(frame) = body.frame().await else { break };
            if let Ok(data) = frame.ok()?.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        Some(bytes)
    };
    let late = async {
        Timer::after(BODY_PATIENCE).await;
        None
    };
    whole.or(late).await
}

async fn publish<B: Backend>(shared: &Shared<B>, publication: Publication) -> Reply {
    let mut pending = Pending { shared, packet: Some(publication.packet().clone()) };
    let result = shared.publish(publication.packet(), publication.cas()).await;
    pending.packet = None;
    shared.front().handle_http_published(publication, result)
}

/// A packet being published, for a client who may go away meanwhile.
struct Pending<'a, B: Backend> {
    shared: &'a Shared<B>,
    packet: Option<SignedPacket>,
}

impl<B: Backend> Drop for Pending<'_, B> {
    fn drop(&mut self) {
        if let Some(packet) = self.packet.take() {
            self.shared.front().abandon(&packet);
        }
    }
}
