//! The suite through `dht-mio`, over loopback sockets.
#![cfg(target_os = "linux")]

use dht_tests::suite::mio::Mio;

dht_tests::suite!(Mio);
