//! Where a connect goes, and what the socket says afterwards.

use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};
use waypoint_redirect::{State, Unready};

use crate::place::{Place, entry, server, table, target};

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

#[test]
fn a_socket_whose_connect_failed_is_redirected_again_and_names_the_service() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let service = server("127.0.1.1:0", "direct");
    let waypoint = server("127.0.1.2:0", "waypoint");
    redirect.apply(&table(&[(service, entry(&[closed()]))])).unwrap();
    client.ask("socket a v4 tcp");
    assert_eq!(client.ask(format!("connect a {service}")), "ECONNREFUSED");

    redirect.apply(&table(&[(service, entry(&[waypoint]))])).unwrap();
    assert_eq!(client.ask(format!("connect a {service}")), "ok");
    assert_eq!(client.ask("read a"), "waypoint");
    assert_eq!(client.ask("peer a"), service.to_string());
}

#[test]
fn a_socket_that_is_connected_to_something_else_after_af_unspec_names_that() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let service = server("127.0.1.1:0", "direct");
    let waypoint = server("127.0.1.2:0", "waypoint");
    let other = server("127.0.1.3:0", "other");
    redirect.apply(&table(&[(service, entry(&[waypoint]))])).unwrap();
    client.ask("socket a v4 tcp");
    // The last one goes to the waypoint itself, in nobody's name.
    let journey =
        [(service, "waypoint"), (other, "other"), (service, "waypoint"), (waypoint, "waypoint")];
    for (to, name) in journey {
        assert_eq!(client.ask(format!("connect a {to}")), "ok");
        assert_eq!(client.ask("read a"), name);
        assert_eq!(client.ask("peer a"), to.to_string());
        assert_eq!(client.ask("unspec a"), "ok");
        assert_eq!(client.ask("peer a"), "ENOTCONN");
    }
}

#[test]
fn a_connect_that_does_not_wait_is_redirected_once_and_names_the_service() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let service = server("127.0.1.1:0", "direct");
    // One that has no room for a further connection: the connect hangs.
    let (listener, full, _waiting) = full_listener();
    let waypoint = server("127.0.1.2:0", "waypoint");
    redirect.apply(&table(&[(service, entry(&[full]))])).unwrap();
    client.ask("socket a v4 tcp nonblocking");
    assert_eq!(client.ask(format!("connect a {service}")), "EINPROGRESS");
    redirect.apply(&table(&[(service, entry(&[waypoint]))])).unwrap();
    assert_eq!(client.ask(format!("connect a {service}")), "EALREADY");

    let accepted: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
    assert_eq!(client.ask("wait a"), "ok");
    assert_eq!(client.ask("peer a"), service.to_string());
    assert_eq!(accepted.len(), 3, "the connect that hung went where it had begun");
    // Linux says once that the connect is through, then that it was.
    assert_eq!(client.ask(format!("connect a {service}")), "ok");
    assert_eq!(client.ask(format!("connect a {service}")), "EISCONN");
    assert_eq!(client.ask("peer a"), service.to_string());

    client.ask("socket b v6 tcp nonblocking");
    let to = mapped(service);
    assert_eq!(client.ask(format!("connect b {to}")), "EINPROGRESS");
    assert_eq!(client.ask("wait b"), "ok");
    assert_eq!(client.ask("peer b"), to.to_string());
}

#[test]
fn udp_is_left_alone_unless_the_entry_refuses_it() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let socket = UdpSocket::bind("127.0.1.1:0").unwrap();
    let socket6 = UdpSocket::bind("[::1]:0").unwrap();
    let (v4, v6) = (socket.local_addr().unwrap(), socket6.local_addr().unwrap());
    let waypoint = server("127.0.1.2:0", "waypoint");
    let families = [("v4", v4), ("v6", v6), ("v6", mapped(v4))];
    for refuse in [false, true] {
        let mut one = entry(&[waypoint]);
        one.refuse_udp = refuse;
        redirect.apply(&table(&[(v4, one.clone()), (v6, one)])).unwrap();
        let expected = if refuse { "ECONNREFUSED" } else { "ok" };
        for (family, to) in families {
            client.ask(format!("socket sent {family} udp"));
            assert_eq!(client.ask(format!("sendto sent {to}")), expected, "to {to}");
            client.ask(format!("socket connected {family} udp"));
            assert_eq!(client.ask(format!("connect connected {to}")), expected, "to {to}");
            let peer = if refuse { "ENOTCONN".to_owned() } else { to.to_string() };
            assert_eq!(client.ask("peer connected"), peer);
        }
    }
    for socket in [(&socket, 2), (&socket6, 1)] {
        for _ in 0..socket.1 {
            let mut datagram = [0; 16];
            assert_eq!(socket.0.recv(&mut datagram).unwrap(), 8);
        }
    }
    let totals = State::read(&place.pins).unwrap().totals;
    assert_eq!(totals.refused_udp, 6);
}

