//! The suite inside the simulator.

use dht_tests::suite::inside::Inside;

dht_tests::suite!(Inside);
