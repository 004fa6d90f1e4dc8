//! Network namespaces in which ranges of public addresses are simulated nodes, and nothing else is.
//!
//! Programs that are left to their default settings use neither `lo` nor addresses of it: libtorrent
//! even ties its sockets to an interface. So [`enter`] makes two namespaces with a cable between them.
//! In one are the programs, with an interface and a default route; in the other are the addresses of
//! all nodes, and the gateway's sockets. Nothing leaves either.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::process::{Command, id};
use std::sync::Arc;
use std::thread;

use dht_proto::addr::Family;
use nix::sched::{CloneFlags, setns, unshare};

use crate::{Error, Listen, cidr};

/// The other end of the cable, as programs see it: where their default route leads to.
const FAR_END: [&str; 2] = ["169.254.0.1", "fe80::1"];

/// A network namespace: that of the nodes.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// Makes one and moves the calling thread there.
    fn new() -> io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(Self(Arc::new(File::open("/proc/thread-self/ns/net")?)))
    }

    /// Runs something in it, on another thread.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let inside = || {
            setns(&*self.0, CloneFlags::CLONE_NEWNET).map_err(|e| Error::System(e.into()))?;
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join().map_err(|_| Error::Ended)?)
    }
}

/// Moves the calling thread, and all that it starts from now on, into a network of real programs, and
/// returns that of the nodes, for [`Listen::namespace`]. Without the means to connect the two there is
/// but one network, with only `lo`, and nothing is returned.
///
/// Call it on the main thread before any other is started: the namespace of a process that others
/// enter by its number is that of its main thread.
///
/// # Errors
/// Without the permission to make a namespace (`CAP_SYS_ADMIN`), or without the command `ip`.
pub fn enter(listen: &Listen) -> Result<Option<Namespace>, Error> {
    let refused = |error| Error::NoNamespace { listen: listen.clone(), error };
    let must = |command: &String| {
        run(command).map_err(|why| {
            let (listen, command) = (listen.clone(), command.clone());
            Error::Command { listen, command, why }
        })
    };
    let nodes = Namespace::new().map_err(refused)?;
    must(&LOOPBACK.to_owned())?;
    Namespace::new().map_err(refused)?;
    must(&LOOPBACK.to_owned())?;
    let there = format!("/proc/{}/fd/{}", id(), nodes.0.as_raw_fd());
    if run(&format!("ip link add dht0 type veth peer name dht1 netns {there}")).is_err() {
        on_loopback(listen).iter().try_for_each(must)?;
        return Ok(None);
    }
    nodes.run(|| of_nodes(listen).iter().try_for_each(must))?;
    of_programs(listen).iter().try_for_each(must)?;
    Ok(Some(nodes))
}

/// Commands that make a network by hand, as root, with only `lo`: the first opens a shell in it, the
/// others are for that shell.
#[must_use]
pub fn commands(listen: &Listen) -> Vec<String> {
    let first = ["unshare --net bash", LOOPBACK].map(str::to_owned);
    first.into_iter().chain(on_loopback(listen)).collect()
}

const LOOPBACK: &str = "ip link set lo up";

/// An address of the loopback interface makes its whole IPv4 network local, and is the source of
/// whatever is sent there. IPv6 has to be told of both.
fn on_loopback(listen: &Listen) -> Vec<String> {
    let mut commands = Vec::new();
    if listen.speaks(Family::V4) {
        let (ip, prefix) = (listen.range.first_client(), listen.range.prefix());
        commands.push(format!("ip address add {ip}/{prefix} dev lo"));
    }
    if listen.speaks(Family::V6) {
        let (range, ip) = (cidr::network_v6(), cidr::first_client_v6());
        commands.push(format!("ip address add {ip}/128 dev lo nodad"));
        commands.push(format!("ip -6 route add local {range} dev lo src {ip}"));
    }
    commands
}

/// Where the nodes are: the ranges are local, but for the addresses of programs.
fn of_nodes(listen: &Listen) -> Vec<String> {
    let [far_v4, far_v6] = FAR_END;
    let mut commands = vec!["ip link set dht1 up".to_owned()];
    if listen.speaks(Family::V4) {
        let (range, programs) = (listen.range, listen.range.clients());
        commands.push(format!("ip address add {far_v4}/32 dev dht1"));
        commands.push(format!("ip route add local {range} dev lo"));
        commands.push(format!("ip route add {programs} dev dht1 table local"));
    }
    if listen.speaks(Family::V6) {
        let (range, programs) = (cidr::network_v6(), cidr::first_client_v6());
        commands.push(format!("ip address add {far_v6}/64 dev dht1 nodad"));
        commands.push(format!("ip -6 route add local {range} dev lo"));
        commands.push(format!("ip -6 route add {programs}/64 dev dht1 table local"));
    }
    commands
}

/// Where programs are: the first addresses are theirs, and all others behind the cable.
fn of_programs(listen: &Listen) -> Vec<String> {
    let [far_v4, far_v6] = FAR_END;
    let mut commands = vec!["ip link set dht0 up".to_owned()];
    if listen.speaks(Family::V4) {
        let (ip, programs) = (listen.range.first_client(), listen.range.clients());
        commands.push(format!("ip address add {ip}/32 dev dht0"));
        commands.push(format!("ip route add local {programs} dev lo src {ip}"));
        commands.push(format!("ip route add default via {far_v4} dev dht0 onlink"));
    }
    if listen.speaks(Family::V6) {
        let ip = cidr::first_client_v6();
        commands.push(format!("ip address add {ip}/128 dev dht0 nodad"));
        commands.push(format!("ip -6 route add default via {far_v6} dev dht0"));
    }
    commands
}

/// Runs a command of the system, or tells why not.
fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