#[test]
fn without_a_ready_target_an_entry_refuses_or_goes_direct_and_a_miss_always_goes_direct() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let refusing = server("127.0.1.1:0", "refusing");
    let open = server("127.0.1.1:0", "open");
    let missing = server("127.0.1.1:0", "missing");
    let six = server("[::1]:0", "six");
    let mut direct = entry(&[]);
    direct.unready = Unready::Direct;
    let mut weightless = entry(&[server("127.0.1.2:0", "waypoint")]);
    weightless.targets[0].weight = 0;
    let entries = [(refusing, weightless), (open, direct), (six, entry(&[]))];
    redirect.apply(&table(&entries)).unwrap();

    assert_eq!(client.connect(refusing).0, "ECONNREFUSED");
    assert_eq!(client.connect(mapped(refusing)).0, "ECONNREFUSED");
    assert_eq!(client.connect(six).0, "ECONNREFUSED");
    assert_eq!(client.connect(open), ("open".to_owned(), open.to_string()));
    assert_eq!(client.connect(missing), ("missing".to_owned(), missing.to_string()));
    // The same address with another port is another service port.
    assert_eq!(client.connect(SocketAddr::new(refusing.ip(), missing.port())).0, "missing");

    let state = State::read(&place.pins).unwrap();
    let totals = state.totals;
    assert_eq!((totals.refused, totals.direct, totals.missed), (3, 1, 2));
    let counters = |address| {
        let entry = state.entries.iter().find(|entry| entry.address == address);
        entry.unwrap().counters.unwrap()
    };
    assert_eq!((counters(refusing).refused, counters(open).direct), (2, 1));
    assert_eq!((counters(six).refused, counters(six).redirected), (1, 0));
}

#[test]
fn targets_are_chosen_by_their_weights() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let service = server("127.0.1.1:0", "direct");
    let heavy = server("127.0.1.2:0", "heavy");
    let light = server("127.0.1.3:0", "light");
    let none = server("127.0.1.4:0", "none");
    let mut one = entry(&[]);
    one.targets = vec![target(light, 100), target(none, 0), target(heavy, 300)];
    redirect.apply(&table(&[(service, one)])).unwrap();
    let mut heavies = 0;
    for _ in 0..2000 {
        match client.connect(service).0.as_str() {
            "heavy" => heavies += 1,
            "light" => {}
            other => panic!("{other} answered"),
        }
    }
    // 1,500 expected; ten standard deviations are 194.
    assert!((1306..1694).contains(&heavies), "{heavies} of 2000");
    let state = State::read(&place.pins).unwrap();
    assert_eq!(state.entries[0].counters.unwrap().redirected, 2000);
    assert_eq!(state.totals.redirected, 2000);
}

#[test]
fn an_ipv6_service_reaches_waypoints_that_have_ipv4_only() {
    let Some(place) = Place::new() else { return };
    let mut redirect = place.open();
    let mut client = place.client();
    let service = server("[::1]:0", "direct");
    let waypoint = server("127.0.1.2:0", "waypoint");
    redirect.apply(&table(&[(service, entry(&[waypoint]))])).unwrap();
    let named = ("waypoint".to_owned(), service.to_string());
    assert_eq!(client.connect(service), named);
}

/// An address where nothing listens.
fn closed() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.1.9:0").unwrap();
    listener.local_addr().unwrap()
}

/// A listener whose queue is full, and the connections in it.
fn full_listener() -> (Socket, SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.1.8:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let connection = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.connect(&address.into()).unwrap();
        socket
    };
    // Linux takes one more than was asked for.
    (listener, address, vec![connection(), connection()])
}
