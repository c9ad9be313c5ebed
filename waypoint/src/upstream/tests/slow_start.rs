//! An endpoint that joins a service that serves gets its share little by little.

use super::*;
use crate::upstream::balance::pick;

const DRAWS: usize = 4000;

fn address(last: u8) -> SocketAddr {
    ([127, 0, 0, last], 80).into()
}

/// How many of many choices fall on the endpoint.
fn chosen(cluster: &Cluster, address: SocketAddr) -> usize {
    let choices = (0..DRAWS).filter_map(|_| pick(cluster, &[]));
    choices.filter(|endpoint| endpoint.address == address).count()
}

fn with_window(slow_start: Duration) -> Bench {
    Bench::new(UpstreamLimits { slow_start, ..UpstreamLimits::default() })
}

#[tokio::test]
async fn a_new_endpoint_beside_old_ones_is_chosen_seldom_at_first_and_then_as_often() {
    let bench = with_window(Duration::from_secs(600));
    let old = bench.http1(&[address(1)]);
    let both = bench.http1(&[address(1), address(2)]);
    drop(old);
    let share = chosen(&both, address(2));
    assert!((80..320).contains(&share), "{share} of {DRAWS}, where 200 are to be expected");
    // A later snapshot changes nothing of that.
    let share = chosen(&bench.http1(&[address(1), address(2)]), address(2));
    assert!((80..320).contains(&share), "{share} of {DRAWS}");

    let bench = with_window(Duration::from_millis(20));
    let old = bench.http1(&[address(1)]);
    let both = bench.http1(&[address(1), address(2)]);
    drop(old);
    tokio::time::sleep(Duration::from_millis(30)).await;
    let share = chosen(&both, address(2));
    assert!((1800..2200).contains(&share), "{share} of {DRAWS}");
}

#[tokio::test]
async fn endpoints_that_are_all_new_share_alike() {
    let bench = with_window(Duration::from_secs(600));
    let first = bench.http1(&[address(1), address(2)]);
    let share = chosen(&first, address(2));
    assert!((1800..2200).contains(&share), "{share} of {DRAWS}: a new service");
    let replaced = bench.http1(&[address(3), address(4)]);
    let share = chosen(&replaced, address(3));
    assert!((1800..2200).contains(&share), "{share} of {DRAWS}: every endpoint was replaced");
}
