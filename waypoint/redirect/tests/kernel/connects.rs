//! Where a connect goes, and what the socket says afterwards.

use std::net::SocketAddr;

use crate::place::{Place, entry, server, table};

fn mapped(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V4(v4) = address else { panic!("{address} is not IPv4") };
    SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
}

#[test]
fn a_connect_to_an_entry_reaches_the_waypoint_and_names_the_service() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let service = server("127.0.1.1:0", "direct");
    let waypoint = server("127.0.1.2:0", "waypoint");
    let service6 = server("[::1]:0", "direct6");
    let waypoint6 = server("[::1]:0", "waypoint6");
    assert_eq!(client.connect(service).0, "direct");

    let entries =
        [(service, entry(&[waypoint, waypoint6])), (service6, entry(&[waypoint, waypoint6]))];
    let applied = redirect.apply(&table(&entries)).unwrap();
    assert_eq!((applied.entries, applied.targets_left_out), (2, 2));

    for (to, name) in
        [(service, "waypoint"), (mapped(service), "waypoint"), (service6, "waypoint6")]
    {
        assert_eq!(client.connect(to), (name.to_owned(), to.to_string()));
    }
}
