//! The same scenario, node included, under one executor after the other.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use core::net::SocketAddr;
use core::time::Duration;

use async_io::Timer;
use dht_smol::proto::request::AnnouncePort;
use dht_smol::{Dht, EventLoop};
use futures_lite::{StreamExt, future};
use support::*;

/// Two nodes that nobody runs yet.
fn two() -> ([EventLoop; 2], [Dht; 2]) {
    let (first, node) = builder().build().unwrap();
    let (second, other) = knowing(&[&first]).build().unwrap();
    ([node, other], [first, second])
}

/// Everything that a node waits for: sockets, timers, handles, streams, the end.
async fn use_them([first, second]: [Dht; 2]) {
    let info_hash = hash("executor");
    let outcome = second.announce(info_hash, AnnouncePort::Explicit(1_234), false).await.unwrap();
    assert_eq!(outcome.stored, 1);
    let peers: Vec<_> = first.get_peers(info_hash).collect().await;
    assert!(peers.is_empty() || peers == [SocketAddr::new(addr(&second).ip(), 1_234)]);
    let peers: Vec<_> = second.get_peers(info_hash).collect().await;
    assert_eq!(peers, [SocketAddr::new(addr(&second).ip(), 1_234)]);

    let (_socket, nobody) = silent();
    let limit = async {
        Timer::after(Duration::from_millis(10)).await;
        true
    };
    let ping = async { first.ping(nobody).await.is_err() };
    assert!(future::or(ping, limit).await);
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

/// All in one task.
async fn all_in_one() {
    let ([node, other], handles) = two();
    let ((first, second), ()) = future::zip(future::zip(node, other), use_them(handles)).await;
    first.and(second).unwrap();
}

#[test]
fn futures_lite_block_on() {
    future::block_on(all_in_one());
}

#[test]
fn async_io_block_on() {
    async_io::block_on(all_in_one());
}

#[test]
fn pollster_block_on() {
    pollster::block_on(all_in_one());
}

#[test]
fn the_executor_of_smol() {
    let ([node, other], handles) = two();
    let nodes = [node, other].map(smol::spawn);
    smol::block_on(async {
        use_them(handles).await;
        for node in nodes {
            node.await.unwrap();
        }
    });
}

#[test]
fn async_executor_with_several_threads() {
    let executor = async_executor::Executor::new();
    let (stop, stopped) = async_channel::bounded::<()>(1);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| future::block_on(executor.run(stopped.recv())));
        }
        let ([node, other], handles) = two();
        let nodes = [node, other].map(|node| executor.spawn(node));
        future::block_on(async {
            use_them(handles).await;
            for node in nodes {
                node.await.unwrap();
            }
        });
        drop(stop);
    });
}

#[test]
fn tokio_with_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let ([node, other], handles) = two();
        let nodes = [node, other].map(tokio::spawn);
        use_them(handles).await;
        for node in nodes {
            node.await.unwrap().unwrap();
        }
    });
}
