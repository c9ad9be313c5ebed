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

/// A connection of this client begins so many streams and resets as many; it ends with the answer.
fn resets(clients: &Arc<Clients>, last: u8, streams: u32) -> bool {
    let held = clients.connect(address(last)).unwrap();
    (0..streams).for_each(|_| held.stream_begins());
    held.may_reset(streams)
}

#[tokio::test(start_paused = true)]
async fn resets_of_all_connections_of_a_client_count_together_also_when_it_was_gone_between() {
    let clients = clients("");
    let half = CLIENT_RESETS_MAX / 2;
    assert!(resets(&clients, 1, half) && resets(&clients, 1, half));
    assert_eq!(clients.held(), 1, "it is remembered");
    assert!(!resets(&clients, 1, 1));
    assert!(resets(&clients, 2, 1), "another client");
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    assert!(resets(&clients, 1, 1), "another period");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_resets_fewer_than_half_of_its_streams_may_reset_as_many_as_it_likes() {
    let clients = clients("");
    let (one, other) = (clients.connect(address(1)).unwrap(), clients.connect(address(1)).unwrap());
    (0..10 * CLIENT_RESETS_MAX).for_each(|_| one.stream_begins());
    assert!(other.may_reset(5 * CLIENT_RESETS_MAX));
    assert!(!other.may_reset(1));
}

#[tokio::test(start_paused = true)]
async fn who_has_reset_streams_is_remembered_for_a_period_and_no_longer() {
    let clients = clients("");
    resets(&clients, 1, 1);
    resets(&clients, 2, 0);
    assert_eq!(clients.held(), 1, "who has reset nothing is forgotten at once");
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    resets(&clients, 1, 1);
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    drop(clients.connect(address(3)));
    assert_eq!(clients.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn so_many_clients_are_remembered_and_no_more() {
    let clients = clients("");
    for number in 0..=REMEMBERED_MAX {
        let [_, _, high, low] = u32::try_from(number).unwrap().to_be_bytes();
        let held = clients.connect([10, 1, high, low].into()).unwrap();
        assert!(held.may_reset(1));
    }
    assert_eq!(clients.held(), REMEMBERED_MAX);
}

#[test]
fn a_trusted_hop_may_reset_what_it_likes() {
    let clients = clients("10.0.0.0/24");
    assert!(resets(&clients, 1, 2 * CLIENT_RESETS_MAX));
}
