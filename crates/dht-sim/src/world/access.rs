//! What hosts are behind.

use std::net::IpAddr;
use std::sync::Arc;

use dht_proto::Networks;
use dht_proto::addr::Family;
use dht_proto::config::{Config, Mode};
use dht_proto::time::Instant;

use super::{HostId, World};
use crate::host::Clock;
use crate::profile::Nat;

impl World {
    /// Puts a host behind what the profile draws for it, and has its nodes be clients (BEP 43) if they
    /// know that nobody reaches them.
    pub fn draw_access(&mut self, host: HostId) {
        let (nat, is_read_only) = self.net.draw_nat(&mut self.choices);
        if let Some(nat) = nat {
            self.put_behind(host, &nat);
        }
        self.net.set_read_only(host, is_read_only);
    }

    /// Puts a host behind a NAT or firewall that knows nothing of it yet. One that hosts share takes
    /// the next free address for itself once for all of them; if none is left the host gets one of
    /// its own.
    pub fn put_behind(&mut self, host: HostId, nat: &Nat) {
        let addrs = self.addrs(host);
        let shares = nat.mapping.is_some() && nat.sharing > 1 && addrs.v4.is_some();
        let site = if shares { self.site_for(nat) } else { None };
        self.net.guard(host, addrs, nat, site);
        self.set_guarded(host, true);
    }

    /// Takes away whatever stands before a host.
    pub fn expose(&mut self, host: HostId) {
        self.net.expose(host);
        self.set_guarded(host, false);
    }

    fn set_guarded(&mut self, host: HostId, is_guarded: bool) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        entry.guarded = is_guarded;
        self.book.enter(host, &self.hosts.addrs(host), is_guarded);
    }

    fn site_for(&mut self, nat: &Nat) -> Option<u32> {
        if let Some(site) = self.net.site_with_room(nat) {
            return Some(site);
        }
        let number = self.book.next_number()?;
        let IpAddr::V4(external) = self.book.plan().v4(number).ip() else { return None };
        let site = self.net.add_site(nat, external);
        self.book.enter_site(number, site);
        Some(site)
    }

    /// The address under which others see a host.
    #[must_use]
    pub fn external(&self, host: HostId, family: Family) -> Option<IpAddr> {
        self.net.external(host, &self.addrs(host), family)
    }

    /// Addresses that nobody had yet.
    #[must_use]
    pub const fn addresses_left(&self) -> u64 {
        self.book.left()
    }

    /// The same configuration for a client; made once for nodes that share theirs.
    fn read_only(&mut self, config: &Arc<Config>) -> Arc<Config> {
        match &self.read_only {
            Some((from, made)) if Arc::ptr_eq(from, config) => made.clone(),
            Some(_) | None => {
                let mut client = Config::clone(config);
                client.mode = Mode::Client;
                let made = Arc::new(client);
                self.read_only = Some((config.clone(), made.clone()));
                made
            }
        }
    }

    /// A node's configuration at a host, which may know that nobody reaches it.
    pub(crate) fn config_for(&mut self, host: HostId, config: &Arc<Config>) -> Arc<Config> {
        if self.net.is_read_only(host) { self.read_only(config) } else { config.clone() }
    }

    /// The time on a host's clock.
    #[must_use]
    pub fn local_time(&self, host: HostId) -> Instant {
        self.hosts.clock(host).local(self.now)
    }

    /// A host's clock.
    #[must_use]
    pub fn clock(&self, host: HostId) -> Clock {
        self.hosts.clock(host)
    }

    /// The networks that a host has addresses in.
    pub(crate) fn networks(&self, host: HostId) -> Networks {
        let addrs = self.addrs(host);
        match (addrs.v4.is_some(), addrs.v6.is_some()) {
            (true, true) => Networks::Both,
            (false, true) => Networks::V6,
            (_, false) => Networks::V4,
        }
    }
}
