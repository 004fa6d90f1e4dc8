//! Publishes and resolves PKARR's signed packets: in the DHT, at relays over HTTP, with a cache.
//!
//! The rules are those of [`dht_pkarr`], without I/O; this crate carries out what they ask for. There
//! are two clients of one shape: `smol::Client` has futures, for any executor, and
//! `mio::Client` blocks.
//!
//! Both ask the DHT and all relays at once. Packets are verified, whoever has them, so that a relay
//! can hide a packet but not forge one; the newest counts.
//!
//! ```
//! use dht_pkarr_client::mio::Client;
//! use dht_pkarr_client::pkarr::{Keypair, SignedPacket};
//! use dht_pkarr_client::{Origin, Policy, now};
//! # use dht_mio::{Dht, proto::config::Mode};
//! # let local = || Dht::builder().mode(Mode::Server);
//! # let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
//! # let host = first.local_addrs()[0].to_string();
//!
//! // A node on this machine; `Dht::builder().spawn()` on the internet.
//! let dht = Dht::builder().bind("127.0.0.2:0".parse()?).bootstrap(host).spawn()?;
//! let client = Client::builder().dht(dht).build()?;
//!
//! let keypair = Keypair::from_secret(&[7; 32]); // `Keypair::from_rng` in earnest
//! let packet = SignedPacket::builder().txt("@", "hello", 3_600).sign(&keypair, now())?;
//! let published = client.publish(&packet)?;
//! assert_eq!(published.stored, 1); // there is one node besides
//!
//! let found = client.resolve(&keypair.public_key(), Policy::NetworkOnly)?;
//! assert_eq!((found.packet.packet, found.origin), (packet, Origin::Dht));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The async client differs in `dht_smol::Dht` and `.await`:
//!
//! ```
//! use dht_pkarr_client::{Policy, smol::Client};
//! use dht_pkarr_client::pkarr::resolve::ResolveError;
//!
//! # futures_lite::future::block_on(async {
//! # let first = dht_smol::Dht::builder().mode(dht_smol::proto::config::Mode::Server)
//! #     .bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
//! # let host = first.local_addrs()[0].to_string();
//! let dht = dht_smol::Dht::builder().bind("127.0.0.2:0".parse()?).bootstrap(host).spawn()?;
//! let client = Client::builder().dht(dht).build()?;
//! let key = "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy".parse()?;
//! let error = client.resolve(&key, Policy::CacheFirst).await.unwrap_err();
//! assert_eq!(error.reason, ResolveError::NotFound);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

#[cfg(not(any(feature = "mio", feature = "smol")))]
compile_error!("a client needs the feature `mio` or `smol`");

mod build;
mod busy;
mod cache;
mod clock;
#[cfg(feature = "store")]
mod database;
mod keep_alive;
mod publish;
mod relay;
mod resolve;
#[cfg(feature = "store")]
mod store;

#[cfg(feature = "mio")]
pub mod mio;
#[cfg(feature = "smol")]
pub mod smol;

pub use dht_pkarr as pkarr;
pub use dht_pkarr::resolve::Policy;

pub use build::{BuildError, Builder, DEFAULT_TIMEOUT};
pub use cache::{DEFAULT_CAPACITY, PacketCache};
pub use clock::now;
#[cfg(feature = "store")]
pub use database::StoreError;
pub use keep_alive::{Copies, KeepAlive, KeepAliveError, KeepAliveOptions, Kept};
pub use publish::{PublishError, Published};
pub use relay::{RelayError, http_date, parse_http_date};
pub use resolve::{Origin, ResolveError, Resolved, Trouble};
