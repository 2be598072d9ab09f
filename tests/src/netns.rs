//! Networks of two hosts: a server and a client, each a network namespace, joined by veth pairs.
//!
//! Nothing of it is ever in the machine's own namespace. The client answers for every address of
//! [`Link::sources_v4`] and [`Link::sources_v6`] (a local route, not thousands of addresses), so that any number of
//! sources costs nothing to set up.

mod leftovers;
mod namespace;

pub use leftovers::clean_leftovers;
pub use namespace::Namespace;

use crate::process::Process;
use anyhow::{Context, Result, ensure};
use ipnet::{Ipv4Net, Ipv6Net};
use leftovers::Owner;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::DirBuilder;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a network is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of every link, bytes: 1280 to 65535.
    pub mtu: u32,
    /// How many links join the two hosts: 1 to 100.
    pub links: u8,
    /// Queues of each end of each link: 1 to 64.
    pub queues: u32,
    /// Neighbours are found by ARP and neighbour discovery, which are then seen on the link. Else they are given, and
    /// a link that a test does not use is silent.
    pub resolve: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { mtu: 1500, links: 1, queues: 1, resolve: false }
    }
}

/// Two hosts and the links between them, with a directory and a bpffs of their own. Dropped, all of it is removed,
/// and processes that are left in the namespaces are killed.
#[derive(Debug)]
pub struct Network {
    /// The host that is protected.
    pub server: Namespace,
    /// The host that load comes from.
    pub client: Namespace,
    links: Vec<Link>,
    options: Options,
    // Last: its drop removes what the others live in.
    place: Place,
}

/// One veth pair. Its interface has the same name on both hosts.
#[derive(Clone, Debug)]
pub struct Link {
    number: u8,
    /// The interface's name, on both hosts.
    pub interface: String,
}

impl Link {
    /// The server's hardware address.
    pub fn server_mac(&self) -> [u8; 6] {
        [0x02, 0, 0, 0, self.number, 1]
    }

    /// The client's hardware address.
    pub fn client_mac(&self) -> [u8; 6] {
        [0x02, 0, 0, 0, self.number, 2]
    }

    /// The server's address.
    pub fn server_v4(&self) -> Ipv4Addr {
        self.source_v4(0, 1)
    }

    /// The client's own address.
    pub fn client_v4(&self) -> Ipv4Addr {
        self.source_v4(0, 2)
    }

    /// What the client answers for: all of it but the server's address.
    pub fn sources_v4(&self) -> Ipv4Net {
        Ipv4Net::new_assert(self.source_v4(0, 0), 16)
    }

    /// The address that ends in these two bytes.
    pub fn source_v4(&self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.number, third, fourth)
    }

    /// The server's address.
    pub fn server_v6(&self) -> Ipv6Addr {
        self.source_v6(0, 1)
    }

    /// The client's own address.
    pub fn client_v6(&self) -> Ipv6Addr {
        self.source_v6(0, 2)
    }

    /// What the client answers for: all of it but the server's address.
    pub fn sources_v6(&self) -> Ipv6Net {
        Ipv6Net::new_assert(self.source_v6(0, 0), 32)
    }

    /// Host `host` of the `prefix`-th /64. A socket that binds to it needs `IPV6_FREEBIND`.
    pub fn source_v6(&self, prefix: u32, host: u64) -> Ipv6Addr {
        let head = 0xfd00_u128 << 112 | u128::from(self.number) << 96;
        Ipv6Addr::from(head | u128::from(prefix) << 64 | u128::from(host))
    }
}

impl Network {
    /// Makes a network with one link. `label` tells whose it is, in the names that `ip netns` shows.
    pub fn new(label: &str) -> Result<Network> {
        Network::with(label, &Options::default())
    }

