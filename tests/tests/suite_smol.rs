//! The suite through `dht-smol`, over loopback sockets.
#![cfg(target_os = "linux")]

use dht_tests::suite::smol::Smol;

dht_tests::suite!(Smol);
