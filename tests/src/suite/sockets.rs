//! What the settings over real sockets share: the simulated network on loopback, and a place for
//! state files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use dht_net::{Builder, Runtime};
use dht_proto::seed::Seed;
use dht_testnet::{Cidr, Gateway, Listen};

use super::{Places, Recipe, Terrain};

/// Tells the directories of one process apart.
static LABS: AtomicU32 = AtomicU32::new(0);

/// A simulated network on loopback sockets.
#[derive(Debug)]
pub struct Lab {
    gateway: Option<Gateway>,
    places: Places,
    directory: PathBuf,
}

impl Lab {
    /// Builds the network and runs it.
    #[must_use]
    pub fn open(terrain: &Terrain) -> Self {
        let terrain = terrain.clone();
        let build = move |port| {
            let (world, places) = terrain.build(port);
            (world, None, places)
        };
        let listen = Listen::new(Cidr::LOOPBACK);
        let (gateway, places) = Gateway::start(&listen, build).expect("a gateway");
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("dht-suite-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        Self { gateway: Some(gateway), places, directory }
    }

    /// Who is in it.
    #[must_use]
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// How to build a node of ours.
    #[must_use]
    pub fn builder<R: Runtime>(&self, recipe: &Recipe) -> Builder<R> {
        let bind = (Terrain::client(recipe.number), 0).into();
        Builder::new()
            .no_bootstrap()
            .config(recipe.config())
            .bind(bind)
            .seed(Seed::from_bytes([recipe.number; 32]))
            .state_file(self.directory.join(recipe.number.to_string()))
    }

    /// Stops the network, which must have run until now.
    pub fn close(mut self) {
        let gateway = self.gateway.take().expect("closed once");
        assert!(gateway.is_running(), "the simulated network has ended before its time");
        let stats = gateway.stop().expect("a gateway that did not panic");
        assert!(stats.datagrams_in > 0, "nothing reached the simulated network: {stats:?}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What is left is a few files in the system's directory for such.
        drop(std::fs::remove_dir_all(&self.directory));
    }
}