    /// Makes a network. Fails where a command that it needs is refused, with what that command said.
    pub fn with(label: &str, options: &Options) -> Result<Network> {
        static CLEAN: Once = Once::new();
        CLEAN.call_once(clean_leftovers);
        let name = unique_name(label);
        let mut place = Place::new(&name)?;
        let server = place.namespace("server")?;
        let client = place.namespace("client")?;
        for host in [&server, &client] {
            host.run(|| configure_host(options))??;
        }
        let links: Vec<Link> = (0..options.links)
            .map(|index| Link { number: FIRST_NUMBER + index, interface: format!("veth{index}") })
            .collect();
        let network = Network { server, client, links, options: options.clone(), place };
        network.make(&network.links)?;
        Ok(network)
    }

    /// Makes links that are not there: when the network is made, and again where they were deleted.
    pub fn make(&self, links: &[Link]) -> Result<()> {
        let Network { server, client, options, .. } = self;
        ip(server, &links.iter().map(|link| server_side(link, client, options)).collect::<String>())?;
        ip(client, &links.iter().map(|link| client_side(link, options)).collect::<String>())?;
        // Only now are both ends up.
        ip(server, &links.iter().map(server_routes).collect::<String>())
    }

    /// Gives the server's ends again what they lose where they go down: addresses, neighbours and routes.
    pub fn restore(&self) -> Result<()> {
        let lines = |link| {
            server_end(link, &self.options) + &server_routes(link).replace("route add", "route replace")
        };
        ip(&self.server, &self.links.iter().map(lines).collect::<String>())
    }

    /// The first link.
    pub fn link(&self) -> &Link {
        &self.links[0]
    }

    /// Every link.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// A directory of the network's own, removed with it.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// A bpffs of the network's own. It is mounted in the machine's mount namespace, so that a process finds it
    /// whichever network namespace it runs in.
    pub fn bpffs(&self) -> PathBuf {
        self.place.bpffs()
    }

    /// Starts `command` with its output in [`Network::dir`], in a file named after `name`.
    pub fn start(&self, name: &str, command: Command) -> Result<Process> {
        Process::start(command, self.dir().join(format!("{name}.log")))
    }
}

/// The second byte of the first link's IPv4 addresses.
const FIRST_NUMBER: u8 = 77;

