//! What the tables and devices are: `show ports`, `show routes`, `show neighbors`.

use crate::config::Config;
use forwarder::dpdk::Port;
use forwarder::table::{InterfaceId, Mac, RouteTarget, Spec};
use serde_json::{Map, Value, json};

/// Every port with its device and what that counted.
pub(crate) fn ports(config: &Config, ports: &[Port]) -> Value {
    let entry = |(configured, port): (&crate::config::Port, &Port)| {
        let (link, stats) = (port.link(), port.stats());
        json!({
            "name": configured.name,
            "device": configured.device,
            "description": port.description(),
            "mac": mac(configured.mac.unwrap_or(port.mac())),
            "mtu": configured.mtu,
            "rx_queues": port.rx_queues(),
            "spreading": port.spreading().by.to_string(),
            "link": if link.up { "up" } else { "down" },
            "mbps": link.mbps,
            "full_duplex": link.full_duplex,
            "rx_packets": stats.rx_packets,
            "rx_bytes": stats.rx_bytes,
            "rx_missed": stats.rx_missed,
            "rx_errors": stats.rx_errors,
            "rx_no_buffer": stats.rx_no_buffer,
            "tx_packets": stats.tx_packets,
            "tx_bytes": stats.tx_bytes,
            "tx_errors": stats.tx_errors,
        })
    };
    config.ports.iter().zip(ports).map(entry).collect()
}

/// What spreads each port's packets over the workers, and why that, by the port's name.
pub(crate) fn spreading(config: &Config, ports: &[Port]) -> Value {
    let entry = |(configured, port): (&crate::config::Port, &Port)| {
        let spreading = port.spreading();
        (configured.name.clone(), json!({ "by": spreading.by.to_string(), "why": spreading.why }))
    };
    config.ports.iter().zip(ports).map(entry).collect::<Map<String, Value>>().into()
}

/// Every route: the networks of the box's own addresses, then those of the configuration.
pub(crate) fn routes(spec: &Spec) -> Value {
    let connected = |prefix: String, key: &str, name: &str| json!({ "prefix": prefix, key: name, "priority": 0, "weight": 1, "origin": "connected" });
    let interfaces = spec.interfaces.iter().flat_map(|interface| {
        interface.addresses.iter().map(|net| connected(net.trunc().to_string(), "interface", &interface.name))
    });
    let tunnels = spec.tunnels.iter().flat_map(|tunnel| {
        tunnel.addresses.iter().map(|net| connected(net.trunc().to_string(), "tunnel", &tunnel.name))
    });
    let configured = spec.routes.iter().map(|route| {
        let mut entry = Map::new();
        entry.insert("prefix".into(), route.prefix.to_string().into());
        match &route.target {
            RouteTarget::Gateway { address, interface } => {
                entry.insert("gateway".into(), address.to_string().into());
                entry.insert("interface".into(), interface_name(spec, *interface).into());
            }
            RouteTarget::Interface(interface) => {
                entry.insert("interface".into(), interface_name(spec, *interface).into());
            }
            RouteTarget::Tunnel(tunnel) => {
                let tunnel = spec.tunnels.get(tunnel.0 as usize);
                entry.insert("tunnel".into(), tunnel.map(|tunnel| tunnel.name.as_str()).into());
            }
        }
        entry.insert("priority".into(), route.priority.into());
        entry.insert("weight".into(), route.weight.into());
        entry.insert("origin".into(), "static".into());
        entry.into()
    });
    interfaces.chain(tunnels).chain(configured).collect()
}

/// Every neighbour.
pub(crate) fn neighbors(spec: &Spec) -> Value {
    let entry = |neighbor: &forwarder::table::NeighborSpec| {
        json!({
            "interface": interface_name(spec, neighbor.interface),
            "address": neighbor.address.to_string(),
            "mac": mac(neighbor.mac),
            "state": "static",
        })
    };
    spec.neighbors.iter().map(entry).collect()
}

/// An Ethernet address in its usual text form.
pub(crate) fn mac(mac: Mac) -> String {
    mac.0.map(|byte| format!("{byte:02x}")).join(":")
}

fn interface_name(spec: &Spec, id: InterfaceId) -> Option<&str> {
    spec.interfaces.get(usize::from(id.0)).map(|interface| interface.name.as_str())
}
