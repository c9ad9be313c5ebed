use super::*;

fn clients(trusted: &str) -> Arc<Clients> {
    let bounds = Bounds { connections_per_address: 2, requests_per_client: 3, requests: 5 };
    let trusted = trusted.split_terminator(',').map(|network| network.parse().unwrap());
    Clients::new(bounds, Arc::new(TrustedHops(trusted.collect())), Refused::default())
}

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

#[test]
fn an_address_has_so_many_connections_and_no_more_until_one_ends() {
    let clients = clients("");
    let first = clients.connect(address(1)).unwrap();
    let _second = clients.connect(address(1)).unwrap();
    assert!(clients.connect(address(1)).is_none());
    assert!(clients.connect(address(2)).is_some(), "another address");
    drop(first);
    assert!(clients.connect(address(1)).is_some());
}

#[test]
fn a_network_of_ipv6_is_one_client() {
    let clients = clients("");
    let connect = |address: &str| clients.connect(address.parse().unwrap());
    let _held = [connect("2001:db8::1").unwrap(), connect("2001:db8::2:0:0:1").unwrap()];
    assert!(connect("2001:db8::3").is_none());
    assert!(connect("2001:db8:0:1::3").is_some(), "another network");
    assert!(connect("::ffff:10.0.0.1").is_some(), "IPv4");
}

#[test]
fn requests_of_all_connections_of_a_client_count_together_and_those_of_all_clients_too() {
    let clients = clients("");
    let (one, same) = (clients.connect(address(1)).unwrap(), clients.connect(address(1)).unwrap());
    let other = clients.connect(address(2)).unwrap();
    let mut running = vec![one.begin().unwrap(), same.begin().unwrap(), one.begin().unwrap()];
    assert!(matches!(same.begin(), Err(RequestError::ClientRequestsMax)));
    running.extend([other.begin().unwrap(), other.begin().unwrap()]);
    assert!(matches!(other.begin(), Err(RequestError::RequestsMax)));
    assert_eq!(clients.running(), 5, "what was refused takes no place");
    running.pop();
    assert!(other.begin().is_ok());
    drop(running);
    assert_eq!(clients.running(), 0);
}

#[test]
fn a_principal_is_one_client_from_wherever_it_connects() {
    let clients = clients("");
    let cart = Arc::from("spiffe://cluster.local/ns/shop/sa/cart");
    let (one, two) = (clients.named(&cart).unwrap(), clients.named(&cart).unwrap());
    let _running = [one.begin().unwrap(), two.begin().unwrap(), one.begin().unwrap()];
    assert!(matches!(two.begin(), Err(RequestError::ClientRequestsMax)));
}

#[test]
fn an_open_connection_counts_once_whoever_has_it_and_a_refused_one_never() {
    let clients = clients("10.0.1.0/24");
    let cart = Arc::from("spiffe://cluster.local/ns/shop/sa/cart");
    let held = [clients.connect(address(1)), clients.connect(address(1)), clients.named(&cart)];
    assert!(clients.connect(address(1)).is_none());
    let hop = clients.connect([10, 0, 1, 1].into());
    assert_eq!(clients.open(), 3);
    drop(hop);
    assert_eq!(clients.open(), 2);
    drop(held);
    assert_eq!(clients.open(), 0);
}

#[test]
fn a_trusted_hop_stands_for_many_and_only_the_whole_bounds_it() {
    let clients = clients("10.0.0.0/24");
    let held: Vec<_> = (0..9).map(|_| clients.connect(address(1)).unwrap()).collect();
    let running: Vec<_> = held.iter().take(5).map(|held| held.begin().unwrap()).collect();
    assert!(matches!(held[0].begin(), Err(RequestError::RequestsMax)));
    drop(running);
}

#[test]
fn a_client_is_forgotten_with_its_last_connection() {
    let clients = clients("");
    let held: Vec<_> = (0..200).filter_map(|last| clients.connect(address(last))).collect();
    assert_eq!(clients.held(), 200);
    // Refused ones leave nothing behind.
    let _open = [clients.connect(address(0)), clients.connect(address(0))];
    drop(held);
    assert_eq!(clients.held(), 1);
}
