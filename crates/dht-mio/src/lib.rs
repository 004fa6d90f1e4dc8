//! A blocking Mainline DHT node on mio.