/// A name that no other network on the machine has, and that tells whose it is.
fn unique_name(label: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let label: String =
        label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    format!("{}{label}-{}", Owner::this_process().prefix(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What a network leaves outside this process: a directory, a mount, and namespaces.
#[derive(Debug)]
struct Place {
    name: String,
    dir: PathBuf,
    namespaces: Vec<String>,
}

impl Place {
    fn new(name: &str) -> Result<Place> {
        let dir = leftovers::registry()?.join(name);
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.with_context(|| format!("creating {}", dir.display()))?;
        let place = Place { name: name.into(), dir, namespaces: Vec::new() };
        let bpffs = place.bpffs();
        std::fs::create_dir(&bpffs).with_context(|| format!("creating {}", bpffs.display()))?;
        mount(Some("bpffs"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting a bpffs on {}", bpffs.display()))?;
        Ok(place)
    }

    fn bpffs(&self) -> PathBuf {
        self.dir.join(leftovers::BPFFS)
    }

    fn namespace(&mut self, role: &str) -> Result<Namespace> {
        let name = format!("{}-{role}", self.name);
        let namespace = Namespace::create(&name)?;
        self.namespaces.push(name);
        Ok(namespace)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in &self.namespaces {
            leftovers::remove_namespace(name);
        }
        let _ = umount2(&self.bpffs(), MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Settings of the host whose namespace the calling thread is in.
fn configure_host(options: &Options) -> Result<()> {
    ensure!(matches!(options.links, 1..=100), "a network has 1 to 100 links, not {}", options.links);
    for (setting, value) in [
        // A listening socket gets the backlog that it asks for.
        ("net/core/somaxconn", "65535"),
        ("net/ipv4/tcp_max_syn_backlog", "65535"),
        // Addresses are what a test gives, and are usable at once.
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
    ] {
        let path = Path::new("/proc/sys").join(setting);
        // A kernel without IPv6 has none of its settings.
        if path.exists() {
            std::fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))?;
        }
    }
    Ok(())
}

/// Makes the pair and sets up the server's end.
fn server_side(link: &Link, client: &Namespace, options: &Options) -> String {
    let (interface, peer) = (&link.interface, client.name());
    let (server_mac, client_mac) = (mac(link.server_mac()), mac(link.client_mac()));
    let Options { mtu, queues, .. } = options;
    let queues = format!("numtxqueues {queues} numrxqueues {queues}");
    let end = server_end(link, options);
    format!(
        "link set lo up\n\
         link add {interface} address {server_mac} mtu {mtu} {queues} \
           type veth peer name {interface} address {client_mac} mtu {mtu} {queues} netns {peer}\n\
         {end}"
    )
}

fn server_end(link: &Link, options: &Options) -> String {
    end(
        &link.interface,
        (link.server_v4(), link.server_v6()),
        (link.client_v4(), link.client_v6(), &mac(link.client_mac())),
        options.resolve,
    )
}

/// One end of a pair: its addresses, and how it knows the other end.
fn end(
    interface: &str,
    (own_v4, own_v6): (Ipv4Addr, Ipv6Addr),
    (peer_v4, peer_v6, peer_mac): (Ipv4Addr, Ipv6Addr, &str),
    resolve: bool,
) -> String {
    // Neighbour discovery needs a link-local address; without it, none is there to make the interface speak.
    let (arp, addresses) = if resolve { ("on", "eui64") } else { ("off", "none") };
    let mut lines = format!(
        "link set {interface} arp {arp} addrgenmode {addresses} up\n\
         address replace {own_v4}/16 dev {interface} noprefixroute\n\
         address replace {own_v6}/64 dev {interface} nodad noprefixroute\n"
    );
    if !resolve {
        for peer in [IpAddr::from(peer_v4), IpAddr::from(peer_v6)] {
            lines += &format!("neighbour replace {peer} lladdr {peer_mac} dev {interface} nud permanent\n");
        }
    }
    lines
}

/// Sends all sources' answers through the client's own address: one neighbour instead of thousands.
fn server_routes(link: &Link) -> String {
    let interface = &link.interface;
    let (client_v4, client_v6) = (link.client_v4(), link.client_v6());
    format!(
        "route add {client_v4}/32 dev {interface}\n\
         route add {} via {client_v4} dev {interface}\n\
         route add {client_v6}/128 dev {interface}\n\
         route add {} via {client_v6} dev {interface}\n",
        link.sources_v4(),
        link.sources_v6(),
    )
}

/// Sets up the client's end: every source is local, except for the server's address.
fn client_side(link: &Link, options: &Options) -> String {
    let interface = &link.interface;
    let (server_v4, server_v6) = (link.server_v4(), link.server_v6());
    let end = end(
        interface,
        (link.client_v4(), link.client_v6()),
        (server_v4, server_v6, &mac(link.server_mac())),
        options.resolve,
    );
    format!(
        "link set lo up\n\
         {end}\
         route replace local {} dev lo table local\n\
         route add {server_v4}/32 dev {interface} table local\n\
         route replace local {} dev lo table local\n\
         route add {server_v6}/128 dev {interface} table local\n",
        link.sources_v4(),
        link.sources_v6(),
    )
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Runs lines of `ip` inside `host`.
pub fn ip(host: &Namespace, lines: &str) -> Result<()> {
    let mut child = host
        .command("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting `ip`: install iproute2")?;
    child.stdin.take().expect("is piped").write_all(lines.as_bytes()).context("writing to `ip`")?;
    let output = child.wait_with_output().context("waiting for `ip`")?;
    ensure!(
        output.status.success(),
        "`ip -batch` in {} failed: {}\nIt was given:\n{lines}",
        host.name(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests;
